"""The verdict on a part is that of its worst image."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.part_verdict import judge_part
from db.records import NewDecision
from tests.db import samples

CLASSES = ("good", "scratch", "pit")


def decision(verdict: str, defect: float, *labels: str, name: str = "image") -> NewDecision:
    label = labels[0] if labels else "good"
    scores = {"good": 1 - defect, "scratch": defect if label != "pit" else 0.0, "pit": defect if label == "pit" else 0}
    return samples.decision(
        name, scores=scores, logits=b"\0" * 12, predicted_class=label, probability=max(scores.values()),
        is_defect=label != "good", verdict=verdict, labels=labels or ("good",),
    )  # fmt: skip


GOOD, DOUBT = decision("good", 0.1), decision("review", 0.7, "scratch")


@pytest.mark.parametrize(
    ("parts", "deciding", "labels"),
    [
        ([GOOD], 0, ("good",)),
        ([GOOD, decision("good", 0.2)], 1, ("good",)),
        ([DOUBT, GOOD], 0, ("scratch",)),
        # A defect that is certain of one image is one of the part, however doubtful another one is.
        ([DOUBT, decision("defect", 0.6, "pit")], 1, ("pit",)),
        ([decision("defect", 0.8, "scratch"), decision("defect", 0.9, "pit")], 1, ("pit", "scratch")),
        ([decision("defect", 0.9, "scratch"), decision("defect", 0.8, "scratch"), GOOD], 0, ("scratch",)),
        ([GOOD, decision("defect", 0.9, "scratch", "pit")], 1, ("scratch", "pit")),
    ],
)
def test_the_worst_image_decides(parts: list[NewDecision], deciding: int, labels: tuple[str, ...]) -> None:
    verdict = judge_part(parts, "good")
    assert (verdict.deciding, verdict.labels) == (deciding, labels)


@given(st.lists(st.builds(lambda d: decision("defect", d, "pit"), st.floats(0.01, 0.99)), min_size=1, max_size=4))
def test_without_a_good_class_the_surest_defect_decides(parts: list[NewDecision]) -> None:
    verdict = judge_part(parts, None)
    assert parts[verdict.deciding].probability == max(one.probability for one in parts)


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5), st.randoms())
def test_the_order_of_the_images_does_not_matter(defects: list[float], random: object) -> None:
    parts = [decision("defect" if d >= 0.5 else "good", d, *(["pit"] if d >= 0.5 else [])) for d in defects]
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = judge_part(parts, "good"), judge_part(shuffled, "good")
    assert one.labels == other.labels
    assert parts[one.deciding].scores["good"] == shuffled[other.deciding].scores["good"]
