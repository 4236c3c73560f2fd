"""Labels are shuffled as they should be, maps are compared with the right ones, and the table says so."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.explanation_sanity import Questions, checked, summarised, write_shuffled
from benchmarks.explanation_tables import sanity_table
from inspection_models.attribution import attribute
from inspection_models.data import load_dataset
from inspection_models.metrics import similarity
from tests.inspection_models.attribution_networks import FAMILIES, built, images

MACHINE = {"cpu": "A processor", "threads": 2, "packages": {"torch": "2.13.0"}}


def test_shuffling_moves_pictures_and_keeps_the_classes_sizes(tmp_path: Path) -> None:
    grey = itertools.count()
    for label, count in (("good", 12), ("crack", 7), ("dent", 5)):
        for number in range(count):
            place = tmp_path / "true" / "images" / label / f"{label}{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), next(grey)).save(place)
    true = load_dataset(tmp_path / "true")
    for folder in ("one", "again"):
        write_shuffled(true.samples, tmp_path / folder, seed=3)
    shuffled = load_dataset(tmp_path / "one")
    assert (shuffled.classes, shuffled.good_class) == (true.classes, "good")
    assert Counter(sample.label for sample in shuffled.samples) == Counter(sample.label for sample in true.samples)
    before = {sample.sha256: sample.label for sample in true.samples}
    after = {sample.sha256: sample.label for sample in shuffled.samples}
    assert before.keys() == after.keys()
    # By chance (12² + 7² + 5²) / 24² of them, 0.38, keep their label.
    assert 0 < sum(before[digest] == after[digest] for digest in before) < 0.75 * len(before)
    assert load_dataset(tmp_path / "again").sha256 == shuffled.sha256


@pytest.mark.parametrize("method", ["quorum", "grad-cam"])
def test_maps_are_compared_with_the_network_s_own_of_the_true_class(method: str) -> None:
    network, other = (built(FAMILIES[1], seed, torch.float32) for seed in (1, 2))
    questions = Questions(images(2, 5, torch.float32), torch.tensor([0, 2]), torch.tensor([1, 3]), "softmax")
    found = checked(method, network, other, questions)

    def mapped(of: torch.nn.Module, targets: torch.Tensor) -> torch.Tensor:
        return attribute(of, questions.inputs, targets, method).map

    own = mapped(network, questions.targets)
    for key, changed in (("labels", mapped(other, questions.targets)), ("classes", mapped(network, questions.rivals))):
        expected = [similarity(one, map_) for one, map_ in zip(own, changed, strict=True)]
        assert [one["spearman"] for one in found[key]] == pytest.approx([one.spearman for one in expected], abs=1e-5)
    assert [len(stage) for stage in found["stages"]] == [2, 2, 2]
    assert all(one["spearman"] < 1 for stage in found["stages"] for one in stage)


def test_the_table_says_what_was_found() -> None:
    alike, different = {"spearman": 0.9, "ssim": 0.8}, {"spearman": 0.1, "ssim": 0.2}
    found = {
        "method": "quorum",
        "stages": [[alike, alike], [alike, different], [different, different]],
        "labels": [different, different],
        "classes": [alike, alike],
    }
    report = {
        "machine": MACHINE,
        "data": "steel",
        "network": "lite",
        "images": 4,
        "options": {"rise": {"masks": 500}},
        "trained": {"balanced_accuracy": 0.976},
        "permuted": {"balanced_accuracy": 0.21},
        "rows": [summarised(found)],
    }
    said, _, *lines = sanity_table(report).splitlines()
    assert said.startswith("**steel, lite**: 4 pictures, RISE with 500 masks. Balanced accuracy 98 %, and 21 % of the")
    assert lines[0] == "| method | a third random | two thirds | all | labels shuffled | second class |"
    assert lines[2] == (
        "| quorum | 0.90 [0.90, 0.90]; 0.80 | 0.50 [0.10, 0.90]; 0.50 | 0.10 [0.10, 0.10]; 0.20 "
        "| 0.10 [0.10, 0.10]; 0.20 | 0.90 [0.90, 0.90]; 0.80 |"
    )
    assert len(lines) == 5
