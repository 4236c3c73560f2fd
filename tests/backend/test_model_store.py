"""Kept models: copied whole or not at all, found again, and known for damaged."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest

from backend.model_store import ModelStore, damage
from inspection_models.decision_lines import FamiliaritySettings
from inspection_models.familiarity import FAMILIAR_FILE
from inspection_models.model_card import CARD_FILE, WEIGHTS_FILE, ModelError, read_card
from inspection_models.region_head import HEAD_FILE
from inspection_models.region_settings import RegionDrawing, RegionHeadSettings
from tests.backend import desks


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = desks.write_model(tmp_path_factory.mktemp("model") / "tiny")
    (directory / "training_summary.json").write_text("{}")
    return directory


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "data" / "models")


def fingerprint(directory: Path) -> str:
    return read_card(directory / CARD_FILE).fingerprint


def test_a_kept_model_outlives_its_source(model: Path, store: ModelStore, tmp_path: Path) -> None:
    source = Path(shutil.copytree(model, tmp_path / "source"))
    kept = store.keep(source)
    shutil.rmtree(source)
    assert kept == store.directory(fingerprint(model))
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == {
        file.name: file.read_bytes() for file in model.iterdir()
    }
    assert store.locate(fingerprint(model), [str(source)]) == kept


def test_keeping_twice_copies_once_and_repairs_what_was_damaged(model: Path, store: ModelStore) -> None:
    kept = store.keep(model)
    before = (kept / WEIGHTS_FILE).stat().st_mtime_ns
    assert store.keep(model) == kept
    assert (kept / WEIGHTS_FILE).stat().st_mtime_ns == before
    (kept / WEIGHTS_FILE).write_bytes(b"gone")
    assert damage(kept, fingerprint(model)) is not None
    assert store.keep(model) == kept
    assert damage(kept, fingerprint(model)) is None
    (kept / "training_summary.json").unlink()
    assert store.keep(model) == kept
    assert (kept / "training_summary.json").read_text() == "{}"


@pytest.mark.parametrize("harm", ["weights", "no weights", "card", "no card"])
def test_a_damaged_source_is_refused_and_leaves_nothing(
    model: Path, store: ModelStore, tmp_path: Path, harm: str
) -> None:
    source = Path(shutil.copytree(model, tmp_path / "source"))
    file = source / (WEIGHTS_FILE if "weights" in harm else CARD_FILE)
    if harm.startswith("no"):
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-9] + b"xxxxxxxxx")
    with pytest.raises(ModelError, match=file.name):
        store.keep(source)
    assert not store.folder.exists() or list(store.folder.iterdir()) == []


@pytest.mark.parametrize("name", [HEAD_FILE, FAMILIAR_FILE])
@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_every_file_that_the_card_names_is_looked_at(
    model: Path, store: ModelStore, tmp_path: Path, name: str, harm: str
) -> None:
    source, content = Path(shutil.copytree(model, tmp_path / "source")), b"learned"
    digest = hashlib.sha256(content).hexdigest()
    card = read_card(source / CARD_FILE).with_settings(
        regions=RegionDrawing("learned", RegionHeadSettings(digest)), familiarity=FamiliaritySettings(digest, 0.2, 120)
    )
    (source / CARD_FILE).write_text(card.to_json())
    for file in (HEAD_FILE, FAMILIAR_FILE):
        (source / file).write_bytes(content)
    kept = store.keep(source)
    assert damage(kept, card.fingerprint) is None
    if harm == "changed":
        (kept / name).write_bytes(b"LEARNED")
    else:
        (kept / name).unlink()
    assert name in str(damage(kept, card.fingerprint))
    assert store.locate(card.fingerprint, [str(source)]) == source
    assert damage(store.keep(source), card.fingerprint) is None


def test_a_full_disk_leaves_nothing_half(model: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.keep(model)
    assert list(store.folder.iterdir()) == []


def test_what_a_killed_process_left_is_not_taken_for_a_model(model: Path, store: ModelStore) -> None:
    half = store.folder / ".0123"
    half.mkdir(parents=True)
    (half / CARD_FILE).write_bytes((model / CARD_FILE).read_bytes())
    kept = store.keep(model)
    assert half.exists()
    os.utime(half, (time.time() - 2 * 24 * 3600,) * 2)
    (kept / CARD_FILE).unlink()
    store.keep(model)
    assert not half.exists()


def test_several_processes_keep_one_model_at_once(model: Path, store: ModelStore) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=store.keep, args=(model,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert [folder.name for folder in store.folder.iterdir()] == [fingerprint(model)]
    assert damage(store.directory(fingerprint(model)), fingerprint(model)) is None


def test_a_version_is_found_where_it_was_read_from(model: Path, store: ModelStore, tmp_path: Path) -> None:
    other = desks.write_model(tmp_path / "other", favourite="stain")
    assert store.locate(fingerprint(model), [str(tmp_path / "nowhere"), str(other), str(model)]) == model
    with pytest.raises(ModelError, match=r"nowhere.*holds another model by now.*activate the version again"):
        store.locate(fingerprint(model), [str(tmp_path / "nowhere"), str(other)])
