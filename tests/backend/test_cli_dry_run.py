"""`inspection train --dry-run`: what would be read, and what stands against it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.cli.program import run
from tests.inspection_models.data_files import image_folder, write_image, write_mask, write_text


def folder(root: Path) -> Path:
    image_folder(root, {"good": 8, "pit": 6}, beneath="images")
    for number in range(3):
        write_mask(root / "masks" / "pit" / f"00{number}.png")
    write_text(root / "notes.txt", "mine")
    pages = [Image.fromarray(np.full((30, 40), value, np.uint8)) for value in (40, 90)]
    pages[0].save(root / "images" / "pit" / "pages.tif", save_all=True, append_images=pages[1:])
    deep = np.random.default_rng(1).integers(0, 4095, (12, 16)).astype(np.uint16)
    Image.fromarray(deep).save(root / "images" / "good" / "deep.png")
    return root


def test_it_says_what_would_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path)
    assert run(["train", "--data", str(tmp_path), "--dry-run", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["layout"], summary["images"], summary["good_class"]) == ("image-folder", 16, "good")
    assert summary["counts"] == {"good": 9, "pit": 7}
    assert list(summary["parts"]) == ["train", "validation", "test"]
    assert sum(sum(counts.values()) for counts in summary["parts"].values()) == 16
    assert summary["width"] == {"min": 16, "median": 16, "max": 40}
    assert summary["formats"] == {"PNG": 15, "TIFF": 1}
    assert summary["pixel_types"] == {"L, 8 bits": 15, "I;16, 16 bits": 1}
    share = 15 / (12 * 16)
    assert summary["marks"]["pit"] == {
        "images": 7,
        "marked": 3,
        "kinds": {"mask": 3},
        "defect_share": {"min": share, "median": share, "max": share},
    }
    assert summary["ignored"] == ["notes.txt"]
    assert summary["several_pages"] == 1
    text = " ".join(summary["notes"])
    assert "1 files have several pages or frames; only the first is read" in text
    assert "the 1 images of 16 bits use little of their range" in text
    assert run(["train", "--data", str(tmp_path), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "16 images in 16 groups",
        "good (good)",
        "left out: notes.txt",
        "twins: none",
        "3 (mask)",
        "7.8 – 7.8 – 7.8",
    ):
        assert line in shown


def test_twins_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image_folder(tmp_path, {"good": 6, "pit": 6})
    rough = np.random.default_rng(5).integers(0, 256, (64, 64)).astype(np.uint8)
    for name, share in (("a", 1.0), ("b", 0.8)):
        Image.fromarray(np.rint(rough * share).astype(np.uint8)).save(tmp_path / "pit" / f"{name}.png")
    assert run(["train", "--data", str(tmp_path), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "twins: 2 images in 1 families, the largest of 2" in shown
    assert "pit/a.png, pit/b.png" in shown


def test_what_cannot_be_split_is_shown_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image_folder(tmp_path, {"good": 6, "pit": 2})
    assert run(["train", "--data", str(tmp_path), "--dry-run", "--json"]) == 1
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert summary["parts"] == {}
    assert "class 'pit' has images of only 2 independent part" in summary["problem"]
    assert "error: class 'pit'" in shown.err


def test_damage_fails_and_wrong_use_is_told_from_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image_folder(tmp_path, {"good": 6, "pit": 6})
    for label in ("good", "pit"):
        path = write_image(tmp_path / label / "000.png", len(label))
        path.write_bytes(path.read_bytes()[:80])
    assert run(["train", "--data", str(tmp_path), "--dry-run"]) == 1
    told = capsys.readouterr().err
    assert "2 problems:" in told
    assert "good/000.png" in told
    assert "pit/000.png" in told
    assert run(["train", "--data", str(tmp_path)]) == 2
    assert "--out is missing" in capsys.readouterr().err
    assert run(["train", "--dry-run"]) == 2
