from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.label_studio.binding import Binding, bind
from backend.label_studio.labeling_config import parse
from backend.label_studio.results import ExplainedRegion, ExplainedVerdict, to_result
from backend.label_studio.shapes import ShapeError, rasterise
from backend.review_comparison import Comparison, compare

Item = dict[str, Any]

CLASSES = ("good", "scratch", "pit", "stain")
CHOICES = (
    '<Choices name="verdict" toName="photo"><Choice value="Good"/><Choice value="Scratch" alias="scratch"/>'
    '<Choice value="pit"/><Choice value="stain"/><Choice value="unsure"/></Choices>'
)
OUTLINES = (
    '<PolygonLabels name="outline" toName="photo"><Label value="Kratzer" alias="scratch"/><Label value="pit"/>'
    '<Label value="rust"/></PolygonLabels>'
    '<BrushLabels name="mask" toName="photo"><Label value="stain"/></BrushLabels>'
    '<EllipseLabels name="oval" toName="photo"><Label value="pit"/></EllipseLabels>'
    '<KeyPointLabels name="point" toName="photo"><Label value="pit"/></KeyPointLabels>'
)
HEIGHT, WIDTH = 200, 300


def make_binding(controls: str = CHOICES + OUTLINES, mapping: dict[str, Any] | None = None) -> Binding:
    return bind(parse(f'<View><Image name="photo" value="$image"/>{controls}</View>'), CLASSES, "good", mapping)


BINDING = make_binding()


def predict(label: str, *regions: tuple[str, int, int], binding: Binding = BINDING) -> list[Item]:
    """A prediction with square regions of 20 pixels at x, y."""
    drawn = tuple(
        ExplainedRegion(
            np.array([[x, y], [x + 20, y], [x + 20, y + 20], [x, y + 20]], dtype=float),
            (x, y, 20, 20), np.ones((20, 20), dtype=bool), name, 0.9, 0.5,
        )
        for name, x, y in regions
    )  # fmt: skip
    return to_result(ExplainedVerdict(label, 0.9, "decision", (HEIGHT, WIDTH), drawn, "v1"), binding)


def choose(result: list[Item], *values: str) -> list[Item]:
    kept = [copy.deepcopy(item) for item in result if item["type"] != "choices"]
    chosen = {
        "id": "c",
        "from_name": "verdict",
        "to_name": "photo",
        "type": "choices",
        "value": {"choices": list(values)},
    }
    return [chosen, *kept] if values else kept


def polygon(label: str, x: float, y: float, side: float = 20, region_id: str = "new") -> Item:
    corners = [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]
    return {
        "id": region_id,
        "from_name": "outline",
        "to_name": "photo",
        "type": "polygonlabels",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": {
            "points": [[px / WIDTH * 100, py / HEIGHT * 100] for px, py in corners],
            "closed": True,
            "polygonlabels": [label],
        },
    }


def kinds(comparison: Comparison) -> list[str]:
    return [change.kind for change in comparison.regions]


def test_nothing_changed_is_accepted() -> None:
    shown = predict("scratch", ("scratch", 10, 10), ("stain", 100, 50))
    comparison = compare(shown, shown, binding=BINDING)
    assert (comparison.outcome, comparison.label_predicted, comparison.label_final) == (
        "accepted",
        "scratch",
        "scratch",
    )
    assert kinds(comparison) == ["kept", "kept"]
    assert comparison.mean_iou == 1.0 and comparison.reason == ""
    assert [change.control_before for change in comparison.regions] == ["polygonlabels", "brushlabels"]


def test_what_is_no_change() -> None:
    """Order, ids, notes, scores, locks, `origin`, other results and numbers written in another way."""
    shown = predict("scratch", ("scratch", 10, 10), ("stain", 100, 50))
    final = json.loads(json.dumps(shown))[::-1]
    for number, item in enumerate(final):
        item.update(id=f"other{number}", origin="manual", readonly=True, meta={"text": ["my note"]}, locked=False)
        item.pop("score", None)
        if "points" in item["value"]:
            item["value"]["points"] = [[round(x, 4), round(y, 4)] for x, y in item["value"]["points"]]
    final.append({"id": "t", "from_name": "remark", "to_name": "photo", "type": "textarea", "value": {"text": ["ok"]}})
    final.append({"from_name": "a", "to_name": "elsewhere", "type": "polygonlabels", "value": {}})
    comparison = compare(shown, final, binding=BINDING)
    assert comparison.outcome == "accepted" and kinds(comparison) == ["kept", "kept"]
    assert [change.region_id_final for change in comparison.regions] == ["other1", "other0"]


