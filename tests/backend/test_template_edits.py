"""Random verdicts said in each template, and random edits of them: outcome and changes are exactly those edits."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.label_studio.binding import Binding, bind
from backend.label_studio.labeling_config import LabelingConfig, parse
from backend.label_studio.results import ExplainedRegion, ExplainedVerdict, to_prediction, validate
from backend.label_studio.template import REASONS, TEMPLATES, labeling_configuration
from backend.review_comparison import compare
from inspection_models import brush_rle

CLASSES = ("good", "scratch", "pit", "stain")
DEFECTS = CLASSES[1:]
HEIGHT, WIDTH, SIDE = 120, 160, 20
CELLS = [(x, y) for y in range(0, HEIGHT, 40) for x in range(0, WIDTH, 40)]
Item = dict[str, Any]


def made(template: str) -> tuple[LabelingConfig, Binding]:
    config = parse(labeling_configuration(CLASSES, "good", heading="Which?", template=TEMPLATES[template]))
    return config, bind(config, CLASSES, "good")


MADE = {template: made(template) for template in TEMPLATES}


def region(label: str, x: int, y: int) -> ExplainedRegion:
    corners = np.array([[x, y], [x + SIDE, y], [x + SIDE, y + SIDE], [x, y + SIDE]], dtype=float)
    return ExplainedRegion(corners, (x, y, SIDE, SIDE), np.ones((SIDE, SIDE), dtype=bool), label, 0.9, 0.2)


def shifted(item: Item) -> Item:
    """The same region 4 pixels to the right: two thirds of it are shared with the former."""
    value = copy.deepcopy(item["value"])
    by = 4 / WIDTH * 100
    if item["type"] == "polygonlabels":
        value["points"] = [[x + by, y] for x, y in value["points"]]
    elif item["type"] == "rectanglelabels":
        value["x"] += by
    else:
        value["rle"] = brush_rle.encode(np.roll(brush_rle.decode(value["rle"], HEIGHT, WIDTH), 4, axis=1))
    return {**item, "value": value}


def relabelled(item: Item, label: str) -> Item:
    return {**item, "value": {**item["value"], item["type"]: [label]}}


@st.composite
def edited(draw: st.DrawFn, item: Item) -> tuple[str, Item | None]:
    """What became of a region, and what is left of it."""
    before = item["value"][item["type"]][0]
    fate = draw(st.sampled_from(["kept", "moved", "removed", "relabelled"]))
    if fate == "removed":
        return fate, None
    if fate == "relabelled":
        return fate, relabelled(item, draw(st.sampled_from([name for name in DEFECTS if name != before])))
    # Label Studio itself may give a region another id, as it does to a copy.
    item = {**item, "id": f"x{item['id']}"} if draw(st.booleans()) else item
    return fate, shifted(item) if fate == "moved" else item


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_exactly_the_edits_made_are_found_in_every_template(template: str, data: st.DataObject) -> None:
    config, binding = MADE[template]
    label = data.draw(st.sampled_from(CLASSES))
    images = {}
    for image in binding.images:
        cells = data.draw(st.permutations(CELLS)) if label != "good" else []
        drawn = [region(data.draw(st.sampled_from(DEFECTS)), x, y) for x, y in cells[: data.draw(st.integers(0, 3))]]
        # The same decision on each image, as where one photograph stands twice.
        images[image.name] = ExplainedVerdict(label, 0.9, "decision", (HEIGHT, WIDTH), tuple(drawn), "v1")
    prediction = to_prediction(images[binding.images[0].name], binding, images)
    assert validate(prediction, config) == ()

    untouched = compare(prediction["result"], prediction["result"], binding=binding, decided=(label,))
    assert (untouched.outcome, untouched.label_final) == ("accepted", label)
    assert {one.kind for one in untouched.regions} <= {"kept"}

    regions = [item for item in prediction["result"] if item["type"] == TEMPLATES[template].regions]
    others = [item for item in prediction["result"] if item not in regions]
    made_of = [data.draw(edited(item)) for item in regions]
    final = data.draw(st.sampled_from(CLASSES))
    for item in others:
        if item["from_name"] == "defect":
            others[others.index(item)] = {**item, "value": {"choices": [final]}}
    why = data.draw(st.lists(st.sampled_from(sorted(REASONS)), max_size=2, unique=True))
    if why:
        ticked = {"id": "why", "from_name": "reason", "to_name": binding.choice_image, "type": "choices"}
        others.append({**ticked, "value": {"choices": why}})
    left = [item for _, item in made_of if item is not None]
    comparison = compare(
        prediction["result"], data.draw(st.permutations([*others, *left])), binding=binding, decided=(label,)
    )

    assert [one.kind for one in comparison.regions] == [fate for fate, _ in made_of]
    places = {image.name: image.variable for image in binding.images}
    several = len(places) > 1
    assert [one.image for one in comparison.regions] == [
        places[item["to_name"]] if several else None for item in regions
    ]
    if final == label:
        expected = "accepted" if {fate for fate, _ in made_of} <= {"kept"} else "adjusted"
    elif label == "good":
        expected = "missed"
    else:
        expected = "rejected" if final == "good" else "relabelled"
    assert (comparison.outcome, comparison.label_final) == (expected, final)
