"""Splits: groups stay whole, classes keep their shares, and the same seed gives the same parts."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection_models.data import DatasetError, Sample, Split, split_dataset
from inspection_models.data.dataset import Dataset, make_dataset

ROOT = Path("root")


def dataset(groups: dict[str, list[int]]) -> Dataset:
    """Class by class, groups of so many images."""
    samples = []
    for label, sizes in groups.items():
        for number, size in enumerate(sizes):
            for index in range(size):
                name = f"{label}-{number}-{index}"
                samples.append(Sample(ROOT / label / name, label, f"{label}-{number}", name))
    return make_dataset(ROOT, samples, "image-folder")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 7), min_size=12, max_size=40), min_size=2, max_size=4),
    st.integers(0, 5),
    st.sampled_from([(0.15, 0.15), (0.1, 0.3), (0.25, 0.25)]),
)
def test_groups_stay_whole_and_every_class_is_everywhere(
    sizes: list[list[int]], seed: int, shares: tuple[float, float]
) -> None:
    data = dataset({f"class{index}": groups for index, groups in enumerate(sizes)})
    split = split_dataset(data, validation=shares[0], test=shares[1], seed=seed)
    parts = (split.train, split.validation, split.test)
    assert sorted(s.path for part in parts for s in part) == sorted(s.path for s in data.samples)
    groups = [{s.group for s in part} for part in parts]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    for label, total in data.counts.items():
        for part, share in zip(parts, (1 - sum(shares), *shares), strict=True):
            count = sum(s.label == label for s in part)
            assert count > 0
            assert abs(count - share * total) <= 7  # not further off than the largest group


def test_single_images_are_split_to_the_exact_shares() -> None:
    split = split_dataset(dataset({"good": [1] * 400, "pit": [1] * 40}), validation=0.15, test=0.2, seed=3)
    found = [Counter(s.label for s in part) for part in (split.train, split.validation, split.test)]
    assert found == [
        {"good": 260, "pit": 26},
        {"good": 60, "pit": 6},
        {"good": 80, "pit": 8},
    ]


def test_the_seed_decides_and_repeats() -> None:
    data = dataset({"good": [1] * 50, "pit": [1] * 50})
    assert split_dataset(data, seed=1) == split_dataset(data, seed=1)
    assert split_dataset(data, seed=1) != split_dataset(data, seed=2)


def test_a_group_with_several_classes_is_not_torn() -> None:
    samples = [
        Sample(ROOT / f"{g}-{i}", "good" if i else "pit", f"g{g}", f"{g}-{i}") for g in range(30) for i in range(3)
    ]
    data = make_dataset(ROOT, samples, "image-folder")
    split = split_dataset(data)
    for part in (split.train, split.validation, split.test):
        assert all(count == 3 for count in Counter(s.group for s in part).values())


def test_every_class_of_images_with_several_is_everywhere() -> None:
    samples = [
        Sample(ROOT / str(n), "crack", str(n), str(n), also=("stain",) if n % 9 == 0 else ()) for n in range(60)
    ] + [Sample(ROOT / f"good-{n}", "good", f"good-{n}", f"good-{n}") for n in range(60)]
    data = make_dataset(ROOT, samples, "csv")
    split = split_dataset(data)
    stained = [sum("stain" in s.labels for s in part) for part in (split.train, split.validation, split.test)]
    assert stained == [5, 1, 1]
    with pytest.raises(DatasetError, match=r"class 'stain' has images of only 2 independent part"):
        split_dataset(make_dataset(ROOT, [s for s in samples if not s.also] + samples[0:10:9], "csv"))


def test_a_class_of_too_few_parts_is_refused_by_name() -> None:
    with pytest.raises(DatasetError, match=r"class 'pit' has images of only 2 independent part"):
        split_dataset(dataset({"good": [1] * 20, "pit": [5, 5]}))


def test_a_class_of_three_parts_gets_one_in_each() -> None:
    split = split_dataset(dataset({"good": [1] * 100, "pit": [6, 5, 5]}))
    assert [sum(s.label == "pit" for s in part) for part in (split.train, split.validation, split.test)] == [6, 5, 5]


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.2, 0.0), (0.5, 0.5), (-0.1, 0.2)])
def test_impossible_shares_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="something to train on"):
        split_dataset(dataset({"good": [1] * 9, "pit": [1] * 9}), validation=shares[0], test=shares[1])


def with_parts(parts: dict[str, dict[str, int]], **groups: str) -> Dataset:
    """Part by part and class by class so many images, each its own group unless `groups` names it."""
    samples = []
    for part, counts in parts.items():
        for label, count in counts.items():
            for index in range(count):
                name = f"{part}-{label}-{index}".replace("-", "_")
                samples.append(Sample(ROOT / name, label, groups.get(name, name), name, part=part or None))
    return make_dataset(ROOT, samples, "image-folder")


def counts_of(split: Split) -> list[Counter[str]]:
    return [Counter(s.label for s in part) for part in (split.train, split.validation, split.test)]


def test_a_given_split_is_used_and_said_to_be() -> None:
    given = {part: {"good": count, "pit": count} for part, count in (("train", 9), ("validation", 3), ("test", 4))}
    split = split_dataset(with_parts(given), seed=5)
    assert counts_of(split) == [{"good": 9, "pit": 9}, {"good": 3, "pit": 3}, {"good": 4, "pit": 4}]
    assert split.notes == ("the data set's own split is used",)


@pytest.mark.parametrize("missing", ["validation", "test"])
def test_a_missing_part_is_cut_from_training(missing: str) -> None:
    other = {"validation": "test", "test": "validation"}[missing]
    data = with_parts({"train": {"good": 100, "pit": 40}, other: {"good": 7, "pit": 3}})
    split = split_dataset(data, seed=5)
    assert {s.part for s in getattr(split, other)} == {other}
    assert Counter(s.label for s in getattr(split, missing)) == {"good": 15, "pit": 6}
    assert Counter(s.label for s in split.train) == {"good": 85, "pit": 34}
    assert split.notes[1] == f"it has no {missing} part, which is cut from its training part"


def test_a_group_that_a_given_split_tears_goes_to_the_most_held_out_part() -> None:
    data = with_parts(
        {"train": {"good": 20, "pit": 20}, "validation": {"good": 5, "pit": 5}, "test": {"good": 5, "pit": 5}},
        train_good_0="twins",
        test_good_0="twins",
        train_pit_0="others",
        validation_pit_0="others",
    )
    split = split_dataset(data)
    assert counts_of(split) == [{"good": 19, "pit": 19}, {"good": 5, "pit": 6}, {"good": 6, "pit": 5}]
    assert "2 images went from one of its parts to another" in split.notes[1]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"train": {"good": 20}, "test": {"good": 10, "pit": 20}}, "its train part shows no image of class 'pit'"),
        ({"train": {"good": 20, "pit": 20}, "": {"good": 1}}, "1 images are in none of its parts"),
        ({"test": {"good": 20, "pit": 20}}, "its train part shows no image"),
        (
            {"train": {"good": 20, "pit": 1}, "test": {"good": 3, "pit": 3}},
            "its (train|validation) part shows no image",
        ),
    ],
)
def test_a_given_split_that_cannot_be_used_is_not(given: dict[str, dict[str, int]], reason: str) -> None:
    data = with_parts(given)
    split = split_dataset(data)
    assert re.search(f"the data set's own split is not used: {reason}", split.notes[0])
    assert all(set(counted) == {"good", "pit"} for counted in counts_of(split))


@settings(max_examples=30, deadline=None)
@given(st.sets(st.tuples(st.sampled_from(["good", "pit"]), st.integers(0, 19)), max_size=12), st.integers(0, 5))
def test_what_may_only_be_tested_on_is_in_the_test_part_with_its_group(held: set[tuple[str, int]], seed: int) -> None:
    data = dataset({"good": [2] * 20, "pit": [3] * 20})
    split = split_dataset(data, seed=seed, held=frozenset(f"{label}-{number}-1" for label, number in held))
    groups = {f"{label}-{number}" for label, number in held}
    tested = {sample.group for sample in split.test}
    assert groups <= tested
    for part in (split.train, split.validation):
        assert not groups & {sample.group for sample in part}
        assert {sample.label for sample in part} == {"good", "pit"}
    if not held:
        assert split == split_dataset(data, seed=seed)


def test_all_classes_with_too_few_groups_are_named_with_their_numbers() -> None:
    told = "class 'dent' has images of only 2 independent part(s), class 'pit' of 1;"
    with pytest.raises(DatasetError, match=re.escape(told)):
        split_dataset(dataset({"good": [1] * 5, "dent": [1, 1], "pit": [4]}))