@pytest.mark.parametrize(
    ("label", "values", "outcome", "final"),
    [
        ("good", ["Good"], "accepted", "good"),
        ("good", ["pit"], "missed", "pit"),
        ("scratch", ["scratch"], "accepted", "scratch"),
        ("scratch", ["Scratch"], "accepted", "scratch"),
        ("scratch", ["pit"], "relabelled", "pit"),
        ("scratch", ["Good"], "rejected", "good"),
        ("scratch", ["scratch", "pit"], "adjusted", "scratch"),
        ("scratch", ["pit", "stain"], "relabelled", None),
        ("scratch", ["unsure"], "skipped", "unsure"),
        ("scratch", ["Good", "pit"], "skipped", "Good, pit"),
    ],
)
def test_the_outcome_of_a_choice(label: str, values: list[str], outcome: str, final: str | None) -> None:
    shown = predict(label)
    comparison = compare(shown, choose(shown, *values), binding=BINDING)
    assert (comparison.outcome, comparison.label_predicted, comparison.label_final) == (outcome, label, final)
    assert bool(comparison.reason) == (outcome == "skipped")


def test_skipped_is_skipped_whatever_it_holds() -> None:
    shown = predict("scratch", ("scratch", 10, 10))
    comparison = compare(shown, shown, binding=BINDING, was_cancelled=True)
    assert (comparison.outcome, comparison.label_predicted, comparison.label_final) == ("skipped", "scratch", None)
    assert comparison.regions == () and comparison.mean_iou is None


def test_a_moved_region_is_an_adjustment() -> None:
    shown = predict("scratch", ("scratch", 10, 10))
    final = [shown[0], polygon("scratch", 20, 10, region_id=shown[1]["id"])]
    comparison = compare(shown, final, binding=BINDING)
    assert comparison.outcome == "adjusted" and kinds(comparison) == ["moved"]
    assert comparison.regions[0].iou == comparison.mean_iou == pytest.approx(200 / 600)


def test_an_id_holds_a_region_that_went_far_and_overlap_one_that_lost_its_id() -> None:
    shown = predict("scratch", ("scratch", 10, 10), ("scratch", 100, 100))
    final = [shown[0], polygon("scratch", 200, 150, region_id=shown[1]["id"]), polygon("scratch", 104, 100)]
    far, near = compare(shown, final, binding=BINDING).regions
    assert (far.kind, far.iou, far.region_id_final) == ("moved", 0.0, shown[1]["id"])
    assert (near.kind, near.region_id_final) == ("moved", "new") and near.iou == pytest.approx(16 / 24)


def test_little_overlap_is_another_region() -> None:
    shown = predict("scratch", ("scratch", 10, 10))
    comparison = compare(shown, [shown[0], polygon("scratch", 27, 10)], binding=BINDING)
    assert kinds(comparison) == ["removed", "added"] and comparison.mean_iou == 0.0
    assert comparison.regions[0].region_id_final is None and comparison.regions[1].region_id_predicted is None


def test_regions_are_paired_for_the_best_overlap_of_all() -> None:
    """Greedy pairing would give the first region the second one's partner and leave the second alone."""
    shown = predict("scratch", ("scratch", 40, 40), ("scratch", 52, 40))
    final = [shown[0], polygon("scratch", 50, 40, region_id="b"), polygon("scratch", 30, 40, region_id="a")]
    assert [change.region_id_final for change in compare(shown, final, binding=BINDING).regions] == ["a", "b"]


