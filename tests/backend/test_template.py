"""The labeling configuration made for a model's classes."""

from __future__ import annotations

from collections import Counter
from xml.etree.ElementTree import Element

import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given
from hypothesis import strategies as st

from backend.label_studio.binding import REGION_TAGS, bind
from backend.label_studio.labeling_config import parse
from backend.label_studio.template import (
    ASK_NAME,
    CHOICES_NAME,
    EVIDENCE_NAME,
    IMAGE_NAME,
    REASONS,
    TEMPLATES,
    UNDECIDED,
    labeling_configuration,
)

NAMES = st.lists(
    st.text(min_size=1, max_size=12, alphabet=st.characters(codec="utf-8", exclude_categories=["C"])),
    min_size=1,
    max_size=14,
    unique=True,
)


@given(NAMES, st.booleans(), st.text(max_size=20, alphabet="<>&\"' abc"))
def test_every_class_is_a_choice_and_every_defect_a_polygon_label(
    names: list[str], has_good: bool, heading: str
) -> None:
    good = names[0] if has_good else None
    view = fromstring(labeling_configuration(names, good, heading=heading))
    assert view.find(".//Header").get("value") == heading
    assert {choice.get("value") for choice in named(view, CHOICES_NAME)} == set(names)
    assert {label.get("value") for label in view.find(".//PolygonLabels")} == set(names) - {good}
    assert {label.get("alias") for label in view.find(".//RectangleLabels")} == set(names) - {good}
    keys = Counter(tag.get("hotkey") for tag in view.iter() if tag.get("hotkey"))
    assert not keys or max(keys.values()) == 1


def named(view: Element, name: str) -> Element:
    [found] = [tag for tag in view.iter() if tag.get("name") == name]
    return found


def test_good_comes_first_and_takes_key_one() -> None:
    view = fromstring(labeling_configuration(["crack", "good"], "good", heading="x"))
    assert [(c.get("value"), c.get("hotkey")) for c in named(view, CHOICES_NAME)] == [("good", "1"), ("crack", "2")]


def test_several_classes_can_be_ticked_where_the_model_names_several() -> None:
    for several, said in ((False, "single"), (True, "multiple")):
        view = fromstring(labeling_configuration(["good", "crack"], "good", heading="x", takes_several=several))
        assert named(view, CHOICES_NAME).get("choice") == said


def test_the_smart_tool_asks_and_draws_nothing_else() -> None:
    view = fromstring(labeling_configuration(["good", "crack"], "good", heading="x"))
    asked = named(view, ASK_NAME)
    assert (asked.get("smart"), asked.get("smartOnly")) == ("true", "true")
    assert view.find(".//PolygonLabels").get("smart") == "false"
    config = parse(labeling_configuration(["good", "crack"], "good", heading="x"))
    assert [control.name for control in config.controls if control.asks] == [ASK_NAME]
    assert config.answers_on == IMAGE_NAME


def test_as_long_as_nothing_is_ticked_the_page_says_whose_decision_it_is() -> None:
    view = fromstring(labeling_configuration(["good", "crack"], "good", heading="x"))
    [hint] = [tag for tag in view.iter("View") if tag.get("visibleWhen")]
    assert (hint.get("visibleWhen"), hint.get("whenTagName")) == ("choice-unselected", CHOICES_NAME)
    assert hint.find("Header").get("value") == UNDECIDED


def test_the_maps_stand_beside_the_image_and_take_its_address() -> None:
    view = fromstring(labeling_configuration(["good", "crack"], "good", heading="x", maps="http://desk/maps/7/t.jpg"))
    images = {image.get("name"): image.get("value") for image in view.iter("Image")}
    assert images == {IMAGE_NAME: "$image", EVIDENCE_NAME: "http://desk/maps/7/t.jpg?image=$image"}
    assert {tag.get("toName") for tag in view.iter() if tag.get("toName")} == {IMAGE_NAME}


def test_the_maps_do_not_come_between_the_model_and_its_image() -> None:
    plain, with_maps = (
        parse(labeling_configuration(["good", "crack"], "good", heading="x", maps=maps))
        for maps in (None, "http://desk/maps/7/t.jpg")
    )
    assert with_maps == plain


@pytest.mark.parametrize("maps", [None, "http://desk/maps/7/t.jpg"])
@pytest.mark.parametrize("good", ["good", None])
def test_label_studio_itself_accepts_it(good: str | None, maps: str | None) -> None:
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(labeling_configuration(["good", "a b", "c&d"], good, heading="x", maps=maps))
    interface.validate()
    assert {"defect", "region", "ask", "answer", "model", "reason"} == {control.name for control in interface.controls}


def test_where_the_model_is_not_shown_there_is_nothing_to_ask_with_or_to_correct() -> None:
    config = parse(labeling_configuration(["good", "crack"], "good", heading="x", is_blind=True))
    assert (config.answers_on, config.summaries) == (None, {})
    assert [control.name for control in config.controls] == ["defect", "region"]


def test_the_page_has_a_place_for_what_the_model_says_and_one_for_why_it_was_wrong() -> None:
    config = parse(labeling_configuration(["good", "crack"], "good", heading="x"))
    assert config.summaries == {IMAGE_NAME: "model"}
    binding = bind(config, ["good", "crack"], "good")
    assert (binding.choice_control, binding.reasons, binding.unbound) == (CHOICES_NAME, "reason", ())
    reasons = config.control("reason")
    assert reasons is not None and reasons.multiple
    assert [label.value for label in reasons.labels] == list(REASONS)


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_says_all_that_a_model_can_and_no_key_means_two_things(template: str) -> None:
    from label_studio_sdk.label_interface import LabelInterface

    classes = ["good", *(f"defect {n}" for n in range(12))]
    made = TEMPLATES[template]
    text = labeling_configuration(classes, "good", heading="x", template=made)
    LabelInterface(text).validate()
    binding = bind(parse(text), classes, "good")
    assert (binding.unbound, binding.unsayable) == ((), ())
    assert len(binding.images) == len(binding.summaries) == made.images
    for image in binding.images:
        assert {bound.kind for bound in binding.regions_on(image.name).values()} == {made.regions}
    assert binding.takes_several == made.takes_several
    keys = [tag.get("hotkey") for tag in fromstring(text).iter() if tag.get("hotkey")]
    assert len(set(keys)) == len(keys)
    assert REGION_TAGS[made.regions] in text


def test_labels_leave_the_keys_of_their_tools_alone() -> None:
    """Label Studio's own: B and E for the brush and its eraser, R for rectangles, P for polygons."""
    for template, taken in (("brush", "be"), ("boxes", "r"), ("default", "p")):
        view = fromstring(
            labeling_configuration([f"d{n}" for n in range(12)], None, heading="x", template=TEMPLATES[template])
        )
        labels = named(view, "region")
        assert {label.get("hotkey") for label in labels}.isdisjoint(taken)
