"""The model card that a person reads says what the card says, for every model that is saved."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from inspection_models import DefectClassifier
from inspection_models.card_document import DOCUMENT_FILE, card_document
from inspection_models.decision_lines import LineOrigin
from inspection_models.model_card import CARD_FILE, Calibration, ExplanationSettings, ModelCard, Thresholds, read_card
from inspection_models.networks import build_network
from inspection_models.preprocessing import Preprocessing

HASH = "ab" * 32
CARD = ModelCard(
    name="panel",
    version="7",
    architecture="efficientnet-lite0",
    classes=("crack", "good", "pit"),
    good_class="good",
    preprocessing=Preprocessing("letterbox", (192, 224), (127.0,) * 3, (128.0,) * 3),
    weights_sha256="cd" * 32,
    calibration=Calibration(temperature=1.375),
    thresholds=Thresholds(decision=0.4375),
    explanation=ExplanationSettings("quorum", {"mirrored": False}),
    origins=(LineOrigin("escapes", 0.0125, 0.9375, 0.4375, 3, 613, 811, 0.01171875, HASH),),
    training={
        "data_sha256": HASH,
        "layout": "image-folder",
        "counts": {"train": {"crack": 101, "good": 102, "pit": 103}, "test": {"crack": 11, "good": 12, "pit": 0}},
        "seed": 17,
        "settings": {"learning_rate": 0.00125, "flips": False},
        "versions": {"torch": "2.99.1"},
    },
    metrics={
        "test": {
            "images": 23,
            "classes": ["crack", "good", "pit"],
            "confusion": [[9, 2, 0], [1, 11, 0], [0, 0, 0]],
            "accuracy": 0.8695652173913043,
            "balanced_accuracy": 0.8674242424242424,
            "per_class": {"crack": {"precision": 0.9, "recall": 0.8181818, "f1": 0.857, "support": 11}},
            "escapes": {"count": 2, "of": 11, "parts": None, "of_parts": None, "low": 0.0228, "high": 0.5178},
            "overkill": {"count": 1, "of": 12, "parts": 1, "of_parts": 5, "low": 0.0051, "high": 0.7164},
            "reliability": {"expected_error": 0.03125, "bins": [{"count": 23}]},
        }
    },
)


def rows(document: str) -> dict[str, str]:
    """The first two cells of each row of all tables."""
    found = re.findall(r"^\| (.*?) \| (.*?)(?: \|.*)?$", document, re.MULTILINE)
    return {name: value.removesuffix(" |") for name, value in found}


def test_every_saved_model_carries_the_card_of_its_own_settings(tmp_path: Path) -> None:
    torch.manual_seed(0)
    fields = {field.name: getattr(CARD, field.name) for field in dataclasses.fields(CARD)}
    del fields["weights_sha256"]
    network = build_network("shufflenet_v2_x0_5", 3)
    first = DefectClassifier.assemble(network, **{**fields, "architecture": "shufflenet_v2_x0_5"})
    first.save(tmp_path / "first")
    changed = DefectClassifier.load(tmp_path / "first").with_settings(thresholds=Thresholds(decision=0.25))
    changed.save(tmp_path / "second")
    changed.save(tmp_path / "first", overwrite=True)
    for folder in ("first", "second"):
        text = (tmp_path / folder / DOCUMENT_FILE).read_text(encoding="utf-8")
        assert text == card_document(read_card(tmp_path / folder / CARD_FILE))
        assert rows(text)["thresholds.decision"] == "0.25"
        assert changed.version.fingerprint in text
        assert first.version.fingerprint not in text


def test_what_it_says_stands_in_the_card() -> None:
    said = rows(card_document(CARD))
    assert said["model"] == "panel"
    assert said["version"] == "7"
    assert said["network"] == "efficientnet-lite0"
    assert said["input"] == "224 x 192 pixels, letterbox"
    assert said["fingerprint"] == CARD.fingerprint
    assert said["weights, sha256"] == "cd" * 32
    assert said["calibration.temperature"] == "1.375"
    assert said["thresholds.decision"] == "0.4375"
    assert said["explanation.method"] == "quorum"
    assert said["data set, sha256"] == HASH
    assert said["read as"] == "image-folder"
    assert said["settings.learning_rate"] == "0.00125"
    assert said["versions.torch"] == "2.99.1"
    assert said["parts"] == "613"
    assert said["escapes: defects called good"] == "2 of 11, 18.2% (2.3% to 51.8%)"
    assert said["overkill: good parts called defective"] == "1 of 12 images, 1 of 5 parts, 20.0% (0.5% to 71.6%)"
    assert said["balanced accuracy"] == "86.7%"
    assert said["calibration error"] == "0.03125"
    assert "| crack | defect | 101 | 11 |" in card_document(CARD)
    assert "| good | good | 102 | 12 |" in card_document(CARD)
    assert "| crack | 9 | 2 | 0 |" in card_document(CARD)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the numbers, strings and truths of a document are."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]
    if isinstance(value, list):
        return [leaf for place, inner in enumerate(value) for leaf in leaves(inner, (*path, place))]
    return [] if value is None else [path]


def is_for_a_reader(path: tuple[Any, ...]) -> bool:
    """What pixels are divided by and the bins of a diagram are not; a calibration has but one method."""
    return path[:2] not in {("preprocessing", "mean"), ("preprocessing", "std"), ("calibration", "method")} and (
        "bins" not in path
    )


# What each of the fields with a fixed choice could be instead.
CHOICES: dict[tuple[Any, ...], str] = {
    ("activation",): "sigmoid",
    ("preprocessing", "mode"): "resize",
    ("origins", 0, "line"): "overkill",
    ("regions", "drawn_by"): "snapped",
}
FACTS = [path for path in leaves(json.loads(json.dumps(dataclasses.asdict(CARD)))) if is_for_a_reader(path)]


@pytest.mark.parametrize("path", FACTS, ids=str)
def test_whatever_the_card_holds_changes_the_document(path: tuple[Any, ...]) -> None:
    """A figure of the document that did not come from the card could not follow it."""
    document = json.loads(json.dumps(dataclasses.asdict(CARD)))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    value = inner[path[-1]]
    if path in CHOICES:
        replaced = CHOICES[path]
    elif path == ("good_class",):
        replaced = "crack"
    elif isinstance(value, bool):
        replaced = not value
    elif isinstance(value, int):
        replaced = value + 1
    elif isinstance(value, float):
        replaced = value * 0.875
    else:
        replaced = value[::-1] + "x"
    inner[path[-1]] = replaced
    if path[0] == "classes" and value == "good":
        document["good_class"] = replaced
    other = TypeAdapter(ModelCard).validate_json(json.dumps(document))
    body = card_document(CARD).replace(CARD.fingerprint, "")
    assert card_document(other).replace(other.fingerprint, "") != body


def test_figures_of_each_part_say_which_they_are_of() -> None:
    metrics = {
        part: {"images": n, "accuracy": n / 64} for n, part in enumerate(("validation", "calibration"), start=40)
    }
    text = card_document(dataclasses.replace(CARD, metrics=metrics))
    calibrated, validated = text.split("### ")[1:]
    assert "calibrated with, hence favourable" in calibrated
    assert "| images | 41 |" in calibrated
    assert "| accuracy | 64.1% |" in calibrated
    assert "| images | 40 |" in validated


def test_a_card_without_figures_or_data_says_so() -> None:
    bare = dataclasses.replace(CARD, training={}, metrics={}, origins=(), good_class=None, thresholds=Thresholds())
    text = card_document(bare)
    assert "does not say what the weights were trained on" in text
    assert "holds no figures" in text
    assert "cannot pass a part" in text
    assert "promised by nothing" in text


@settings(max_examples=60, deadline=None)
@given(name=st.text(min_size=1, max_size=30).filter(lambda text: text.strip() and text != "good"))
def test_no_class_name_can_forge_a_row_or_a_tag(name: str) -> None:
    card = dataclasses.replace(CARD, classes=(name, "good"), training={}, metrics={}, origins=())
    plain = dataclasses.replace(card, classes=("plain", "good"))
    text = card_document(card)
    assert len(text.splitlines()) == len(card_document(plain).splitlines())
    assert "<" not in text
    row = text.splitlines()[card_document(plain).splitlines().index("| plain | defect |")]
    shown = html.unescape(re.sub(r"\\(.)", r"\1", row.removeprefix("| ").removesuffix(" | defect |")))
    assert shown == re.sub(r"\s+", " ", name)
