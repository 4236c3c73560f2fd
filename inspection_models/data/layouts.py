"""Which layout a directory has, and reading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from inspection_models.data import (
    casting,
    coco,
    csv_list,
    dagm,
    deep_pcb,
    elpv,
    gc10_det,
    image_folder,
    label_studio,
    magnetic_tile,
    mvtec_ad,
    neu_cls,
    neu_det,
    severstal,
    visa,
    voc,
    yolo,
)
from inspection_models.data.dataset import Dataset, DatasetError, make_dataset
from inspection_models.data.files import files_below, files_with, folders_in, is_image, some
from inspection_models.data.json_files import JsonError, load_json
from inspection_models.data.kolektor import KolektorSdd, KolektorSdd2
from inspection_models.data.photographs import look_at_all
from inspection_models.data.twins import with_twins
from inspection_models.images import DEFAULT_MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from inspection_models.data.reading import Reading


class Layout(Protocol):
    """How one layout is told and read."""

    def fits(self, root: Path) -> bool:
        """Whether a directory looks like this layout."""

    def read(self, root: Path) -> Reading:
        """Its samples."""


# A published set is told by names that no other has; a format of annotations by its files; and where neither is there,
# folders are classes.
_SETS: dict[str, Layout] = {
    "casting": casting,
    "dagm": dagm,
    "deep-pcb": deep_pcb,
    "elpv": elpv,
    "gc10-det": gc10_det,
    "kolektor-sdd": KolektorSdd(),
    "kolektor-sdd2": KolektorSdd2(),
    "magnetic-tile": magnetic_tile,
    "mvtec-ad": mvtec_ad,
    "neu-cls": neu_cls,
    "neu-det": neu_det,
    "severstal": severstal,
    "visa": visa,
}
_FORMATS: dict[str, Layout] = {
    "coco": coco,
    "csv": csv_list,
    "label-studio": label_studio,
    "voc": voc,
    "yolo": yolo,
}
_FOLDERS: dict[str, Layout] = {"image-folder": image_folder}
_LAYOUTS = {**_SETS, **_FORMATS, **_FOLDERS}
LAYOUTS = tuple(sorted(_LAYOUTS))
_DEEPEST = 5


def load_dataset(
    root: Path,
    *,
    layout: str | None = None,
    good_class: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Dataset:
    """Read a data set, look at all its photographs, and put twins among them into one group.

    Where a directory holds nothing but one other directory, as unpacked archives often do, that one is read.

    Args:
        root: its directory.
        layout: one of `LAYOUTS`; None recognises it.
        good_class: overrides the recognition of the good class by its name; an empty string says there is none.
        max_pixels: the largest width x height of a photograph.
        progress: called with (photographs looked at, photographs there are).

    Raises:
        DatasetError: no directory, no or no single layout recognised, or files missing, damaged or contradicting
            each other, which are named.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is not a directory; give the directory that holds the data set")
    if layout is not None and layout not in _LAYOUTS:
        raise DatasetError(f"there is no layout {layout!r}; use one of {', '.join(LAYOUTS)}")
    name, base, notes = _recognise(root, layout)
    reading = _LAYOUTS[name].read(base)
    known = reading.used | {sample.path for sample in reading.samples}
    ignored = [path for path in files_below(root) if path not in known]
    if photographs := [path.relative_to(root).as_posix() for path in ignored if is_image(path)]:
        notes.append(f"{len(photographs)} images are no part of the layout and are left out: {some(photographs)}")
    dataset = make_dataset(
        root,
        reading.samples,
        name,
        good_class=good_class,
        ignored=[path.relative_to(root).as_posix() for path in ignored],
        notes=(*notes, *reading.notes),
    )
    return with_twins(dataset, look_at_all(dataset.samples, max_pixels=max_pixels, progress=progress))


def _recognise(root: Path, stated: str | None) -> tuple[str, Path, list[str]]:
    """The layout's name, the directory where it begins, and what to say about it."""
    base = root
    for _ in range(_DEEPEST):
        for layouts in (_SETS, _FORMATS, _FOLDERS):
            fitting = [name for name, layout in layouts.items() if stated in (None, name) and layout.fits(base)]
            if len(fitting) > 1:
                raise DatasetError(f"{base} could be {' or '.join(fitting)}; say which layout it is (--layout)")
            if fitting:
                return fitting[0], base, _doubts(base, fitting[0], stated)
        inner = folders_in(base)
        if len(inner) != 1 or any(is_image(path) for path in base.iterdir()):
            break
        base = inner[0]
    if stated is not None:
        return stated, root, []  # its reader says what is missing
    for path in files_with(root, ".json"):
        try:
            load_json(path)
        except JsonError as error:
            raise DatasetError(str(error)) from error
    raise DatasetError(f"{root} has none of the layouts {', '.join(LAYOUTS)}; put the images into one folder per class")


def _doubts(base: Path, name: str, stated: str | None) -> list[str]:
    if stated is None and name in _FORMATS and image_folder.fits(base):
        return [
            f"read as {name}, for its annotations are there; to take the folders as classes instead, give "
            "--layout image-folder"
        ]
    return []