def test_a_relabelled_region_is_an_adjustment_while_the_class_stays() -> None:
    shown = predict("scratch", ("scratch", 10, 10), ("scratch", 60, 10))
    final = copy.deepcopy(shown)
    final[2]["value"]["polygonlabels"] = ["pit"]
    comparison = compare(shown, final, binding=BINDING)
    assert comparison.outcome == "adjusted" and kinds(comparison) == ["kept", "relabelled"]
    assert (comparison.regions[1].label_before, comparison.regions[1].label_after) == ("scratch", "pit")
    assert comparison.regions[1].iou == 1.0


def test_a_label_shown_under_its_value_is_the_same_class() -> None:
    shown = predict("scratch", ("scratch", 10, 10))
    final = copy.deepcopy(shown)
    final[1]["value"]["polygonlabels"] = ["Kratzer"]
    assert compare(shown, final, binding=BINDING).outcome == "accepted"


def test_a_region_redrawn_with_another_tool_has_moved() -> None:
    shown = predict("pit", ("pit", 10, 10))
    oval = {
        **polygon("pit", 0, 0, region_id=shown[1]["id"]),
        "from_name": "oval",
        "type": "ellipselabels",
        "value": {"x": 20 / 3, "y": 10, "radiusX": 10 / 3, "radiusY": 5, "ellipselabels": ["pit"]},
    }
    (change,) = compare(shown, [shown[0], oval], binding=BINDING).regions
    assert (change.kind, change.control_before, change.control_after) == ("moved", "polygonlabels", "ellipselabels")
    assert change.iou == pytest.approx(np.pi / 4, abs=0.02)


def test_key_points_have_no_overlap() -> None:
    shown = predict("pit", ("pit", 10, 10))
    point = {
        **polygon("pit", 0, 0),
        "from_name": "point",
        "type": "keypointlabels",
        "value": {"x": 1, "y": 1, "width": 1, "keypointlabels": ["pit"]},
    }
    comparison = compare(shown, [*shown, point], binding=BINDING)
    assert comparison.outcome == "adjusted" and kinds(comparison) == ["kept", "added"]


def test_an_image_turned_in_the_editor_is_compared_by_its_numbers() -> None:
    shown = predict("pit", ("pit", 10, 10))
    final = copy.deepcopy(shown)
    final[1]["image_rotation"] = 90
    (change,) = compare(shown, final, binding=BINDING).regions
    assert (change.kind, change.iou) == ("moved", None)


def test_without_a_choice_the_regions_say_the_class() -> None:
    shown = predict("scratch", ("scratch", 10, 10))
    assert compare(shown, choose(shown), binding=BINDING).outcome == "adjusted"
    relabelled = compare(shown, [polygon("pit", 10, 10)], binding=BINDING)
    assert (relabelled.outcome, relabelled.label_final) == ("relabelled", "pit")
    both = compare(shown, [polygon("pit", 10, 10), polygon("scratch", 60, 10)], binding=BINDING)
    assert (both.outcome, both.label_final) == ("adjusted", "scratch")
    nothing = compare(shown, [], binding=BINDING)
    assert (nothing.outcome, nothing.label_final, nothing.reason) == ("skipped", None, "the annotation names no class")


def test_a_choice_without_a_class_is_a_verdict_with_a_drawn_region_only() -> None:
    good = predict("good")
    alone = compare(good, choose(good, "unsure"), binding=BINDING)
    assert alone.outcome == "skipped" and "INSPECTION_LABEL_MAPPING" in alone.reason
    drawn = compare(good, [*choose(good, "unsure"), polygon("rust", 10, 10)], binding=BINDING)
    assert (drawn.outcome, drawn.label_final) == ("missed", "unsure")


def test_where_there_are_no_choices_the_regions_are_the_verdict() -> None:
    binding = make_binding(OUTLINES)
    shown = predict("scratch", ("scratch", 10, 10), binding=binding)
    assert compare(shown, shown, binding=binding).outcome == "accepted"
    rejected = compare(shown, [], binding=binding)
    assert (rejected.outcome, rejected.label_final) == ("rejected", "good")
    assert compare([], [], binding=binding).outcome == "accepted"
    assert compare([], [polygon("pit", 1, 1)], binding=binding).outcome == "missed"
    unknown = compare([], [polygon("rust", 1, 1)], binding=binding)
    assert (unknown.outcome, unknown.label_final) == ("missed", "rust")


