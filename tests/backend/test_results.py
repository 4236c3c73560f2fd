from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface

from backend.label_studio.binding import Binding, bind
from backend.label_studio.labeling_config import LabelingConfig, parse
from backend.label_studio.results import (
    ExplainedRegion,
    ExplainedVerdict,
    choice_id,
    region_id,
    summary,
    to_prediction,
    validate,
)

XML = """<View><Image name="photo" value="$image"/>
<Choices name="verdict" toName="photo"><Choice value="good"/><Choice value="Scratches" alias="scratch"/>
<Choice value="pit"/><Choice value="stain"/></Choices>
<PolygonLabels name="outline" toName="photo"><Label value="Kratzer" alias="scratch"/></PolygonLabels>
<BrushLabels name="mask" toName="photo"><Label value="pit"/></BrushLabels>
<RectangleLabels name="box" toName="photo"><Label value="stain"/></RectangleLabels></View>"""
CLASSES = ("good", "scratch", "pit", "stain")
DECISION = "01920b7e-7d3f-7c4a-9b1e-2f6a5c8d9e01"
HEIGHT, WIDTH = 48, 64


@pytest.fixture(scope="module")
def config() -> LabelingConfig:
    return parse(XML)


@pytest.fixture(scope="module")
def binding(config: LabelingConfig) -> Binding:
    return bind(config, CLASSES, "good")


def region(label: str, x: int = 3, y: int = 5, width: int = 7, height: int = 4) -> ExplainedRegion:
    mask = np.ones((height, width), dtype=bool)
    mask[0, 0] = False
    polygon = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height + 0.5]], dtype=float)
    return ExplainedRegion(polygon, (x, y, width, height), mask, label, 0.97, 0.62)


def verdict(*regions: ExplainedRegion, label: str = "scratch") -> ExplainedVerdict:
    return ExplainedVerdict(label, 0.97, DECISION, (HEIGHT, WIDTH), regions, "steel-1+ab12")


def test_the_prediction_of_a_polygon(binding: Binding, config: LabelingConfig) -> None:
    prediction = to_prediction(verdict(region("scratch")), binding)
    assert prediction["score"] == 0.97
    assert prediction["model_version"] == "steel-1+ab12"
    choice, drawn = prediction["result"]
    assert choice == {
        "id": choice_id(DECISION),
        "from_name": "verdict",
        "to_name": "photo",
        "type": "choices",
        "score": 0.97,
        "value": {"choices": ["scratch"]},
    }
    assert drawn["id"] == region_id(DECISION, 0)
    assert (drawn["from_name"], drawn["to_name"], drawn["type"]) == ("outline", "photo", "polygonlabels")
    assert (drawn["original_width"], drawn["original_height"], drawn["image_rotation"]) == (WIDTH, HEIGHT, 0)
    assert drawn["meta"]["text"] == [
        f"scratch: 62 % of the evidence, cut from the map, probability 0.97, decision {DECISION}"
    ]
    assert drawn["value"]["polygonlabels"] == ["scratch"] and drawn["value"]["closed"] is True
    pixels = np.array(drawn["value"]["points"]) / 100 * (WIDTH, HEIGHT)
    np.testing.assert_allclose(pixels, region("scratch").polygon, rtol=0, atol=1e-12)
    assert validate(prediction, config) == ()


def test_brush_and_rectangle_hold_the_same_pixels(binding: Binding, config: LabelingConfig) -> None:
    prediction = to_prediction(
        verdict(region("pit"), region("stain", x=60, y=44, width=4, height=4), label="pit"), binding
    )
    brush, box = prediction["result"][1:]
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[5:9, 3:10] = region("pit").mask
    np.testing.assert_array_equal(decode_rle(brush["value"]["rle"]).reshape(HEIGHT, WIDTH, 4)[:, :, 3] == 255, expected)
    value = box["value"]
    assert value["rectanglelabels"] == ["stain"] and value["rotation"] == 0
    np.testing.assert_allclose(
        [value["x"] * WIDTH, value["y"] * HEIGHT, value["width"] * WIDTH, value["height"] * HEIGHT],
        [6000, 4400, 400, 400],
        rtol=1e-12,
    )
    assert validate(prediction, config) == ()


