"""Which layout a directory has, and reading it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspection_models.data import image_folder, magnetic_tile, neu_det
from inspection_models.data.dataset import Dataset, DatasetError, make_dataset

if TYPE_CHECKING:
    from pathlib import Path

# The image folder comes last: its rule is the loosest.
_LAYOUTS = {"magnetic-tile": magnetic_tile, "neu-det": neu_det, "image-folder": image_folder}
LAYOUTS = tuple(_LAYOUTS)


def load_dataset(root: Path, *, layout: str | None = None, good_class: str | None = None) -> Dataset:
    """Read a data set.

    Args:
        root: its directory.
        layout: one of `LAYOUTS`; None recognises it.
        good_class: overrides the recognition of the good class by its name; an empty string says there is none.

    Raises:
        DatasetError: no directory, no or no single layout recognised, or files missing, damaged or contradicting
            each other, which are named.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is not a directory; give the directory that holds the data set")
    name = layout if layout is not None else _recognise(root)
    if name not in _LAYOUTS:
        raise DatasetError(f"there is no layout {name!r}; use one of {', '.join(LAYOUTS)}")
    samples, ignored = _LAYOUTS[name].read(root)
    return make_dataset(root, samples, name, good_class=good_class, ignored=ignored)


def _recognise(root: Path) -> str:
    fitting = [name for name, reader in _LAYOUTS.items() if reader.fits(root)]
    if not fitting:
        raise DatasetError(
            f"{root} has none of the layouts {', '.join(LAYOUTS)}; put the images into one folder per class"
        )
    if len(fitting) > 1:
        raise DatasetError(f"{root} could be {' or '.join(fitting)}; say which layout it is")
    return fitting[0]