VERDICTS = '<Choices name="verdict" toName="photo"><Choice value="accept"/><Choice value="reject"/></Choices>'


def test_choices_that_no_class_is_bound_to_leave_the_regions_to_decide() -> None:
    binding = make_binding(VERDICTS + OUTLINES)
    shown = predict("scratch", ("scratch", 10, 10), binding=binding)
    assert compare(shown, choose(shown, "reject"), binding=binding).outcome == "adjusted"
    emptied = compare(shown, choose([], "accept"), binding=binding)
    assert emptied.outcome == "skipped" and "accept" in emptied.reason
    per_region = {**choose([], "deep")[0], "id": shown[0]["id"], "from_name": "depth"}
    assert compare(shown, [*shown, per_region], binding=binding).outcome == "accepted"


def test_classes_that_share_a_choice() -> None:
    mapping = {"good": "accept", "scratch": "reject", "pit": "reject", "stain": "reject"}
    binding = make_binding(VERDICTS + OUTLINES, mapping)
    shown = predict("scratch", ("scratch", 10, 10), binding=binding)
    assert compare(shown, shown, binding=binding, decided=("scratch",)).outcome == "accepted"
    assert compare(shown, shown, binding=binding).label_predicted == "scratch"
    other = compare(shown, [shown[0], polygon("pit", 10, 10)], binding=binding, decided=("scratch",))
    assert (other.outcome, other.label_final) == ("relabelled", "pit")
    accepted = compare(shown, choose([], "accept"), binding=binding, decided=("scratch",))
    assert (accepted.outcome, accepted.label_final) == ("rejected", "good")
    good = predict("good", binding=binding)
    missed = compare(good, choose(good, "reject"), binding=binding, decided=("good",))
    assert (missed.outcome, missed.label_final) == ("missed", None)
    bare = compare(choose([], "reject"), choose([], "reject"), binding=binding)
    assert (bare.outcome, bare.label_predicted) == (None, None) and "not known" in bare.reason


def test_without_a_prediction_only_classes_are_compared() -> None:
    final = [*choose([], "pit"), polygon("pit", 10, 10)]
    same = compare(None, final, binding=BINDING, decided=("pit",))
    assert (same.outcome, same.regions, same.mean_iou) == ("accepted", (), None) and same.reason
    assert compare(None, final, binding=BINDING, decided=("good",)).outcome == "missed"
    assert compare(None, final, binding=BINDING, decided=("stain",)).outcome == "relabelled"
    assert compare(None, choose([], "Good"), binding=BINDING, decided=("stain",)).outcome == "rejected"
    assert compare(None, final, binding=BINDING).outcome is None


def test_the_captured_annotations(payloads: Path) -> None:
    schema = json.loads((payloads / "setup.json").read_text(encoding="utf-8"))["json"]["schema"]
    mapping = {
        "ok": "accept",
        "scratch": ["reject", "scratch"],
        "dent": ["reject", "dent"],
        "stain": ["reject", "stain"],
    }
    binding = bind(parse(schema), ("ok", "scratch", "dent", "stain"), "ok", mapping)
    updated = json.loads((payloads / "webhook_annotation_updated.json").read_text(encoding="utf-8"))["json"][
        "annotation"
    ]
    unsure = compare(updated["prediction"]["result"], updated["result"], binding=binding, decided=("scratch",))
    assert (unsure.outcome, unsure.label_final, kinds(unsure)) == ("skipped", "unsure", ["kept"] * 3)
    stored = json.loads((payloads / "api_annotation.json").read_text(encoding="utf-8"))
    again = compare(updated["prediction"]["result"], stored["result"], binding=binding, decided=("scratch",))
    assert again.outcome == "accepted" and kinds(again) == ["kept"] * 3
    created = json.loads((payloads / "webhook_annotation_created.json").read_text(encoding="utf-8"))["json"][
        "annotation"
    ]
    accept = compare(created["prediction"]["result"], created["result"], binding=binding, decided=("scratch",))
    assert (accept.outcome, accept.label_final, kinds(accept)) == ("rejected", "ok", ["removed"] * 3)