def test_good_is_a_choice_alone(binding: Binding, config: LabelingConfig) -> None:
    prediction = to_prediction(verdict(label="good"), binding)
    assert [item["value"] for item in prediction["result"]] == [{"choices": ["good"]}]
    assert validate(prediction, config) == ()


def test_what_has_no_words_is_left_out(config: LabelingConfig) -> None:
    prediction = to_prediction(
        verdict(region("rust"), region("scratch"), label="rust"), bind(config, (*CLASSES, "rust"), "good")
    )
    assert [item["from_name"] for item in prediction["result"]] == ["outline"]
    assert prediction["result"][0]["id"] == region_id(DECISION, 1)


def test_ids_are_short_the_same_each_time_and_apart() -> None:
    ids = [choice_id(DECISION), *(region_id(DECISION, index) for index in range(50)), region_id(DECISION + "x", 0)]
    assert len(set(ids)) == len(ids)
    assert max(map(len, ids)) <= 16
    assert region_id(DECISION, 3) == region_id(DECISION, 3)


def test_a_region_of_wrong_shape_is_refused() -> None:
    good = region("pit")
    with pytest.raises(ValueError, match="polygon"):
        ExplainedRegion(good.polygon[:2], good.box, good.mask, "pit", 0.5, 0.5)
    with pytest.raises(ValueError, match="mask"):
        ExplainedRegion(good.polygon, good.box, good.mask.T, "pit", 0.5, 0.5)


@given(data=st.data())
def test_every_prediction_passes_here_and_in_the_library(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    regions = []
    for _ in range(data.draw(st.integers(0, 3))):
        x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
        w, h = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
        polygon = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], dtype=float)
        label = data.draw(st.sampled_from(CLASSES[1:]))
        score = data.draw(st.floats(0, 1))
        regions.append(ExplainedRegion(polygon, (x, y, w, h), np.ones((h, w), dtype=bool), label, score, score))
    shown = ExplainedVerdict(data.draw(st.sampled_from(CLASSES)), 0.5, DECISION, (height, width), tuple(regions), "v1")
    parsed = parse(XML)
    prediction = json.loads(json.dumps(to_prediction(shown, bind(parsed, CLASSES, "good")), allow_nan=False))
    assert validate(prediction, parsed) == ()
    assert LabelInterface(XML).validate_prediction(prediction, return_errors=True) == []
    assert len(prediction["result"]) == 1 + len(regions)


