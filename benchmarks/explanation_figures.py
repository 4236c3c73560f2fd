"""Figures of docs/explanations.md and docs/regions.md: eight defects under every method, cases where one map cannot be
right, and regions drawn in three ways.

Synthetic steel only, made and trained on here, so the pictures may stand in the repository.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from benchmarks.explanation_quality import STEEL, synthetic_model
from benchmarks.machine import described
from inspection_models.attribution import METHODS, attribute
from inspection_models.data.synthetic_steel import CLASSES, GOOD, make_steel
from inspection_models.model_card import RegionThresholds
from inspection_models.overlay import blend
from inspection_models.region_drawing import draw_regions, mask_of
from inspection_models.region_features import Evidence, PixelFeatures
from inspection_models.region_learning import explained_map

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection_models.classifier import DefectClassifier
    from inspection_models.region_settings import DrawnBy

_IMAGES = Path(__file__).parents[1] / "docs" / "images"
# Images of a seed that no training saw.
_SEED, _SIZE, _CELL, _HEADER, _MARGIN = 4711, 256, 150, 22, 4
_ROWS = (*((label, 0) for label in CLASSES if label != GOOD), ("inclusion", 1), ("scratches", 2))
_SEVERAL = (("inclusion", _SIZE, _SEED, 0), ("inclusion", _SIZE, _SEED, 1))
_HARD_METHODS = ("quorum", "sise")
_WAYS: dict[DrawnBy, str] = {"map": "cut from the map", "snapped": "snapped", "learned": "drawn by the head"}
_WHITE, _TRUE, _DRAWN, _INK = (255, 255, 255), (255, 0, 255), (0, 220, 0), (30, 30, 30)


@dataclass(frozen=True)
class Picture:
    """A picture, what is true of it, and how its row is headed."""

    title: str
    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    label: str


def run(folder: Path) -> dict[str, Any]:
    """Draw the figures into docs/images."""
    classifier = synthetic_model(STEEL, 1, folder.parent / "explanation-quality")
    rows = [_picture(label, index) for label, index in _ROWS]
    _write(_IMAGES / "methods.jpg", _sheet(classifier, rows, tuple(METHODS)))
    _write(_IMAGES / "hard-cases.jpg", _sheet(classifier, _hard_cases(), _HARD_METHODS))
    _write(_IMAGES / "regions.jpg", _regions(classifier, rows))
    names = ("methods", "hard-cases", "regions")
    return {"machine": described(), "figures": [f"docs/images/{name}.jpg" for name in names]}


def _picture(label: str, index: int) -> Picture:
    made = make_steel(label, _SIZE, _SEED, index)
    return Picture(label.replace("_", " "), _colour(made.pixels), made.mask, label)


def _hard_cases() -> list[Picture]:
    patch, one, other = (make_steel(*what) for what in (("patches", _SIZE, _SEED, 3), *_SEVERAL))
    # Inclusions are darker than sound steel, so the darker of two pictures shows both.
    several = Picture("several", _colour(np.minimum(one.pixels, other.pixels)), one.mask | other.mask, "inclusion")
    rows, columns = np.nonzero(patch.mask)
    middle = (int(rows.mean()), int(columns.mean()))
    border = _cropped("at the border", patch.pixels, patch.mask, (middle[0], 0), "patches")
    large = make_steel("crazing", _SIZE, _SEED, 1)
    top, bottom, left, right = _box(large.mask)
    filling = Picture(
        "fills the picture",
        _colour(_stretched(large.pixels[top:bottom, left:right])),
        _stretched(large.mask[top:bottom, left:right].astype(np.uint8)) > 0,
        "crazing",
    )
    good = make_steel(GOOD, _SIZE, _SEED, 0)
    return [several, border, filling, Picture("good part", _colour(good.pixels), good.mask, "")]


def _cropped(
    title: str, pixels: NDArray[np.uint8], mask: NDArray[np.bool_], corner: tuple[int, int], label: str
) -> Picture:
    """The picture from a row and column on, so that the border cuts the defect."""
    row, column = corner
    return Picture(
        title,
        _colour(_stretched(pixels[row:, column:])),
        _stretched(mask[row:, column:].astype(np.uint8)) > 0,
        label,
    )


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """First and last row and column of the defect's inner two thirds."""
    rows, columns = np.nonzero(mask)
    (top, bottom), (left, right) = np.percentile(rows, [17, 83]), np.percentile(columns, [17, 83])
    return int(top), int(bottom), int(left), int(right)