def test_hostile_results_are_compared_without_a_crash() -> None:
    shown = predict("scratch", ("scratch", 10, 10))
    odd: list[Item] = [
        {"type": "polygonlabels", "to_name": "photo"},
        {"type": "polygonlabels", "to_name": "photo", "value": "x", "id": shown[1]["id"]},
        {"type": "brushlabels", "to_name": "photo", "value": {"rle": ["x"], "brushlabels": None}},
        {"type": "choices", "to_name": "photo", "from_name": "verdict", "value": {"choices": None}},
        {"type": "choices", "to_name": "photo", "from_name": "verdict"},
        {"to_name": "photo"},
    ]
    comparison = compare(shown, odd, binding=BINDING)
    assert comparison.outcome is not None
    assert sorted(kinds(comparison)) == ["added", "added", "relabelled"]


CELL = 50
CELLS = [(x, y) for y in range(0, HEIGHT - CELL + 1, CELL) for x in range(0, WIDTH - CELL + 1, CELL)]


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_exactly_the_edits_made_are_found(data: st.DataObject) -> None:
    """Regions live in cells of their own, so each edit is certain. Ids may get lost, and the order always does."""
    cells = data.draw(st.permutations(CELLS))
    count = data.draw(st.integers(0, 5))
    label = data.draw(st.sampled_from(CLASSES)) if count == 0 else data.draw(st.sampled_from(CLASSES[1:3]))
    regions = [(data.draw(st.sampled_from(["scratch", "pit"])), x + 10, y + 10) for x, y in cells[:count]]
    shown = predict(label, *regions)
    final: list[Item] = [copy.deepcopy(shown[0])]
    expected: list[tuple[str, str | None, str | None]] = []
    ious: list[float] = []
    for item, (name, x, y) in zip(shown[1:], regions, strict=True):
        edit = data.draw(st.sampled_from(["kept", "moved", "relabelled", "removed"]))
        edited = copy.deepcopy(item)
        other = "pit" if name == "scratch" else "scratch"
        iou = 1.0
        if edit == "moved":
            dx = data.draw(st.integers(1, 10))
            edited = polygon(name, x + dx, y, region_id=item["id"])
            iou = (20 - dx) / (20 + dx)
        if edit == "relabelled":
            edited["value"]["polygonlabels"] = [other]
        if data.draw(st.booleans()):
            edited["id"] = f"lost-{item['id']}"
        if edit != "removed":
            final.append(edited)
        expected.append((edit, name, None if edit == "removed" else other if edit == "relabelled" else name))
        ious.append(0.0 if edit == "removed" else iou)
    for number, (x, y) in enumerate(cells[count : count + data.draw(st.integers(0, 2))]):
        name = data.draw(st.sampled_from(["scratch", "pit", "rust"]))
        final.append(polygon(name, x + 5, y + 5, region_id=f"added{number}"))
        expected.append(("added", None, name))
        ious.append(0.0)
    new_label = data.draw(st.sampled_from(CLASSES))
    final[0]["value"]["choices"] = [BINDING.choices[new_label]]
    edits = [edit for edit, _, _ in expected]
    label_final: str | None = new_label
    added = {name for edit, _, name in expected if edit == "added" and name in CLASSES}
    if label == new_label == "good" and added:
        # A defect drawn outweighs the tick that was there before.
        outcome, label_final = "missed", next(iter(added)) if len(added) == 1 else None
    elif label == new_label:
        outcome = "accepted" if set(edits) <= {"kept"} else "adjusted"
    elif label == "good":
        outcome = "missed"
    else:
        outcome = "rejected" if new_label == "good" else "relabelled"

    comparison = compare(shown, data.draw(st.permutations(final)), binding=BINDING)

    found = [(change.kind, change.label_before, change.label_after) for change in comparison.regions]
    assert found[:count] == expected[:count]
    assert sorted(map(str, found[count:])) == sorted(map(str, expected[count:]))
    assert [change.iou for change in comparison.regions[:count]] == pytest.approx(ious[:count])
    assert (comparison.outcome, comparison.label_predicted, comparison.label_final) == (outcome, label, label_final)
    assert comparison.mean_iou == (pytest.approx(sum(ious) / len(ious)) if ious else None)


