"""Two models' answers side by side: counts by hand, and what must not change them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection_models.gate import Answer, Comparison, GateError, GoldenImage, compare
from inspection_models.gate.bounds import clopper_pearson
from inspection_models.gate.changes import BETTER, WORSE
from tests.inspection_models.gate_material import CLASSES, answer, image, model

LABELS = st.sampled_from(CLASSES)
SIDE = st.tuples(LABELS, st.floats(0.4, 0.999), st.sampled_from([None, "review"]))
CASES = st.lists(st.tuples(LABELS, st.integers(0, 8), SIDE, SIDE), min_size=1, max_size=25)


def sides(cases: list[Any]) -> tuple[list[GoldenImage], list[Answer], list[Answer]]:
    images = [image(number, case[0], f"part {case[1]}") for number, case in enumerate(cases)]
    return images, [answer(*case[2]) for case in cases], [answer(*case[3]) for case in cases]


def by_hand(cases: list[Any]) -> dict[str, tuple[int, int, int, int, int]]:
    """Literal loops: candidate's and service's count, cases, candidate alone, service alone."""

    def verdict(side: Any) -> str:
        return side[2] or ("good" if side[0] == "good" else "defect")

    def count(asked: list[Any], holds: Any) -> tuple[int, int, int, int, int]:
        both = [(holds(case, case[2]), holds(case, case[3])) for case in asked]
        return (
            sum(a for a, _ in both),
            sum(b for _, b in both),
            len(asked),
            sum(a and not b for a, b in both),
            sum(b and not a for a, b in both),
        )

    return {
        "escapes": count([c for c in cases if c[0] != "good"], lambda _, side: verdict(side) == "good"),
        "overkill": count([c for c in cases if c[0] == "good"], lambda _, side: verdict(side) == "defect"),
        "review": count(cases, lambda _, side: verdict(side) == "review"),
        "right": count(cases, lambda case, side: side[0] == case[0]),
    }


@settings(max_examples=25, deadline=None)
@given(CASES)
def test_counts_are_those_of_loops(cases: list[Any]) -> None:
    images, new, old = sides(cases)
    found = compare(model(new), model(old, "b"), images)
    for name, expected in by_hand(cases).items():
        rate = getattr(found, name)
        if expected[2] == 0:
            assert rate is None
            continue
        counted = (rate.candidate_count, rate.service_count, rate.of, rate.candidate_only, rate.service_only)
        assert counted == expected
        scale = rate.parts / rate.of
        assert rate.parts <= len({one.group for one in images}) + 1e-9
        assert rate.candidate.high == pytest.approx(
            clopper_pearson(min(rate.parts, expected[0] * scale), rate.parts, 0.95).high
        )
    recalls = [
        np.mean([case[2][0] == label for case in cases if case[0] == label])
        for label in CLASSES
        if any(case[0] == label for case in cases)
    ]
    assert found.balanced_accuracy is not None
    assert found.balanced_accuracy.candidate.value == pytest.approx(np.mean(recalls))


def numbers(value: Any) -> Any:
    """A comparison's figures without what belongs to the order of the images."""
    measured = asdict(value)
    return {key: measured[key] for key in ("escapes", "overkill", "review", "right", "recall", "balanced_accuracy")}


@settings(max_examples=15, deadline=None)
@given(CASES, st.randoms(use_true_random=False))
def test_the_order_of_the_images_changes_nothing(cases: list[Any], random: Any) -> None:
    images, new, old = sides(cases)
    found = compare(model(new), model(old), images)
    order = list(range(len(cases)))
    random.shuffle(order)
    other = compare(model([new[i] for i in order]), model([old[i] for i in order]), [images[i] for i in order])
    assert numbers(other) == numbers(found)
    assert [(found.images[c.place].file, c.kind) for c in found.changed] == [
        (other.images[c.place].file, c.kind) for c in other.changed
    ]
    for one, two in zip(found.calibration, other.calibration, strict=True):
        assert two.error.difference.value == pytest.approx(one.error.difference.value, abs=1e-12)
        assert two.error.difference.high == pytest.approx(one.error.difference.high, abs=1e-9)


