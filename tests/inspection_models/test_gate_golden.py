"""Which images two models are compared on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from inspection_models.data import Dataset, DatasetError, Sample
from inspection_models.gate import Contender, GateError, choose_golden
from inspection_models.gate.golden import SEEN, UNKNOWN_CLASS
from inspection_models.model_card import ModelCard
from inspection_models.preprocessing import Preprocessing

ROOT = Path("golden")


def card(classes: tuple[str, ...] = ("crack", "good"), good: str | None = "good", name: str = "a") -> ModelCard:
    return ModelCard(
        name=name,
        version="1",
        architecture="efficientnet-lite0",
        classes=classes,
        good_class=good,
        preprocessing=Preprocessing("letterbox", (64, 64), (0.0,) * 3, (1.0,) * 3),
        weights_sha256="0" * 64,
    )


def sample(number: int, label: str, also: tuple[str, ...] = ()) -> Sample:
    return Sample(ROOT / label / f"{number}.png", label, f"part {number}", f"{number:064x}", also=also)


def dataset(*samples: Sample) -> Dataset:
    classes = tuple(sorted({label for one in samples for label in one.labels}))
    return Dataset(ROOT, samples, classes, None, "image-folder", "d" * 64)


SET = dataset(sample(0, "crack"), sample(1, "good"), sample(2, "pit"), sample(3, "crack", ("pit",)), sample(4, "crack"))
NOTHING: frozenset[str] = frozenset()


def test_unknown_classes_and_seen_images_are_left_out_and_counted() -> None:
    found = choose_golden(
        Contender(card(), frozenset({f"{0:064x}"})), Contender(card(), frozenset({f"{1:064x}", "other"})), SET
    )
    assert [one.file for one in found.images] == ["crack/4.png"]
    assert found.left_out == {SEEN: 2, UNKNOWN_CLASS: 2}
    assert found.seen == {"candidate": 0, "service": 0}
    kept = choose_golden(Contender(card(), frozenset({f"{0:064x}"})), Contender(card(), None), SET, with_seen=True)
    assert [one.file for one in kept.images] == ["crack/0.png", "good/1.png", "crack/4.png"]
    assert kept.seen == {"candidate": 1, "service": None}
    assert [one.defective for one in kept.images] == [True, False, True]


@pytest.mark.parametrize("service_good", ["good", None])
def test_an_image_that_is_good_and_defective_at_once_is_refused(service_good: str | None) -> None:
    both = dataset(sample(0, "crack", ("good",)), sample(1, "good"), sample(2, "crack"))
    service = card() if service_good else card(("crack", "pit"), None)
    with pytest.raises(DatasetError, match=r"0\.png is labelled 'good' and 'crack' at once"):
        choose_golden(Contender(card(), NOTHING), Contender(service, NOTHING), both)


def test_a_class_that_one_model_knows_is_a_defect_to_both() -> None:
    wide = card(("crack", "good", "pit"))
    found = choose_golden(Contender(wide, NOTHING), Contender(card(name="b"), NOTHING), SET)
    assert len(found.images) == 5
    assert found.images[3].labels == {"crack", "pit"}
    assert found.images[2].defective
    [note] = found.notes
    assert "the model in service does not know pit" in note


def test_a_renamed_good_class_is_one() -> None:
    found = choose_golden(
        Contender(card(("crack", "ok"), "ok"), NOTHING),
        Contender(card(), NOTHING),
        dataset(sample(0, "crack"), sample(1, "good")),
    )
    assert found.good_name == "ok"
    assert found.images[1].labels == {"ok"}
    assert not found.images[1].defective
    [note] = found.notes
    assert "'ok' to the candidate and 'good' to the model in service" in note


def test_a_class_that_is_good_to_one_and_a_defect_to_the_other_is_refused() -> None:
    confused = dataclasses.replace(card(("crack", "good"), "crack"), version="2")
    for pair in ((card(), confused), (confused, card())):
        with pytest.raises(GateError, match="disagree on what is good"):
            choose_golden(Contender(pair[0], NOTHING), Contender(pair[1], NOTHING), SET)


def test_a_model_without_a_good_class_is_noted() -> None:
    found = choose_golden(
        Contender(card(), NOTHING),
        Contender(card(("crack", "pit"), None, "b"), NOTHING),
        dataset(sample(0, "crack"), sample(1, "good")),
    )
    assert any("b 1 has no good class" in note for note in found.notes)


def test_nothing_left_is_refused_with_the_reasons() -> None:
    everything = frozenset(one.sha256 for one in SET.samples)
    with pytest.raises(GateError, match=r"none of the 5 images .* 3 trained or tuned on"):
        choose_golden(Contender(card(), everything), Contender(card(), NOTHING), SET)
