from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.label_studio.labeling_config import (
    MAX_CONFIG_CHARACTERS,
    Control,
    ImageObject,
    Label,
    LabelingConfigError,
    parse,
)

CONFIG = """
<View>
  <Style>.a { color: red }</Style>
  <Header value="Inspect"/>
  <HyperText name="notes" value="$html"/>
  <Image name="photo" value="$image" zoom="true"/>
  <View style="display:flex">
    <Choices name="verdict" toName="photo" choice="single">
      <View><Choice value="Good"/></View>
      <Choice value="Scratches" alias="scratch"><Choice value="deep"/></Choice>
    </Choices>
  </View>
  <PolygonLabels name="outline" toName="photo">
    <Label value="Kratzer" alias="scratch"/><Label value="pit"/>
  </PolygonLabels>
  <brushlabels name="mask" toName="photo"><Label value="stain"/></brushlabels>
  <RectangleLabels name="box" toName="photo" choice="multiple"><Label value="dent"/></RectangleLabels>
  <Choices name="depth" toName="photo" perRegion="true" whenTagName="outline"><Choice value="deep"/></Choices>
  <Choices name="mood" toName="notes"><Choice value="fine"/></Choices>
  <Choices name="dynamic" toName="photo" value="$options"/>
  <TextArea name="remark" toName="photo"/>
</View>
"""


def test_reads_images_controls_values_and_aliases() -> None:
    config = parse(CONFIG)
    assert config.images == (ImageObject("photo", "image"),)
    assert config.controls == (
        Control("verdict", "choices", "photo", (Label("Good"), Label("Scratches", "scratch"))),
        Control("outline", "polygonlabels", "photo", (Label("Kratzer", "scratch"), Label("pit"))),
        Control("mask", "brushlabels", "photo", (Label("stain"),)),
        Control("box", "rectanglelabels", "photo", (Label("dent"),), multiple=True),
        Control("depth", "choices", "photo", (Label("deep"),), per_region=True),
    )
    assert [note.split("'")[1] for note in config.notes] == ["depth", "mood", "dynamic"]


def test_the_stored_value_is_what_label_studio_itself_lists() -> None:
    from label_studio_sdk.label_interface import LabelInterface

    theirs = LabelInterface(CONFIG.replace("brushlabels", "BrushLabels"))
    for name in ("outline", "mask", "box"):
        ours = parse(CONFIG).control(name)
        assert ours is not None
        assert sorted(label.stored for label in ours.labels) == sorted(theirs.get_control(name).labels)


def test_reads_the_captured_configuration(payloads: Path) -> None:
    schema = json.loads((payloads / "setup.json").read_text(encoding="utf-8"))["json"]["schema"]
    config = parse(schema)
    assert {control.name: control.kind for control in config.controls} == {
        "verdict": "choices",
        "mask": "brushlabels",
        "poly": "polygonlabels",
        "box": "rectanglelabels",
        "kp": "keypointlabels",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not well-formed"),
        ("<View><Image name='i' value='$i'>", "not well-formed"),
        ("<View><Text name='t' value='$t'/></View>", "no <Image>"),
        ("<View><Image value='$i'/></View>", "has no name"),
        ("<View><Image name='i' value='fixed.png'/></View>", "only one variable"),
        (
            "<View><Image name='i' value='$i'/><Image name='j' value='a/$i'/>"
            "<Choices name='c' toName='j'><Choice value='a'/></Choices></View>",
            "only one variable",
        ),
        (
            "<View><Image name='i' value='$i'/><Choices name='c' toName='j'><Choice value='a'/></Choices></View>",
            "toName",
        ),
        ("<View><Image name='i' value='$i'/><Choices toName='i'><Choice value='a'/></Choices></View>", "has no name"),
        ("<View><Image name='i' value='$i'/><Image name='i' value='$j'/></View>", "more than once: i"),
        ("<!DOCTYPE v [<!ENTITY a 'b'>]><View><Image name='i' value='$i'/>&a;</View>", "DOCTYPE"),
        ("<!DOCTYPE v SYSTEM 'file:///etc/passwd'><View><Image name='i' value='$i'/></View>", "DOCTYPE"),
        ("<View>" + " " * MAX_CONFIG_CHARACTERS + "</View>", "at most"),
    ],
)
def test_refuses_what_it_cannot_answer(text: str, said: str) -> None:
    with pytest.raises(LabelingConfigError, match=said):
        parse(text)


@pytest.mark.slow
def test_reads_a_configuration_of_very_many_names() -> None:
    tags = "".join(f'<A name="{number}"/>' for number in range(20_000))
    form = "<View><Image name='i' value='$i'/><Choices name='c' toName='i'><Choice value='a'/></Choices>{}</View>"
    assert [control.name for control in parse(form.format(tags)).controls] == ["c"]
    with pytest.raises(LabelingConfigError, match=r"more than once: 7, i$"):
        parse(form.format(tags + "<A name='7'/><A name='i'/>"))


def test_finds_the_address_in_a_task() -> None:
    assert ImageObject("i", "image").address({"image": " /data/upload/1/a.png "}) == "/data/upload/1/a.png"
    assert ImageObject("i", "part.photo").address({"part": {"photo": "x"}}) == "x"
    assert ImageObject("i", "part.photo").address({"part.photo": "y"}) == "y"
    for data in ({}, {"image": 3}, {"image": ""}, {"image": None}, {"other": "x"}):
        with pytest.raises(LabelingConfigError, match="no image address under 'image'"):
            ImageObject("i", "image").address(data)