def close(one: Any, other: Any) -> None:
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(CASES)
def test_swapped_models_mirror_the_result(cases: list[Any]) -> None:
    images, new, old = sides(cases)
    found, swapped = compare(model(new), model(old), images), compare(model(old), model(new), images)
    for name in ("escapes", "overkill", "review", "right", "balanced_accuracy"):
        one, other = getattr(found, name), getattr(swapped, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert one.candidate == other.service
            close(one.difference, other.difference.mirrored())
        if one is not None and name != "balanced_accuracy":
            assert one.p_value == other.p_value
    for one, other in zip(found.calibration, swapped.calibration, strict=True):
        close(one.error.difference, other.error.difference.mirrored())
        assert one.candidate_bins == other.service_bins
    opposite = {
        "new escape": "escape caught",
        "new overkill": "overkill resolved",
        "newly wrong": "now right",
        "newly sent to review": "no longer sent to review",
        "otherwise wrong": "otherwise wrong",
    }
    opposite |= {better: worse for worse, better in opposite.items()}
    assert {c.place: opposite[c.kind] for c in found.changed} == {c.place: c.kind for c in swapped.changed}


def test_a_model_against_itself_differs_in_nothing() -> None:
    images = [image(n, label) for n, label in enumerate(("crack", "good", "pit", "good"))]
    answers = [answer("crack"), answer("crack"), answer("good", 0.6, "review"), answer("good")]
    found = compare(model(answers), model(answers), images)
    assert found.changed == ()
    assert found.right is not None
    assert (found.right.difference.value, found.right.p_value) == (0, 1)
    assert found.calibration[0].error.difference.high == 0


def test_changes_are_ranked_from_the_worst() -> None:
    rows = [
        # truth, candidate, service
        ("crack", answer("good"), answer("crack"), "new escape"),
        ("crack", answer("good", 0.99), answer("crack"), "new escape"),
        ("good", answer("pit"), answer("good"), "new overkill"),
        ("crack", answer("pit"), answer("crack"), "newly wrong"),
        ("crack", answer("crack", 0.5, "review"), answer("crack"), "newly sent to review"),
        ("pit", answer("crack", 0.9, "review"), answer("good", 0.9, "review"), "otherwise wrong"),
        ("crack", answer("crack"), answer("crack", 0.5, "review"), "no longer sent to review"),
        ("crack", answer("crack"), answer("pit"), "now right"),
        ("good", answer("good", 0.6, "review"), answer("pit"), "overkill resolved"),
        ("crack", answer("pit"), answer("good"), "escape caught"),
        ("crack", answer("crack"), answer("crack", 0.7), None),
    ]
    images = [image(n, row[0]) for n, row in enumerate(rows)]
    found = compare(model([row[1] for row in rows]), model([row[2] for row in rows]), images)
    assert [one.kind for one in found.changed] == [kind for *_, kind in rows if kind]
    assert found.changed[0].place == 1, "the larger move first"
    assert [*WORSE, *BETTER] == list(dict.fromkeys(kind for *_, kind in rows if kind))


def test_classes_that_one_side_does_not_know_count_for_escapes_only() -> None:
    old_classes = ("crack", "good")
    images = [image(0, "crack"), image(1, "pit"), image(2, "pit"), image(3, "good")]
    new = [answer("crack"), answer("pit"), answer("good"), answer("good")]
    old = [answer(label, classes=old_classes) for label in ("crack", "good", "crack", "good")]
    found = compare(model(new), model(old, "b", old_classes), images)
    assert found.escapes is not None
    assert found.right is not None
    assert (found.escapes.candidate_count, found.escapes.service_count, found.escapes.of) == (1, 1, 3)
    assert found.right.of == 2
    assert set(found.recall) == {"crack", "good"}
    of_any, of_class = found.calibration
    assert of_any.brier is not None
    assert of_class.brier is None, "scores over other classes do not compare"


def test_without_a_good_class_nothing_can_escape() -> None:
    classes = ("crack", "pit")
    images = [image(0, "crack"), image(1, "pit")]
    answers = [answer("crack", classes=classes), answer("crack", classes=classes)]
    found = compare(model(answers, "a", classes), model(answers, "b", classes), images)
    assert (found.escapes, found.overkill) == (None, None)
    assert [one.of for one in found.calibration] == ["class"]
    assert found.balanced_accuracy is not None
    assert found.balanced_accuracy.candidate.value == 0.5


def test_images_of_several_classes_are_right_only_with_all_of_them() -> None:
    images = [image(0, "crack", also=("pit",)), image(1, "good")]
    both = Answer("defect", frozenset({"crack", "pit"}), (0.9, 0.1, 0.8), 0.9)
    one = Answer("defect", frozenset({"crack"}), (0.9, 0.1, 0.3), 0.9)
    fine = Answer("good", frozenset({"good"}), (0.1, 0.9, 0.1), 0.1)
    found = compare(model([both, fine], exclusive=False), model([one, fine], "b", exclusive=False), images)
    assert found.right is not None
    assert (found.right.candidate_count, found.right.service_count) == (2, 1)
    assert found.recall["pit"].service_count == 0
    assert found.recall["crack"].service_count == 1
    assert found.balanced_accuracy is not None
    assert not found.balanced_accuracy.independent, "one part shows two classes"
    loss = found.calibration[1].log_loss
    assert loss is not None
    expected = -np.log([0.9, 0.9, 0.8]).sum() - 3 * np.log(0.9)
    assert loss.candidate.value == pytest.approx(expected / 2)


def test_alike_images_do_not_narrow_a_bound() -> None:
    def of(groups: int, each: int) -> Comparison:
        images = [image(n, "crack", f"part {n // each}") for n in range(groups * each)]
        answers = [answer("crack")] * len(images)
        return compare(model(answers), model(answers), images)

    alone, repeated = of(20, 1).escapes, of(20, 6).escapes
    assert alone is not None
    assert repeated is not None
    assert repeated.candidate.high == pytest.approx(alone.candidate.high)
    assert repeated.difference.high == pytest.approx(alone.difference.high)


def test_no_images_and_missing_answers_are_refused() -> None:
    for images, answers in (([], []), ([image(0)], []), ([image(0)], [answer("crack")] * 2)):
        with pytest.raises(GateError, match="as many answers"):
            compare(model(answers), model(answers), images)
