"""A decision's regions as they stand in the record, and back to what Label Studio is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backend.label_studio.results import ExplainedRegion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from inspection_models.regions import Region


def to_record(region: Region, label: str, probability: float) -> dict[str, Any]:
    """A region as JSON: outline and holes in image pixels, the mask of its box as run lengths, shares and peak, what
    drew it and whether there is evidence under it.

    The runs go row by row through the box and alternate outside, inside, outside, …, beginning outside.
    """
    return {
        "class": label,
        "probability": probability,
        "evidence": float(region.evidence),
        "drawn_by": region.drawn_by,
        "has_evidence": region.has_evidence,
        "peak": float(region.peak),
        "area": int(region.area),
        "box": [int(side) for side in region.box],
        "polygon": region.polygon.tolist(),
        "holes": [hole.tolist() for hole in region.holes],
        "mask_runs": _runs(region.mask),
    }


def from_record(record: Mapping[str, Any]) -> ExplainedRegion:
    """The region that a record describes."""
    x, y, width, height = (int(side) for side in record["box"])
    return ExplainedRegion(
        polygon=np.asarray(record["polygon"], dtype=np.float64),
        box=(x, y, width, height),
        mask=_mask(record["mask_runs"], (height, width)),
        label=str(record["class"]),
        score=float(record["probability"]),
        evidence=float(record["evidence"]),
        # Of decisions that were recorded before there was anything but the map's threshold.
        drawn_by=record.get("drawn_by", "map"),
        has_evidence=bool(record.get("has_evidence", True)),
    )


def _runs(mask: NDArray[np.bool_]) -> list[int]:
    flat = np.concatenate([[False], mask.ravel(), [not mask.ravel()[-1]]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])  # where a run begins that differs from the one before
    return [int(run) for run in np.diff(np.concatenate([[0], changes]))]


def _mask(runs: list[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(shape)