SEVERAL = make_binding(CHOICES.replace('name="verdict"', 'name="verdict" choice="multiple"') + OUTLINES)


@pytest.mark.parametrize(
    ("values", "outcome", "label", "labels"),
    [
        (["scratch", "pit"], "accepted", None, ("scratch", "pit")),
        (["pit", "scratch"], "accepted", None, ("scratch", "pit")),
        (["scratch"], "relabelled", "scratch", ("scratch",)),
        (["scratch", "pit", "stain"], "relabelled", None, ("scratch", "pit", "stain")),
        (["stain"], "relabelled", "stain", ("stain",)),
        (["Good"], "rejected", "good", ("good",)),
        (["Good", "pit"], "skipped", "Good, pit", None),
    ],
)
def test_several_classes_where_several_can_be_ticked(
    values: list[str], outcome: str, label: str | None, labels: tuple[str, ...] | None
) -> None:
    shown = choose([], "scratch", "pit")
    comparison = compare(shown, choose([], *values), binding=SEVERAL, decided=("scratch", "pit"))
    assert (comparison.outcome, comparison.label_final, comparison.labels_final) == (outcome, label, labels)
    assert comparison.label_predicted == "scratch"


def test_a_second_class_ticked_beside_the_decided_one_is_another_finding() -> None:
    shown = predict("scratch", ("scratch", 10, 10), binding=SEVERAL)
    both = compare(shown, choose(shown, "scratch", "pit"), binding=SEVERAL, decided=("scratch",))
    assert (both.outcome, both.label_final, both.labels_final) == ("relabelled", None, ("scratch", "pit"))
    same = compare(shown, [shown[0], polygon("scratch", 15, 10)], binding=SEVERAL, decided=("scratch",))
    assert (same.outcome, same.labels_final) == ("adjusted", ("scratch",))
    good = predict("good", binding=SEVERAL)
    missed = compare(good, choose(good, "pit", "stain"), binding=SEVERAL, decided=("good",))
    assert (missed.outcome, missed.labels_final) == ("missed", ("pit", "stain"))


def test_several_decided_classes_where_one_can_be_ticked_are_read_from_the_regions() -> None:
    shown = predict("scratch", ("scratch", 10, 10), ("pit", 100, 100))
    decided = ("scratch", "pit")
    same = compare(shown, shown, binding=BINDING, decided=decided)
    assert (same.outcome, same.label_final, same.labels_final) == ("accepted", None, decided)
    moved = [shown[0], polygon("scratch", 14, 10, region_id=shown[1]["id"]), shown[2]]
    assert compare(shown, moved, binding=BINDING, decided=decided).outcome == "adjusted"
    fewer = compare(shown, shown[:2], binding=BINDING, decided=decided)
    assert (fewer.outcome, fewer.label_final, fewer.labels_final) == ("relabelled", "scratch", ("scratch",))
    other = compare(shown, choose(shown[:1] + shown[2:], "stain"), binding=BINDING, decided=decided)
    assert (other.outcome, other.labels_final) == ("relabelled", ("pit", "stain"))
    nothing_drawn = predict("scratch", ("scratch", 10, 10))
    kept = [nothing_drawn[0], polygon("scratch", 14, 10, region_id=nothing_drawn[1]["id"])]
    # What was decided without a region cannot be taken away by leaving no region.
    assert compare(nothing_drawn, kept, binding=BINDING, decided=decided).outcome == "adjusted"


def test_classes_that_share_a_choice_beside_another_one() -> None:
    controls = VERDICTS.replace('name="verdict"', 'name="verdict" choice="multiple"')
    binding = make_binding(controls + OUTLINES, dict.fromkeys(CLASSES[1:], "reject") | {"good": "accept"})
    shown = predict("scratch", ("scratch", 10, 10), ("pit", 100, 100), binding=binding)
    assert compare(shown, shown, binding=binding, decided=("scratch", "pit")).outcome == "accepted"
    other = compare(shown, [shown[0], shown[2]], binding=binding, decided=("scratch", "pit"))
    assert (other.outcome, other.labels_final) == ("relabelled", ("pit",))
    moved = [shown[0], polygon("scratch", 14, 10, region_id=shown[1]["id"]), shown[2]]
    assert compare(shown, moved, binding=binding, decided=("scratch", "pit")).outcome == "adjusted"
    good = predict("good", binding=binding)
    bare = compare(good, choose(good, "reject"), binding=binding, decided=("good",))
    assert (bare.outcome, bare.label_final, bare.labels_final) == ("missed", None, ())