def spoil(prediction: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    spoilt = copy.deepcopy(prediction)
    *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    target: Any = spoilt
    for key in parents:
        target = target[key]
    target[last] = value
    return spoilt


@pytest.mark.parametrize(
    ("path", "value", "said", "library_sees_it"),
    [
        ("score", 1.2, "score is 1.2", True),
        ("score", float("nan"), "score is nan", True),
        ("score", "high", "score is 'high'", True),
        ("model_version", "", "names no model_version", False),
        ("result", None, "no list", True),
        ("result/0", 3, "is no object", True),
        ("result/0/from_name", "gone", "which the configuration does not have", True),
        ("result/0/to_name", "elsewhere", "stands on 'elsewhere'", True),
        ("result/0/value/choices", ["unknown"], "says 'unknown'", True),
        ("result/0/value/choices", [], "names nothing", False),
        ("result/0/value/choices", ["good", "pit"], "takes one", False),
        ("result/0/type", "polygonlabels", "has the type", True),
        ("result/1/score", 7, "score is 7", False),
        ("result/1/id", None, "has no id", False),
        ("result/2/id", region_id(DECISION, 0), "used twice", False),
        ("result/1/original_width", None, "original_width", False),
        ("result/1/image_rotation", 90, "image_rotation 0", False),
        ("result/1/value", None, "has no value", True),
        ("result/1/value/points", [[1, 2], [3, 4]], "fewer than 3", False),
        ("result/1/value/points", [[1, 2], [3, 4], [5, 101]], "percent", False),
        ("result/1/value/points", [[1, 2], [3, 4], [5, float("nan")]], "percent", False),
        ("result/1/value/polygonlabels", ["dent"], "says 'dent'", True),
        ("result/2/value/rle", [1, 2, 3], "cannot be read", False),
        ("result/2/original_width", 63, "cannot be read", False),
        ("result/2/value/format", "png", "not of the format", False),
        ("result/3/value/width", 99.0, "beyond the image", False),
        ("result/3/value/x", 100.5, "percent", True),
        ("result/3/value/rotation", 45, "turned", False),
    ],
)
def test_says_what_is_wrong(
    binding: Binding, config: LabelingConfig, path: str, value: Any, said: str, library_sees_it: bool
) -> None:
    sound = to_prediction(verdict(region("scratch"), region("pit"), region("stain")), binding)
    assert validate(sound, config) == ()
    spoilt = spoil(sound, path, value)
    errors = validate(spoilt, config)
    assert any(said in error for error in errors), errors
    if library_sees_it:
        assert LabelInterface(XML).validate_prediction(spoilt, return_errors=True)


def test_judges_a_captured_prediction(payloads: Path) -> None:
    schema = json.loads((payloads / "setup.json").read_text(encoding="utf-8"))["json"]["schema"]
    stored = json.loads((payloads / "api_prediction.json").read_text(encoding="utf-8"))
    assert validate(stored, parse(schema)) == ()


SEVERAL = XML.replace('<Choices name="verdict"', '<Choices name="verdict" choice="multiple"')


def test_all_decided_classes_are_ticked_where_several_can_be(binding: Binding) -> None:
    both = ExplainedVerdict(
        "scratch", 0.97, DECISION, (HEIGHT, WIDTH), (region("scratch"), region("pit", 20)), "v1", also=(("pit", 0.81),)
    )
    config = parse(SEVERAL)
    prediction = to_prediction(both, bind(config, CLASSES, "good"))
    choice, *regions = prediction["result"]
    assert choice["value"]["choices"] == ["scratch", "pit"]
    assert [item["type"] for item in regions] == ["polygonlabels", "brushlabels"]
    assert prediction["score"] == 0.97
    assert validate(prediction, config) == ()
    # Where one can be ticked it is the most probable, and the regions of all are drawn and say so.
    single = to_prediction(both, binding)
    assert single["result"][0]["value"]["choices"] == ["scratch"]
    assert [item["type"] for item in single["result"][1:]] == ["polygonlabels", "brushlabels"]
    assert "decided: scratch 0.97, pit 0.81" in single["result"][2]["meta"]["text"][0]
    assert validate(single, parse(XML)) == ()


def test_classes_that_share_a_choice_tick_it_once() -> None:
    config = parse(SEVERAL.replace('value="pit"', 'value="reject"', 1))
    binding = bind(config, CLASSES, "good", {"scratch": ["reject", "Kratzer"], "pit": ["reject", "pit"]})
    both = ExplainedVerdict("scratch", 0.97, DECISION, (HEIGHT, WIDTH), (), "v1", also=(("pit", 0.81),))
    assert to_prediction(both, binding)["result"][0]["value"]["choices"] == ["reject"]


@pytest.mark.parametrize("xml", [XML, SEVERAL])
def test_what_is_left_to_the_inspector_ticks_nothing_and_comes_first(xml: str) -> None:
    config = parse(xml)
    doubtful = ExplainedVerdict(
        "good", 0.7, DECISION, (HEIGHT, WIDTH), (region("pit"),), "v1", doubt=(("good", 0.7), ("pit", 0.2))
    )
    prediction = to_prediction(doubtful, bind(config, CLASSES, "good"))
    assert [item["type"] for item in prediction["result"]] == ["brushlabels"]
    assert prediction["score"] == 0.0
    assert "left to you, as the model is not sure: good 0.70, pit 0.20" in prediction["result"][0]["meta"]["text"][0]
    assert validate(prediction, config) == ()


def test_an_image_unlike_all_others_is_said_to_be_so() -> None:
    config = parse(XML)
    strange = ExplainedVerdict(
        "pit",
        1.0,
        DECISION,
        (HEIGHT, WIDTH),
        (region("pit"),),
        "v1",
        doubt=(("pit", 1.0), ("good", 0.0)),
        is_unlike=True,
    )
    [item] = to_prediction(strange, bind(config, CLASSES, "good"))["result"]
    told = item["meta"]["text"][0]
    assert "left to you, as the image is unlike what the model was trained on: pit 1.00, good 0.00" in told
    assert "not sure" not in told


SUMMARY = XML.replace("</View>", '<TextArea name="model" toName="photo"/></View>')


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "scratch 81 %, then pit 12 %. 2 regions with 64 % of the evidence."),
        ({"also": (("pit", 0.6),)}, "scratch 81 %, pit 60 %, then good 7 %. 2 regions with 64 % of the evidence."),
        (
            {"doubt": (("scratch", 0.81), ("good", 0.07))},
            "Left to you, as the model is not sure: scratch 81 %, good 7 %, then pit 12 %. "
            "2 regions with 64 % of the evidence.",
        ),
        (
            {"doubt": (("scratch", 0.996), ("good", 0.001)), "is_unlike": True, "regions": ()},
            "Left to you, as unlike what the model was trained on: scratch over 99 %, good under 1 %, then pit 12 %. "
            "No region.",
        ),
    ],
)
def test_what_the_model_says_stands_in_one_line(changes: dict[str, Any], text: str) -> None:
    config = parse(SUMMARY)
    drawn = [replace(region("scratch"), evidence=0.5), replace(region("scratch", x=30), evidence=0.14)]
    ranking = (("scratch", 0.81), ("pit", 0.12), ("good", 0.07), ("stain", 0.0))
    said = replace(verdict(*drawn), probability=0.81, ranking=ranking, **changes)
    prediction = to_prediction(said, bind(config, CLASSES, "good"))
    assert prediction["result"][-1]["value"] == {"text": [text]}
    assert (prediction["result"][-1]["from_name"], prediction["result"][-1]["type"]) == ("model", "textarea")
    assert validate(prediction, config) == ()
    assert LabelInterface(SUMMARY).validate_prediction({**prediction, "score": 0.5})


def test_regions_of_several_classes_and_such_without_evidence_are_told_apart() -> None:
    bare = replace(region("pit"), has_evidence=False, evidence=0.0)
    said = replace(verdict(region("scratch"), bare), also=(("pit", 0.6),))
    assert summary(said) == (
        "scratch 97 %, pit 60 %. 1 region with 62 % of the evidence for scratch; "
        "1 region with 0 % of the evidence for pit. NO EVIDENCE UNDER 1 OF THEM."
    )


@pytest.mark.parametrize(
    "change", [{"to_name": "other"}, {"type": "choices"}, {"value": {"text": "no list"}}, {"value": {"text": [1]}}]
)
def test_a_summary_that_the_page_would_drop_is_refused(change: dict[str, Any]) -> None:
    config = parse(SUMMARY)
    prediction = to_prediction(verdict(region("scratch")), bind(config, CLASSES, "good"))
    prediction["result"][-1] = {**prediction["result"][-1], **change}
    [problem] = validate(prediction, config)
    assert problem.startswith("result 2 ")
