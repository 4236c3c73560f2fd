"""Regions survive the record: what goes in comes out."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backend.decision_regions import from_record, to_record
from inspection_models.region_settings import DrawnBy
from inspection_models.regions import Region

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)).filter(lambda m: m.any())


@given(MASKS, st.floats(0, 1), st.floats(0, 1), st.sampled_from(get_args(DrawnBy)), st.booleans())
def test_round_trip_through_json(
    mask: np.ndarray, evidence: float, probability: float, drawn_by: DrawnBy, has_evidence: bool
) -> None:
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
        drawn_by=drawn_by,
        has_evidence=has_evidence,
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
    assert (back.drawn_by, back.has_evidence) == (drawn_by, has_evidence)
    # Records of the time before there was anything but the map's threshold.
    del record["drawn_by"], record["has_evidence"]
    assert (from_record(record).drawn_by, from_record(record).has_evidence) == ("map", True)
    assert sum(record["mask_runs"][1::2]) == mask.sum()