def left_to_the_inspector(*regions: tuple[str, int, int], binding: Binding = BINDING) -> list[Item]:
    drawn = [item for item in predict("scratch", *regions, binding=binding) if item["type"] != "choices"]
    assert len(drawn) == len(regions)
    return drawn


@pytest.mark.parametrize("decided", [("good",), ("scratch",), ("scratch", "pit")])
@pytest.mark.parametrize("binding", [BINDING, SEVERAL])
@pytest.mark.parametrize(
    ("values", "labels"), [(["Good"], ("good",)), (["scratch"], ("scratch",)), (["stain"], ("stain",))]
)
def test_an_answer_to_what_was_left_to_the_inspector_is_their_decision(
    values: list[str], labels: tuple[str, ...], binding: Binding, decided: tuple[str, ...]
) -> None:
    """Neither an escape nor overkill, and no agreement, whatever the model found most probable."""
    shown = left_to_the_inspector(("scratch", 10, 10))
    comparison = compare(shown, choose(shown, *values), binding=binding, decided=decided, is_for_review=True)
    assert (comparison.outcome, comparison.label_predicted) == ("decided", None)
    assert (comparison.label_final, comparison.labels_final) == (labels[0], labels)
    assert kinds(comparison) == ["kept"]


def test_nothing_said_of_what_was_left_to_the_inspector_is_skipped() -> None:
    for shown in (left_to_the_inspector(("scratch", 10, 10)), []):
        comparison = compare(shown, shown, binding=BINDING, decided=("scratch",), is_for_review=True)
        assert (comparison.outcome, comparison.label_final, comparison.labels_final) == ("skipped", None, None)
        assert "ticked nothing" in comparison.reason
    unsure = compare([], choose([], "unsure"), binding=BINDING, decided=("good",), is_for_review=True)
    assert (unsure.outcome, unsure.label_final) == ("skipped", "unsure")
    cancelled = compare([], [], binding=BINDING, decided=("good",), is_for_review=True, was_cancelled=True)
    assert (cancelled.outcome, cancelled.label_predicted) == ("skipped", None)


def test_a_region_drawn_decides_and_contradicts_a_tick_for_good() -> None:
    drawn = [polygon("pit", 10, 10)]
    decided = compare([], drawn, binding=BINDING, decided=("good",), is_for_review=True)
    assert (decided.outcome, decided.labels_final) == ("decided", ("pit",))
    both = compare([], choose(drawn, "Good"), binding=BINDING, decided=("good",), is_for_review=True)
    assert (both.outcome, both.label_final, both.labels_final) == ("skipped", "good", None)
    assert "a defect was drawn" in both.reason


def test_without_choices_the_regions_left_are_the_inspectors_decision() -> None:
    binding = make_binding(OUTLINES)
    shown = left_to_the_inspector(("scratch", 10, 10), binding=binding)
    kept = compare(shown, shown, binding=binding, decided=("good",), is_for_review=True)
    assert (kept.outcome, kept.labels_final) == ("decided", ("scratch",))
    emptied = compare(shown, [], binding=binding, decided=("scratch",), is_for_review=True)
    assert (emptied.outcome, emptied.labels_final) == ("decided", ("good",))


@settings(max_examples=60, deadline=None)
@given(
    decided=st.lists(st.sampled_from(CLASSES[1:3]), min_size=1, max_size=2, unique=True),
    ticked=st.lists(st.sampled_from(CLASSES[1:]), min_size=1, max_size=3, unique=True),
)
def test_sets_of_classes_are_compared_as_sets(decided: list[str], ticked: list[str]) -> None:
    comparison = compare(choose([], *decided), choose([], *ticked), binding=SEVERAL, decided=tuple(decided))
    assert comparison.labels_final == tuple(name for name in CLASSES if name in ticked)
    assert comparison.label_final == (ticked[0] if len(ticked) == 1 else None)
    assert comparison.outcome == ("accepted" if set(decided) == set(ticked) else "relabelled")