def _stretched(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(plane, (_SIZE, _SIZE), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _colour(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))


def _sheet(classifier: DefectClassifier, pictures: list[Picture], methods: tuple[str, ...]) -> NDArray[np.uint8]:
    header = [_titled("picture, defect outlined"), *(_titled(name) for name in methods)]
    rows = [np.hstack(header)]
    for picture in pictures:
        prediction = classifier.predict([picture.pixels])[0]
        # A good part is asked about the defect that the model holds for most likely.
        others = [
            float(p) * (name != GOOD) for p, name in zip(prediction.probabilities, classifier.classes, strict=True)
        ]
        target = classifier.classes.index(picture.label) if picture.label else int(np.argmax(others))
        inputs, _ = classifier.preprocessing.apply(picture.pixels)
        cells = [_outlined(picture.pixels, picture.mask, _TRUE)]
        for name in methods:
            found = attribute(classifier.network, inputs[None], torch.tensor([target]), name)
            placement = classifier.preprocessing.placement((_SIZE, _SIZE))
            values = placement.map_to_image(found.map[0].numpy())
            share = RegionThresholds.usual(name).relative
            cells.append(_outlined(blend(picture.pixels, values), values >= share * values.max(), _DRAWN))
        asked = classifier.classes[target].replace("_", " ")
        title = picture.title if picture.title == asked else f"{picture.title}, asked: {asked}"
        rows += [
            _titled(f"{title}, p = {prediction.probabilities[target]:.2f}", len(cells)),
            np.hstack([_framed(cell) for cell in cells]),
        ]
    return np.vstack(rows)


def _regions(classifier: DefectClassifier, pictures: list[Picture]) -> NDArray[np.uint8]:
    """The pictures with their regions by each way of drawing, and how well these cover the defect."""
    if classifier.region_head is None:
        raise ValueError("the model has no region head; remove its folder, so that it is trained anew")
    features, drawing = PixelFeatures(classifier), classifier.card.regions
    titles = ("picture, defect outlined", "attribution map", *_WAYS.values())
    rows = [np.hstack([_titled(title) for title in titles])]
    for picture in pictures:
        evidence = explained_map(classifier, picture.pixels, picture.label)
        cells = [_outlined(picture.pixels, picture.mask, _TRUE), blend(picture.pixels, evidence)]
        told = []
        for way, name in _WAYS.items():
            head_map = classifier.region_head.draw(features, picture.pixels, Evidence(picture.label, evidence))
            one = replace(drawing, drawn_by=way)
            drawn = draw_regions(picture.pixels, evidence, classifier.thresholds.region, one, head_map=head_map)
            mask = mask_of(drawn, (_SIZE, _SIZE))
            cells.append(_outlined(picture.pixels, mask, _DRAWN))
            told.append(f"{name} {(mask & picture.mask).sum() / (mask | picture.mask).sum():.2f}")
        rows += [
            _titled(f"{picture.title}; overlap: {', '.join(told)}", len(cells)),
            np.hstack([_framed(cell) for cell in cells]),
        ]
    return np.vstack(rows)


def _outlined(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    drawn = pixels.copy()
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, outlines, -1, colour, 1)
    return drawn


def _framed(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    small = cv2.resize(pixels, (_CELL, _CELL), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.copyMakeBorder(small, 0, _MARGIN, 0, _MARGIN, cv2.BORDER_CONSTANT, value=_WHITE))


def _titled(text: str, columns: int = 1) -> NDArray[np.uint8]:
    bar = np.full((_HEADER, columns * (_CELL + _MARGIN), 3), 255, dtype=np.uint8)
    cv2.putText(bar, text, (2, _HEADER - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.38, _INK, 1, cv2.LINE_AA)
    return bar


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise OSError(f"{path} cannot be written")
