"""What the demo inspects: the user's own folder, told apart from others of its name."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from backend.demo.material import TITLE_LENGTH, DemoMaterial, MaterialError, distinct_title, prepare_material
from backend.demo.progress import DemoProgress
from inspection_models.training import TrainingRequest
from tests.backend import desks


def material(folder: Path, tmp_path: Path) -> DemoMaterial:
    progress = DemoProgress(Console(quiet=True))
    return prepare_material(tmp_path / "demo", images=folder, model=tmp_path / "model", progress=progress)


def photographs(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_model_of_another_release_is_trained_anew_and_one_of_this_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[TrainingRequest] = []

    def make_inbox(folder: Path) -> None:
        folder.mkdir()
        (folder / "truth.json").write_text('{"1.png": "good"}')

    def train(request: TrainingRequest, progress: object = None) -> SimpleNamespace:
        trained.append(request)
        shutil.rmtree(request.output)
        desks.write_model(request.output)
        counts = {"train": {"good": 1}, "test": {"good": 1}}
        return SimpleNamespace(counts=counts, seconds=1.0, test=SimpleNamespace(balanced_accuracy=1.0))

    monkeypatch.setattr("inspection_models.training.train", train)
    monkeypatch.setattr("inspection_models.data.write_synthetic_steel", lambda *_, **__: [tmp_path / "good" / "1.png"])
    monkeypatch.setattr("backend.demo.material._make_inbox", make_inbox)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text('{"format": "inspection-model", "format_version": 1}')
    for _ in range(2):
        made = prepare_material(tmp_path, images=None, model=None, progress=DemoProgress(Console(quiet=True)))
        assert made.model == tmp_path / "model"
        assert [request.overwrite for request in trained] == [True]


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    first = material(photographs(tmp_path / "a" / "inbox", "1.png"), tmp_path)
    second = material(photographs(tmp_path / "b" / "inbox", "1.png"), tmp_path)
    assert (first.title, second.title) == ("Inspection of a/inbox", "Inspection of b/inbox")
    assert (first.source, second.source) == (str(tmp_path / "a" / "inbox"), str(tmp_path / "b" / "inbox"))


def test_a_long_title_is_one_that_label_studio_takes(tmp_path: Path) -> None:
    assert len(material(photographs(tmp_path / ("x" * 70) / ("y" * 70), "1.png"), tmp_path).title) == TITLE_LENGTH


def test_a_taken_title_gets_a_number() -> None:
    assert distinct_title("Strip", ()) == "Strip"
    assert distinct_title("Strip", {"Strip", "Strip (2)"}) == "Strip (3)"
    long = "s" * 80
    second = distinct_title(long, {long[:TITLE_LENGTH]})
    assert second.endswith(" (2)")
    assert len(second) == TITLE_LENGTH


def test_photographs_are_found_in_folders_below_whatever_the_case(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "inbox", "b/2.JPG", "1.png", "notes.txt")
    assert [path.name for path in material(folder, tmp_path).images] == ["1.png", "2.JPG"]


@pytest.mark.parametrize(
    ("names", "reason"), [((), "no folder"), (("notes.txt",), "no images"), (("a/1.png", "b/1.png"), "several files")]
)
def test_an_unusable_folder_is_refused(names: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    with pytest.raises(MaterialError, match=reason):
        material(photographs(tmp_path / "inbox", *names), tmp_path)