def test_a_region_of_another_picture_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes of run-length code may claim 400 million pixels."""
    drawn: list[tuple[int, int]] = []

    def rasterise(region: Item) -> np.ndarray:
        drawn.append((region["original_height"], region["original_width"]))
        return np.ones((HEIGHT, WIDTH), dtype=bool)

    monkeypatch.setattr("backend.region_changes.rasterise", rasterise)
    before = predict("stain", ("stain", 10, 10))
    bomb = {**polygon("stain", 0, 0), "from_name": "mask", "type": "brushlabels"}
    bomb |= {"original_width": 20_000, "original_height": 20_000, "value": {"rle": [0], "brushlabels": ["stain"]}}
    result = compare(before, [*choose(before, "stain")[:1], *(dict(bomb, id=str(n)) for n in range(200))],
                     binding=BINDING, decided=("stain",))  # fmt: skip
    assert (20_000, 20_000) not in drawn
    assert {one.kind for one in result.regions} == {"removed", "added"}


def test_a_polygon_of_ten_thousand_points_is_compared() -> None:
    before = predict("pit", ("pit", 100, 100))
    angles = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    circle = np.stack([50 + 40 * np.cos(angles), 50 + 40 * np.sin(angles)], axis=1)
    drawn = {**polygon("pit", 0, 0), "value": {"points": circle.tolist(), "polygonlabels": ["pit"], "closed": True}}
    result = compare(before, [*choose(before, "pit"), drawn], binding=BINDING, decided=("pit",))
    assert (result.outcome, [one.kind for one in result.regions]) == ("adjusted", ["kept", "added"])


@pytest.mark.parametrize(
    "bad", [float("nan"), float("inf"), -1e300, 10**400, None, "x", [[1]]], ids=lambda bad: str(bad)[:9]
)
def test_coordinates_that_are_no_numbers_of_percent_are_told_apart_and_break_nothing(bad: Any) -> None:
    before = predict("pit", ("pit", 100, 100))
    strange = polygon("pit", 0, 0, region_id=before[1]["id"])
    strange["value"]["points"][1][0] = bad
    [change] = compare(before, [before[0], strange], binding=BINDING, decided=("pit",)).regions
    assert (change.kind, change.iou) == ("moved", None)
    turned = {**strange, "type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": 5, "height": 5, "rotation": bad}}
    if bad is not None:
        with pytest.raises(ShapeError):
            rasterise(turned)


def test_what_was_asked_of_the_model_and_what_it_said_are_no_edits() -> None:
    config = parse(
        '<View><Image name="img" value="$image"/><Choices name="c" toName="img"><Choice value="good"/>'
        '<Choice value="crack"/></Choices><RectangleLabels name="where" toName="img"><Label value="crack"/>'
        '</RectangleLabels><RectangleLabels name="ask" toName="img" smart="true" smartOnly="true">'
        '<Label value="crack"/></RectangleLabels></View>'
    )
    binding = bind(config, ("good", "crack"), "good")
    value = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["crack"]}
    common = {"to_name": "img", "original_width": 64, "original_height": 48, "image_rotation": 0}
    drawn = {"id": "a", "from_name": "where", "type": "rectanglelabels", "value": value, **common}
    asked = {**drawn, "id": "q", "from_name": "ask", "value": {**value, "x": 60}}
    said = {"id": "answer", "from_name": "answer", "to_name": "img", "type": "textarea", "value": {"text": ["x"]}}
    choice = {"id": "c", "from_name": "c", "to_name": "img", "type": "choices", "value": {"choices": ["crack"]}}
    left = compare([choice, drawn], [choice, drawn, asked, said], binding=binding, decided=("crack",))
    assert left.outcome == "accepted"
    drawn_as_well = {**asked, "from_name": "where"}
    assert compare([choice, drawn], [choice, drawn, drawn_as_well], binding=binding, decided=("crack",)).outcome == (
        "adjusted"
    )
