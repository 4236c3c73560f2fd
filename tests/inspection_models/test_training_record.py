"""The list of images that a model has seen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from inspection_models.data import Sample
from inspection_models.data.splits import Split
from inspection_models.model_card import ModelCard, ModelError
from inspection_models.preprocessing import Preprocessing
from inspection_models.training_record import (
    HASH_KEY,
    IMAGES_FILE,
    images_csv,
    images_sha256,
    images_tested_on,
    seen_images,
    with_images,
)

CARD = ModelCard(
    name="panel",
    architecture="efficientnet-lite0",
    classes=("crack", "good"),
    good_class="good",
    preprocessing=Preprocessing("letterbox", (64, 64), (0.0,) * 3, (1.0,) * 3),
    weights_sha256="0" * 64,
)


def sample(number: int) -> Sample:
    return Sample(Path(f"{number}.png"), "good", str(number), f"{number:064x}")


# Two of the files are copies of each other.
SPLIT = Split(train=(sample(3), sample(1), sample(3)), validation=(sample(2),), test=(sample(4),))


def written(folder: Path, listed: bytes, digest: str | None = None) -> ModelCard:
    (folder / IMAGES_FILE).write_bytes(listed)
    return dataclasses.replace(CARD, training={HASH_KEY: digest or images_sha256(listed)})


def test_trained_and_tuned_on_is_seen_and_tested_on_is_not(tmp_path: Path) -> None:
    card = written(tmp_path, images_csv(SPLIT))
    assert seen_images(tmp_path, card) == {f"{number:064x}" for number in (1, 2, 3)}
    reordered = Split(SPLIT.train[::-1], SPLIT.validation, SPLIT.test)
    assert images_csv(reordered) == images_csv(SPLIT)


def test_no_list_is_not_known_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    assert seen_images(tmp_path, CARD) is None
    listed = images_csv(SPLIT)
    card = written(tmp_path, listed)
    (tmp_path / IMAGES_FILE).write_bytes(listed.replace(b",train", b",test"))
    with pytest.raises(ModelError, match="not the list that the model's card names"):
        seen_images(tmp_path, card)
    with pytest.raises(ModelError, match="not the list"):
        seen_images(tmp_path, CARD)
    with pytest.raises(ModelError, match="'nonsense'"):
        seen_images(tmp_path, written(tmp_path, listed + b"nonsense\n"))
    (tmp_path / IMAGES_FILE).unlink()
    (tmp_path / IMAGES_FILE).mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        seen_images(tmp_path, card)
    (tmp_path / IMAGES_FILE).rmdir()
    with pytest.raises(ModelError, match=r"training_images\.csv: is missing, .*copy it from where"):
        seen_images(tmp_path, card)


def test_tested_on_is_what_had_no_other_part_in_the_model(tmp_path: Path) -> None:
    assert images_tested_on(tmp_path, CARD) is None
    card = written(tmp_path, images_csv(Split(SPLIT.train, SPLIT.validation, (sample(4), sample(5)))))
    assert images_tested_on(tmp_path, card) == {f"{number:064x}" for number in (4, 5)}
    recalibrated = with_images((tmp_path / IMAGES_FILE).read_bytes(), [sample(5)], "lines")
    assert images_tested_on(tmp_path, written(tmp_path, recalibrated)) == {f"{4:064x}"}
