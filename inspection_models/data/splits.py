"""Splitting a data set into parts for training, validation and test, with every group whole in one of them."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inspection_models.data.dataset import PARTS, DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inspection_models.data.dataset import Dataset, Sample


@dataclass(frozen=True)
class Split:
    """The three parts, each sorted as the data set was, and what was taken from the test part to draw lines from."""

    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]
    lines: tuple[Sample, ...] = ()


def split_dataset(dataset: Dataset, *, validation: float = 0.15, test: float = 0.15, seed: int = 0) -> Split:
    """Split by group, each class in the same proportions as near as its groups allow; the same for the same seed.

    The groups go, those with the rarest classes first and larger before smaller, to the part that then lacks most of
    what it is owed; the last groups of a class go to the parts that have none of it yet.

    Args:
        dataset: what to split.
        validation: share of the samples to validate on, above 0.
        test: share of the samples to test on, above 0; the rest, above 0 too, is trained on.
        seed: decides which of equal groups goes where.

    Raises:
        DatasetError: a class has fewer than three groups, so that no three parts can each have one.
        ValueError: the shares are out of range.
    """
    shares = (1 - validation - test, validation, test)
    if min(shares) <= 0:
        raise ValueError(f"validation {validation} and test {test} must be above 0 and leave something to train on")
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in dataset.samples:
        members[sample.group].append(sample)
    _check_groups(dataset, members)
    totals = dataset.counts
    owed = [{label: share * total for label, total in totals.items()} for share in shares]
    left = Counter(label for samples in members.values() for label in _labels(samples))
    empty = {label: set(range(len(PARTS))) for label in dataset.classes}
    place: dict[str, int] = {}
    for group in sorted(members, key=lambda key: _rank(key, members[key], totals, seed)):
        inside = Counter(label for sample in members[group] for label in sample.labels)
        rarest = min(inside, key=lambda label: (totals[label], label))
        open_parts = empty[rarest] if left[rarest] <= len(empty[rarest]) else range(len(PARTS))
        part = max(sorted(open_parts), key=lambda index: sum(n * owed[index][c] / totals[c] for c, n in inside.items()))
        for label, number in inside.items():
            owed[part][label] -= number
            left[label] -= 1
            empty[label].discard(part)
        place[group] = part
    parts = [tuple(s for s in dataset.samples if place[s.group] == index) for index in range(len(PARTS))]
    _check_parts(dataset, parts)
    return Split(*parts)


def _labels(samples: Iterable[Sample]) -> set[str]:
    return {label for sample in samples for label in sample.labels}


def _rank(group: str, samples: list[Sample], totals: dict[str, int], seed: int) -> tuple[int, int, str]:
    rarest = min(totals[label] for label in _labels(samples))
    return rarest, -len(samples), hashlib.sha256(f"{seed}\0{group}".encode()).hexdigest()


def _check_groups(dataset: Dataset, members: dict[str, list[Sample]]) -> None:
    for label in dataset.classes:
        groups = sum(label in _labels(samples) for samples in members.values())
        if groups < len(PARTS):
            raise DatasetError(
                f"class {label!r} has images of only {groups} independent part(s); training, validation and test need "
                "one each: add images of other parts or leave the class out"
            )


def _check_parts(dataset: Dataset, parts: list[tuple[Sample, ...]]) -> None:
    for name, part in zip(PARTS, parts, strict=True):
        if missing := sorted(set(dataset.classes) - _labels(part)):
            raise DatasetError(
                f"the {name} part gets no image of class {missing[0]!r}, because too few independent parts show it; "
                "add images of other parts, use larger shares or leave the class out"
            )
