"""The ablation is of Quorum, its variants differ in what they say, and its figures are put together rightly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.explanation_quality import CASES
from benchmarks.explanation_tables import parts_table
from benchmarks.quorum_parts import FULL, VARIANTS, Variant, View, pooled, variant_map, views_of
from inspection_models.attribution import attribute, convolutional_blocks
from tests.inspection_models.attribution_networks import FAMILIES, INPUT_SIZE, BlockNetwork, built, images

MACHINE = {"cpu": "A processor", "threads": 2, "packages": {"torch": "2.13.0"}}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_nothing_left_out_is_the_product_s_method(family: type[BlockNetwork], activation: str) -> None:
    network, pictures = built(family, seed=1, dtype=torch.float32), images(1, 2, torch.float32)
    views = views_of(network, convolutional_blocks(network, INPUT_SIZE), pictures[0], 1, activation)
    for mirrored in (True, False):
        expected = attribute(network, pictures, torch.tensor([1]), "quorum", activation, mirrored=mirrored).map[0]
        np.testing.assert_allclose(variant_map(views, Variant(mirrored=mirrored)), expected, atol=1e-6)


def test_every_part_changes_the_map() -> None:
    network, pictures = built(FAMILIES[0], seed=1, dtype=torch.float32), images(1, 2, torch.float32)
    views = views_of(network, convolutional_blocks(network, INPUT_SIZE), pictures[0], 1, "softmax")
    full = variant_map(views, VARIANTS[FULL])
    for name, variant in VARIANTS.items():
        assert (name == FULL) == torch.equal(variant_map(views, variant), full)


def test_what_each_variant_leaves_out() -> None:
    """Three levels that look alike, so that the map tells which of them had a say."""
    ramp = torch.linspace(0.1, 1, 16).reshape(4, 4).double()
    strong = View(positive=(ramp, ramp[:2, :2], ramp[:2, :2]), negative=(ramp, ramp[:2, :2] / 2, ramp[:2, :2] / 4))
    weak = View(positive=(ramp, ramp[:2, :2], ramp[:2, :2] * 0), negative=(ramp * 0, ramp[:2, :2], ramp[:2, :2] * 0))

    def mapped(*views: View, **parts: bool) -> torch.Tensor:
        return variant_map(views, Variant(**{"balanced": False, **parts}))

    assert torch.equal(mapped(strong, weak, mirrored=False), mapped(strong))
    # Signed, the input says the same everywhere, which is nothing; so does leaving it out, but for the other levels.
    assert torch.equal(mapped(strong, positive_parts=False), mapped(strong, at_input=False))
    # With signs a view's evidence cancels another's.
    assert not torch.equal(mapped(strong, weak, positive_parts=False), mapped(strong, positive_parts=False))


def report_of(figures: dict[str, dict[str, dict[str, float]]], accuracy: float) -> dict[str, object]:
    listed = [
        {"sha256": name, "group": name[0], "defect_share": 0.005 if name == "b1" else 0.2, "figures": one}
        for name, one in figures.items()
    ]
    return {"balanced_accuracy": accuracy, "images": listed}


def same(value: float) -> dict[str, float]:
    return {"ap": value, "ebpg": value, "ebpg_ranked": value}


def test_a_photograph_counts_once_and_is_compared_with_itself() -> None:
    first = report_of(
        {"a1": {FULL: same(0.6), "other": same(0.5)}, "b1": {FULL: same(0.2), "other": same(0.4)}}, accuracy=0.8
    )
    second = report_of({"a1": {FULL: same(0.8), "other": same(0.3)}}, accuracy=0.9)
    case = pooled(CASES[0], [first, second])
    assert (case["images"], case["groups"], case["small_defects"]) == (2, 2, 1)
    full, other = case["rows"]
    assert full["ap"]["value"] == pytest.approx((0.7 + 0.2) / 2) and full["ap"]["quorum_has_more"] is None
    assert other["ap"]["value"] == pytest.approx(0.4) and other["ap"]["quorum_has_more"]["value"] == pytest.approx(0.05)
    assert other["ap"]["quorum_has_more"]["low"] == pytest.approx(-0.2)
    assert other["ap_small"]["quorum_has_more"]["value"] == pytest.approx(-0.2)


def test_the_table_says_what_the_report_says() -> None:
    full = {"value": 0.605, "quorum_has_more": None}
    less = {"value": 0.55, "quorum_has_more": {"low": -0.072, "high": 0.013}}
    rows = [
        {"method": name, "ap": figure, "ebpg": figure, "ebpg_ranked": figure, "ap_small": small}
        for name, figure, small in ((FULL, full, full), ("without", less, None))
    ]
    case = {
        "data": "tiles",
        "network": "lite",
        "balanced_accuracy": [0.78, 0.8],
        "images": 31,
        "groups": 8,
        "small_defects": 17,
        "rows": rows,
    }
    lines = parts_table({"machine": MACHINE, "seeds": [1, 2], "cases": [case]}).splitlines()
    expected = "31 defects of 8 groups, 17 under 1 % of the picture; trainings 1, 2, balanced accuracy 78, 80 %"
    assert lines[0] == f"**tiles, lite**: {expected}"
    assert lines[4] == "| quorum | **60.5** | **60.5** | **60.5** | **60.5** |"
    assert lines[5] == "| without | " + "55.0 [-7.2, +1.3] | " * 3 + "– |"
