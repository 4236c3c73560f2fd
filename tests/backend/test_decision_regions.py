"""Regions survive the record: what goes in comes out."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backend.decision_regions import from_record, to_record
from inspection_models.regions import Region

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)).filter(lambda m: m.any())


@given(MASKS, st.floats(0, 1), st.floats(0, 1))
def test_round_trip_through_json(mask: np.ndarray, evidence: float, probability: float) -> None:
    height, width = mask.shape
    polygon = np.array([[1.0, 2.0], [1.0 + width, 2.0], [1.0 + width, 2.0 + height], [1.0, 2.0 + height]])
    region = Region(
        polygon=polygon,
        holes=(),
        box=(1, 2, width, height),
        mask=mask,
        area=int(mask.sum()),
        evidence=evidence,
        peak=1.0,
    )
    record = json.loads(json.dumps(to_record(region, "scratches", probability)))
    back = from_record(record)
    assert np.array_equal(back.mask, mask)
    assert np.array_equal(back.polygon, polygon)
    assert (back.box, back.label, back.score, back.evidence) == (
        (1, 2, width, height),
        "scratches",
        probability,
        evidence,
    )
    assert sum(record["mask_runs"][1::2]) == mask.sum()
