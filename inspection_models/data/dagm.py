"""Layout `dagm` (DAGM 2007): `Class<k>/{Train,Test}/NNNN.PNG` with `Label/NNNN_label.PNG` and `Label/Labels.txt`, or as
it was first given out `Class<k>/N.png` (good) beside `Class<k>_def/N.png` with `labels.txt`, an ellipse for each.

Each of the ten textures has one kind of defect, which becomes the class `Class<k>`; what has none is good.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from inspection_models.data.dataset import GOOD, Polygon
from inspection_models.data.files import file_named, folder_named, folders_in, images_in, part_named
from inspection_models.data.reading import Findings, Reading

if TYPE_CHECKING:
    from pathlib import Path

_TEXTURE = re.compile(r"Class\d+", re.IGNORECASE)
_DEFECTIVE = "_def"
_CORNERS = 64


def fits(root: Path) -> bool:
    """Whether a texture lies here, or several do, in either form."""
    return any(_parts(texture) or (texture != root and _defective(texture)) for texture in _textures(root))


def read(root: Path) -> Reading:
    """All samples.

    Raises:
        DatasetError: a list that cannot be read, or an image or mask that it names and that is missing.
    """
    findings = Findings(root)
    for texture in _textures(root):
        label = texture.name if _TEXTURE.fullmatch(texture.name) else "defect"
        for part, folder in _parts(texture):
            _read_part(findings, label, part, folder)
        if texture != root and (defective := _defective(texture)):
            for path in images_in(texture):
                findings.add(path, [GOOD])
            _read_ellipses(findings, label, defective)
    return findings.reading()


def _textures(root: Path) -> list[Path]:
    return [root, *(path for path in folders_in(root) if _TEXTURE.fullmatch(path.name))]


def _parts(texture: Path) -> list[tuple[str, Path]]:
    found = []
    for folder in folders_in(texture):
        part, label = part_named(folder.name), folder_named(folder, "Label")
        if part and label and file_named(label, "Labels.txt"):
            found.append((part, folder))
    return found


def _defective(texture: Path) -> Path | None:
    folder = texture.with_name(texture.name + _DEFECTIVE)
    return folder if file_named(folder, "labels.txt") else None


def _read_part(findings: Findings, label: str, part: str, folder: Path) -> None:
    label_folder = folder_named(folder, "Label") or folder / "Label"
    listing = file_named(label_folder, "Labels.txt") or label_folder / "Labels.txt"
    images = {path.name.lower(): path for path in images_in(folder)}
    masks = {path.name.lower(): path for path in images_in(label_folder)}
    for where, line in findings.lines(listing):
        fields = line.split()
        if len(fields) < 3:
            continue  # the number of the texture
        image = images.pop(fields[2].lower(), None)
        if image is None:
            findings.problems.add(f"{where}: there is no image {fields[2]!r} in {folder}; add it or remove the line")
            continue
        if fields[1] not in ("0", "1"):
            findings.problems.add(f"{where}: {fields[1]!r} is neither 0 nor 1; correct the line")
            continue
        mask = masks.pop(fields[4].lower(), None) if len(fields) > 4 else None
        if fields[1] == "0":
            findings.add(image, [GOOD], part=part)
        elif mask is None:
            findings.problems.add(f"{where}: the defect of {image.name} has no mask in {label_folder}; add it")
        else:
            findings.add(image, [label], part=part, mask_path=mask)
    for path in images.values():
        findings.problems.add(f"{path} is not listed in {listing}; add a line or remove the image")


def _read_ellipses(findings: Findings, label: str, folder: Path) -> None:
    listing = file_named(folder, "labels.txt") or folder / "labels.txt"
    images = {path.stem.lstrip("0"): path for path in images_in(folder)}
    for where, line in findings.lines(listing):
        fields = line.split()
        try:
            major, minor, angle, x, y = (float(field) for field in fields[1:6])
            image = images.pop(fields[0].lstrip("0"))
        except (ValueError, KeyError):
            findings.problems.add(
                f"{where}: not the number of an image in {folder} with the five numbers of its ellipse; correct it"
            )
            continue
        findings.add(image, [label], polygons=[Polygon(label, _ellipse(x, y, major, minor, angle))])
    for path in images.values():
        findings.problems.add(f"{path} is not listed in {listing}; add a line or remove the image")


def _ellipse(x: float, y: float, major: float, minor: float, angle: float) -> tuple[tuple[float, float], ...]:
    points = []
    for step in range(_CORNERS):
        turn = 2 * math.pi * step / _CORNERS
        along, across = major * math.cos(turn), minor * math.sin(turn)
        points.append(
            (
                x + along * math.cos(angle) - across * math.sin(angle),
                y + along * math.sin(angle) + across * math.cos(angle),
            )
        )
    return tuple(points)
