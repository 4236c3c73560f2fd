"""What reading a layout gives, and collecting it: samples, notes, and every problem rather than the first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from inspection_models.data.dataset import DatasetError, Sample, file_sha256
from inspection_models.data.tables import TableError, read_lines
from inspection_models.images import ImageError, image_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from inspection_models.data.dataset import Box, Polygon, RunLengths

_SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Reading:
    """A layout as it was read.

    Attributes:
        samples: in any order.
        used: files that are no samples but were read: annotations, lists, masks.
        notes: what a reader of the data set must know, each a sentence.
    """

    samples: tuple[Sample, ...]
    used: frozenset[Path]
    notes: tuple[str, ...]


class Problems:
    """Faults of a data set, told together."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, problem: str) -> None:
        """Keep a sentence that names the file, the line if there is one, and what to do."""
        self._found.append(problem)

    def check(self) -> None:
        """Raise `DatasetError` with the first problems and the number of the others, if there are any."""
        if not self._found:
            return
        if len(self._found) == 1:
            raise DatasetError(self._found[0])
        lines = [f"{len(self._found)} problems:", *self._found[:_SHOWN_PROBLEMS]]
        if len(self._found) > _SHOWN_PROBLEMS:
            lines.append(f"and {len(self._found) - _SHOWN_PROBLEMS} more")
        raise DatasetError("\n  ".join(lines))


class Findings:
    """Collects what a layout's reader finds beneath `root`, and makes a `Reading` of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems = Problems()
        self._real_root = root.resolve()
        self._samples: dict[Path, Sample] = {}
        self._used: set[Path] = set()
        self._notes: list[str] = []

    @property
    def used(self) -> frozenset[Path]:
        """The files that were read so far, apart from the samples."""
        return frozenset(self._used)

    def use(self, *paths: Path) -> None:
        """Say that files were read, so that they are not told as ignored."""
        self._used.update(paths)

    def lines(self, listing: Path) -> list[tuple[str, str]]:
        """Where each line of a text file stands, by file and number, and what it says; empty ones are left out.

        A file that cannot be read becomes a problem, and has no lines.
        """
        self.use(listing)
        try:
            lines = read_lines(listing)
        except TableError as error:
            self.problems.add(str(error))
            return []
        return [(f"{listing} line {number}", text) for number, line in enumerate(lines, 1) if (text := line.strip())]

    def note(self, text: str) -> None:
        """Keep a sentence for the reader of the data set; the same one only once."""
        if text not in self._notes:
            self._notes.append(text)

    def add(
        self,
        path: Path,
        labels: Iterable[str],
        *,
        group: str | None = None,
        part: str | None = None,
        boxes: Sequence[Box] = (),
        mask_path: Path | None = None,
        polygons: Sequence[Polygon] = (),
        runs: Sequence[RunLengths] = (),
    ) -> None:
        """Keep a sample; an image without a `group` is one with those that are the same file.

        A file that cannot be read, lies elsewhere or was there before becomes a problem.
        """
        if path in self._samples:
            self.problems.add(f"{path} is listed twice; remove one of the entries")
            return
        if not self._lies_below(path):
            return
        if mask_path is not None:
            self.use(mask_path)
            if not self._lies_below(mask_path):
                return
        try:
            digest = file_sha256(path)
            mask_digest = None if mask_path is None else file_sha256(mask_path)
        except DatasetError as error:
            self.problems.add(str(error))
            return
        first, *also = sorted(set(labels))
        self._samples[path] = Sample(
            path=path,
            label=first,
            group=digest if group is None else group,
            sha256=digest,
            boxes=tuple(boxes),
            mask_path=mask_path,
            also=tuple(also),
            part=part,
            polygons=tuple(polygons),
            runs=tuple(runs),
            mask_sha256=mask_digest,
        )

    def named(self, text: str, where: str, folders: Sequence[Path]) -> Path | None:
        """The file that an annotation names, in the first of the folders that holds it.

        Backslashes count as slashes. A file that is missing, or lies outside the data set, becomes a problem.
        """
        name = text.strip().replace("\\", "/")
        pure = PurePosixPath(name)
        if pure.is_absolute() and pure.is_relative_to(self.root.absolute().as_posix()):
            pure = pure.relative_to(self.root.absolute().as_posix())
            folders = [self.root]
        if pure.is_absolute() or PureWindowsPath(name).drive or ".." in pure.parts:
            self.problems.add(
                f"{where}: {text!r} leads out of the data set; name files relative to {self.root} and below it"
            )
            return None
        for folder in folders:
            if (folder / pure).is_file():
                return folder / pure
        places = " and ".join(str(folder) for folder in dict.fromkeys(folders))
        self.problems.add(f"{where}: there is no file {text!r} in {places}; add it or remove the entry")
        return None

    def size_of(self, path: Path) -> tuple[int, int] | None:
        """Height and width of an image as shown; a damaged file becomes a problem."""
        try:
            return image_size(path)
        except ImageError as error:
            self.problems.add(str(error))
            return None

    def reading(self) -> Reading:
        """All of it.

        Raises:
            DatasetError: there were problems.
        """
        self.problems.check()
        return Reading(tuple(self._samples.values()), frozenset(self._used), tuple(self._notes))

    def _lies_below(self, path: Path) -> bool:
        try:
            real = path.resolve(strict=True)
        except OSError as error:
            self.problems.add(f"{path} cannot be read ({error.strerror or error}); repair or remove it")
            return False
        if real.is_relative_to(self._real_root):
            return True
        self.problems.add(f"{path} is a link to {real}, outside the data set; copy the file to its place")
        return False
