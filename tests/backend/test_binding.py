from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.label_studio.binding import RegionBinding, bind
from backend.label_studio.labeling_config import LabelingConfig, parse

CLASSES = ("good", "scratches", "pitted_surface")


def config(*controls: str) -> LabelingConfig:
    return parse(f"<View><Image name='photo' value='$image'/>{''.join(controls)}</View>")


def choices(*values: str, name: str = "verdict") -> str:
    return f"<Choices name='{name}' toName='photo'>{''.join(f'<Choice value={v!r}/>' for v in values)}</Choices>"


def labels(tag: str, name: str, *values: str) -> str:
    return f"<{tag} name='{name}' toName='photo'>{''.join(f'<Label value={v!r}/>' for v in values)}</{tag}>"


def test_binds_by_value_alias_case_and_separators() -> None:
    binding = bind(
        config(
            choices("Good", "SCRATCHES", "Pitted surface"),
            "<PolygonLabels name='outline' toName='photo'>"
            "<Label value='Kratzer' alias='scratches'/><Label value='Pitted-Surface'/></PolygonLabels>",
        ),
        CLASSES,
        "good",
    )
    assert binding.unbound == ()
    assert binding.choice_control == "verdict"
    assert binding.choices == {"good": "Good", "scratches": "SCRATCHES", "pitted_surface": "Pitted surface"}
    assert binding.regions == {
        "scratches": RegionBinding("outline", "polygonlabels", "scratches"),
        "pitted_surface": RegionBinding("outline", "polygonlabels", "Pitted-Surface"),
    }
    assert (
        binding.label_classes[("outline", "Kratzer")]
        == binding.label_classes[("outline", "scratches")]
        == ("scratches",)
    )


def test_an_exact_name_beats_a_similar_one() -> None:
    binding = bind(config(choices("Scratch", "scratch", "good")), ("scratch", "good"), "good")
    assert binding.choices["scratch"] == "scratch"


def test_a_similar_name_goes_to_the_class_that_has_it_exactly() -> None:
    binding = bind(config(choices("scratch mark", "good")), ("scratch_mark", "scratch mark", "good"), "good")
    assert binding.choices == {"scratch mark": "scratch mark", "good": "good"}
    assert len(binding.unbound) == 1 and "'scratch_mark'" in binding.unbound[0] and "as well" in binding.unbound[0]


def test_two_similar_names_are_not_guessed() -> None:
    binding = bind(config(choices("Pitted surface", "pitted-surface", "good", "scratches")), CLASSES, "good")
    assert "pitted_surface" not in binding.choices
    assert len(binding.unbound) == 1 and "Pitted surface, pitted-surface alike" in binding.unbound[0]


def test_verdict_words_are_not_guessed_but_told() -> None:
    binding = bind(config(choices("accept", "reject")), CLASSES, "good")
    assert binding.choices == {} and binding.choice_control is None and not binding.usable
    assert [name for name in CLASSES if any(f"class '{name}'" in reason for reason in binding.unbound)] == list(CLASSES)
    assert all("accept, reject" in reason and "INSPECTION_LABEL_MAPPING" in reason for reason in binding.unbound)


def test_a_mapping_may_give_several_classes_one_choice_and_regions_their_own_words() -> None:
    binding = bind(
        config(choices("accept", "reject"), labels("PolygonLabels", "outline", "Kratzer", "pitted_surface")),
        CLASSES,
        "good",
        {"good": "ACCEPT", "scratches": ["reject", "Kratzer"], "pitted_surface": "reject"},
    )
    assert binding.unbound == ()
    assert binding.choices == {"good": "accept", "scratches": "reject", "pitted_surface": "reject"}
    assert binding.choice_classes == {"accept": ("good",), "reject": ("scratches", "pitted_surface")}
    assert binding.regions["scratches"].label == "Kratzer"
    assert binding.regions["pitted_surface"].label == "pitted_surface"


def test_a_mapping_to_nothing_is_told() -> None:
    binding = bind(config(choices("accept", "reject")), ("good",), "good", {"good": "passed"})
    assert binding.choices == {}
    assert "the mapping says passed" in binding.unbound[0]


def test_one_kind_a_defect_polygons_before_brush_before_rectangles() -> None:
    binding = bind(
        config(
            labels("RectangleLabels", "box", "a", "b", "c"),
            labels("BrushLabels", "mask", "a", "b"),
            labels("PolygonLabels", "outline", "a"),
        ),
        ("a", "b", "c"),
    )
    assert {name: bound.kind for name, bound in binding.regions.items()} == {
        "a": "polygonlabels",
        "b": "brushlabels",
        "c": "rectanglelabels",
    }
    assert binding.label_classes[("box", "a")] == ("a",)
    assert binding.unbound == ()


def test_two_controls_of_the_preferred_kind_are_not_guessed() -> None:
    binding = bind(config(labels("PolygonLabels", "p", "a"), labels("PolygonLabels", "q", "a")), ("a",))
    assert binding.regions == {} and "'p' and 'q' alike" in binding.unbound[0]


def test_two_controls_for_the_verdict_are_not_guessed() -> None:
    binding = bind(
        config(choices("good", "bad", name="one"), choices("good", "x", name="two")), ("good", "bad", "x"), "good"
    )
    assert binding.choice_control is None and "could all hold the verdict" in binding.unbound[0]


def test_the_control_that_has_every_class_is_the_verdict() -> None:
    binding = bind(
        config(choices("good", "dirty", name="one"), choices("good", "bad", name="two")), ("good", "bad"), "good"
    )
    assert binding.choice_control == "two"


