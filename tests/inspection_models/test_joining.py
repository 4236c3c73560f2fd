"""Photographs labelled one by one beside a folder: what belongs to one part stays together."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspection_models.data import Sample, load_dataset
from inspection_models.data.dataset import file_sha256
from inspection_models.data.joining import HeldOut, Joined, join
from tests.inspection_models.data_files import image_folder, write_image, write_text

NOTHING_HELD = HeldOut(frozenset(), np.zeros((0, 64, 64), np.uint8))
SIZE = (64, 64)


def labelled(path: Path, label: str, group: str) -> Sample:
    return Sample(path, label, group, file_sha256(path))


@pytest.mark.parametrize("label", ["good", "scratch"])
def test_a_part_stays_together_though_the_folder_has_some_of_its_photographs(tmp_path: Path, label: str) -> None:
    folder = image_folder(tmp_path / "folder", {"good": 4, "scratch": 4})
    own = []
    # The reviewed part has three photographs, of which the folder knows the first two, as if they were of two parts.
    for index in range(3):
        path = write_image(tmp_path / "reviewed" / f"{index}.png", 500 + index, SIZE)
        own.append(labelled(path, label, "part 4711"))
        if index < 2:
            shutil.copy(path, folder / "good" / f"known-{index}.png")
    stranger = labelled(write_image(tmp_path / "reviewed" / "other.png", 600, SIZE), label, "part 12")
    joined = join([*own, stranger], load_dataset(folder), NOTHING_HELD, good_class="good")
    groups = {sample.sha256: sample.group for sample in joined.dataset.samples}
    assert joined.same == 2
    assert len({groups[sample.sha256] for sample in own}) == 1
    assert len(set(groups.values())) == 8 + 1 + 1


def test_what_the_folder_knows_of_a_part_is_together_with_what_was_reviewed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    lines = ["image,label,group"]
    for index in range(6):
        write_image(folder / f"{index}.png", index, SIZE)
        lines.append(f"{index}.png,{'good' if index % 2 else 'scratch'},series {index // 3}")
    write_text(folder / "labels.csv", "\n".join(lines) + "\n")
    dataset = load_dataset(folder)
    assert len({sample.group for sample in dataset.samples}) == 2
    known = replace(dataset.samples[0], group="part 4711")
    new = labelled(write_image(tmp_path / "reviewed" / "new.png", 500, SIZE), "good", "part 4711")
    joined = join([known, new], dataset, NOTHING_HELD)
    together = {sample.path.name for sample in joined.dataset.samples if sample.group == joined_group(joined, new)}
    assert together == {"0.png", "1.png", "2.png", "new.png"}


def joined_group(joined: Joined, one: Sample) -> str:
    return next(sample.group for sample in joined.dataset.samples if sample.sha256 == one.sha256)
