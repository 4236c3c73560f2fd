"""An image that changed sides: the photograph, and what each model saw in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from inspection_models.gate import GateError
from inspection_models.overlay import blend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from backend.pipeline import ClassExplanation, DecisionPipeline
    from inspection_models.data import Sample
    from inspection_models.gate import GoldenImage
    from inspection_models.gate.changes import Change

_LONGEST_SIDE = 360
_SHORTEST_SIDE = 24
_JPEG_QUALITY = 85
_OUTLINE, _SHADOW = (0, 229, 255), (0, 0, 0)


@dataclass(frozen=True)
class Panel:
    """What one model saw: a JPEG of its map over the photograph, the class it is evidence for, and how probable."""

    jpeg: bytes
    label: str
    probability: float
    regions: int


@dataclass(frozen=True)
class ChangePicture:
    """One image that changed sides, as JPEGs of at most 360 pixels a side."""

    change: Change
    photograph: bytes
    candidate: Panel
    service: Panel


def picture_of(
    sample: Sample, image: GoldenImage, change: Change, pipelines: Sequence[DecisionPipeline]
) -> ChangePicture:
    """Draw an image for the candidate's pipeline and that of the model in service.

    Both show the evidence for the same class where both know it: the true one, or of a good part the defect class that
    is most probable to each.

    Raises:
        GateError: the file is gone.
        ImageError: it is damaged.
    """
    try:
        data = sample.path.read_bytes()
    except OSError as error:
        raise GateError(f"{sample.path}: cannot be read any more ({error.strerror or error})") from error
    photograph = b""
    panels = []
    for pipeline in pipelines:
        label = _worth_showing(data, image, pipeline)
        explained = pipeline.explain(data, classes=[label])
        pixels = explained.image.pixels
        photograph = photograph or _jpeg(_shrunk(pixels)[0])
        found = explained.explanations[0]
        panels.append(Panel(_drawn(pixels, found), label, found.probability, len(found.regions)))
    return ChangePicture(change, photograph, panels[0], panels[1])


def _worth_showing(data: bytes, image: GoldenImage, pipeline: DecisionPipeline) -> str:
    classes, good = pipeline.classifier.classes, pipeline.classifier.good_class
    if image.defective and (known := sorted(image.labels & set(classes))):
        return known[0]
    prediction = pipeline.explain(data, classes=()).prediction
    defects = [(float(p), label) for p, label in zip(prediction.probabilities, classes, strict=True) if label != good]
    return max(defects)[1]


def _drawn(pixels: NDArray[np.uint8], explanation: ClassExplanation) -> bytes:
    small, scale = _shrunk(pixels)
    size = (small.shape[1], small.shape[0])
    heat = cv2.resize(explanation.attribution_map, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    canvas = np.ascontiguousarray(blend(small, np.clip(heat, 0.0, 1.0)))
    for region in explanation.regions:
        # Eighths of a pixel; a region's outline runs along edges of pixels, OpenCV's through their centres.
        outline = np.rint((region.polygon * scale - 0.5) * 8).astype(np.int32)[:, None]
        for colour, width in ((_SHADOW, 3), (_OUTLINE, 1)):
            cv2.polylines(
                canvas, [outline], isClosed=True, color=colour, thickness=width, lineType=cv2.LINE_AA, shift=3
            )
    return _jpeg(canvas)


def _shrunk(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The photograph at the size of a panel, and by how much (x, y) was scaled."""
    height, width = pixels.shape[:2]
    factor = min(1.0, _LONGEST_SIDE / max(height, width))
    size = (min(_LONGEST_SIDE, max(_SHORTEST_SIDE, round(width * factor))), max(_SHORTEST_SIDE, round(height * factor)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return small, np.array([size[0] / width, size[1] / height])


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    done, encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return bytes(encoded)