def test_good_needs_no_region_and_a_missing_label_is_told() -> None:
    binding = bind(config(choices(*CLASSES), labels("PolygonLabels", "outline", "scratches")), CLASSES, "good")
    assert len(binding.unbound) == 1
    assert "class 'pitted_surface' has no label to draw its regions with" in binding.unbound[0]
    assert '<Label value="pitted_surface"/>' in binding.unbound[0]


def test_per_region_choices_never_hold_the_verdict() -> None:
    per_region = choices("good", "bad").replace("toName", "perRegion='true' toName")
    assert bind(config(per_region), ("good", "bad"), "good").choices == {}


PART = (
    "<View><Image name='a' value='$a'/><Image name='b' value='$b'/>"
    "<Choices name='x' toName='a'><Choice value='good'/><Choice value='crack'/></Choices>{}</View>"
)


def test_an_image_that_is_only_looked_at_is_not_judged() -> None:
    for there in ("", "<Choices name='y' toName='b'><Choice value='sharp'/></Choices>"):
        binding = bind(parse(PART.format(there)), ("good", "crack"), "good")
        assert [image.name for image in binding.images] == ["a"]
        assert (binding.choice_control, binding.further) == ("x", ())


def test_images_that_are_drawn_on_are_images_of_one_part() -> None:
    drawn = "".join(
        f"<{tag} name='{name}' toName='{name[0]}'><Label value='crack'/></{tag}>"
        for tag, name in (("PolygonLabels", "a1"), ("RectangleLabels", "b1"))
    )
    binding = bind(parse(PART.format(drawn)), ("good", "crack"), "good")
    assert [(image.name, image.variable) for image in binding.images] == [("a", "a"), ("b", "b")]
    assert binding.regions_on("a") == binding.regions == {"crack": RegionBinding("a1", "polygonlabels", "crack")}
    assert binding.regions_on("b") == {"crack": RegionBinding("b1", "rectanglelabels", "crack")}
    assert (binding.regions_on("c"), binding.choice_image, binding.unbound) == ({}, "a", ())


def test_a_verdict_on_each_image_of_a_part_is_not_guessed() -> None:
    other = "<Choices name='y' toName='b'><Choice value='good'/><Choice value='crack'/></Choices>"
    binding = bind(parse(PART.format(other)), ("good", "crack"), "good")
    assert not binding.usable and "'x', 'y' could all hold the verdict" in binding.unbound[0]


def test_a_configuration_without_controls_is_told() -> None:
    binding = bind(config(), ("good",), "good")
    assert not binding.usable and "has no Choices" in binding.unbound[0]


@pytest.mark.parametrize(
    ("classes", "good", "mapping"),
    [((), None, {}), (("a", "a"), None, {}), (("a",), "b", {}), (("a",), None, {"c": "a"})],
)
def test_refuses_classes_that_make_no_sense(
    classes: tuple[str, ...], good: str | None, mapping: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="class"):
        bind(config(choices("a")), classes, good, mapping)


NAMES = st.lists(st.sampled_from(["a", "A", "a b", "a_b", "A-B", "c", "d", "D "]), min_size=1, max_size=5, unique=True)


@given(classes=NAMES, values=NAMES)
def test_unmapped_classes_never_share_a_choice_and_all_that_fails_is_told(
    classes: list[str], values: list[str]
) -> None:
    binding = bind(config(choices(*values)), classes)
    assert len(set(binding.choices.values())) == len(binding.choices)
    assert set(binding.choices.values()) <= {value.strip() for value in values}
    for name in classes:
        assert (name in binding.choices) != any(f"class '{name}' " in reason for reason in binding.unbound)
        if name in {value.strip() for value in values}:
            assert binding.choices[name] == name


ASKED = """<View><Image name="img" value="$image"/><RectangleLabels name="ask" toName="img" smart="true" {only}>
<Label value="crack?" alias="crack"/></RectangleLabels>{others}</View>"""


@pytest.mark.parametrize("kind", ["Polygon", "Brush", "Rectangle"])
def test_a_control_that_only_asks_draws_nothing_and_is_understood(kind: str) -> None:
    others = f'<{kind}Labels name="where" toName="img"><Label value="crack"/></{kind}Labels>'
    binding = bind(parse(ASKED.format(only='smartOnly="true"', others=others)), ["good", "crack"], "good")
    assert binding.regions["crack"].control == "where"
    assert binding.questions == {"ask"}
    assert binding.label_classes["ask", "crack"] == ("crack",)
    assert not binding.unbound


def test_a_class_that_only_a_question_has_a_label_for_is_told_of() -> None:
    others = '<BrushLabels name="where" toName="img"><Label value="stain"/></BrushLabels>'
    binding = bind(parse(ASKED.format(only='SmartOnly="True"', others=others)), ["stain", "crack"])
    assert set(binding.regions) == {"stain"}
    assert any("crack" in sentence and "'where'" in sentence for sentence in binding.unbound)


def test_a_smart_control_that_draws_as_well_and_one_that_stands_alone_are_drawn_with() -> None:
    for only in ("", 'smartOnly="true"'):
        binding = bind(parse(ASKED.format(only=only, others="")), ["good", "crack"], "good")
        assert (binding.regions["crack"].control, binding.questions) == ("ask", frozenset())


def test_reasons_for_a_correction_are_no_verdict_even_where_one_is_called_as_a_class() -> None:
    both = choices("good", "crack") + choices("crack", "bad photograph", name="reason")
    binding = bind(config(both), ["good", "crack"], "good")
    assert (binding.choice_control, binding.reasons, binding.unbound) == ("verdict", "reason", ())
    alone = bind(config(choices("good", "crack", name="reason")), ["good", "crack"], "good")
    assert (alone.choice_control, alone.reasons) == ("reason", None)
