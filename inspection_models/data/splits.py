"""Splitting a data set into parts for training, validation and test, with every group whole in one of them."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inspection_models.data.dataset import PARTS, DatasetError, class_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from inspection_models.data.dataset import Dataset, Sample


@dataclass(frozen=True)
class Split:
    """The three parts, each sorted as the data set was.

    Attributes:
        train: what is trained on.
        validation: what training is watched and the model calibrated on.
        test: what the model is judged by.
        lines: what was taken from the test part to draw lines from.
        notes: whether a layout's own split was used, and why not, each a sentence; none where it has none.
    """

    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]
    lines: tuple[Sample, ...] = ()
    notes: tuple[str, ...] = ()


class _UnusableSplitError(ValueError):
    """A layout's own split cannot be used; the message says why."""


def split_dataset(
    dataset: Dataset,
    *,
    validation: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    held: frozenset[str] = frozenset(),
) -> Split:
    """Split by group, as the layout does or else each class in the same proportions; the same for the same seed.

    A layout's own split is used where it leaves every class in every part; a part that it lacks is cut from its
    training part. A group that it tears apart goes to the most held-out part that has some of it: test before
    validation before training. A note says what was done.

    Otherwise the groups go, those with the rarest classes first and larger before smaller, to the part that then lacks
    most of what it is owed; the last groups of a class go to the parts that have none of it yet.

    Args:
        dataset: what to split.
        validation: share of the samples to validate on, above 0.
        test: share of the samples to test on, above 0; the rest, above 0 too, is trained on.
        seed: decides which of equal groups goes where.
        held: sha256 of files that may only be tested on; their groups go to the test part whole, whatever it is owed.

    Raises:
        DatasetError: a class has fewer than three groups, so that no three parts can each have one.
        ValueError: the shares are out of range.
    """
    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    if min(shares.values()) <= 0:
        raise ValueError(f"validation {validation} and test {test} must be above 0 and leave something to train on")
    notes: tuple[str, ...] = ()
    if any(sample.part is not None for sample in dataset.samples):
        try:
            return _given_split(dataset, shares, seed, held)
        except _UnusableSplitError as error:
            notes = (f"the data set's own split is not used: {error}",)
    _check_groups(dataset, _members(dataset.samples))
    parts = _divide(dataset.samples, dataset.classes, list(shares.values()), seed, held)
    _check_parts(dataset, parts)
    trained, validated, tested = parts
    return Split(trained, validated, tested, notes=notes)


def _given_split(dataset: Dataset, shares: dict[str, float], seed: int, held: frozenset[str]) -> Split:
    if without := sum(sample.part is None for sample in dataset.samples):
        raise _UnusableSplitError(f"{without} images are in none of its parts")
    members = _members(dataset.samples)
    place = {group: max((str(sample.part) for sample in inside), key=PARTS.index) for group, inside in members.items()}
    place |= dict.fromkeys(_groups_of(dataset.samples, held), "test")
    moved = sum(sample.part != place[sample.group] for sample in dataset.samples)
    found = {part: tuple(s for s in dataset.samples if place[s.group] == part) for part in PARTS}
    if missing := [part for part in PARTS if part != "train" and not found[part]]:
        kept = 1 - sum(shares[part] for part in missing)
        divided = _divide(found["train"], dataset.classes, [kept, *(shares[part] for part in missing)], seed)
        found.update(zip(["train", *missing], divided, strict=True))
    for part in PARTS:
        if lacking := sorted(set(dataset.classes) - _labels(found[part])):
            raise _UnusableSplitError(f"its {part} part shows no image of class {lacking[0]!r}")
    notes = ["the data set's own split is used"]
    notes += [f"it has no {part} part, which is cut from its training part" for part in missing]
    if moved:
        notes.append(
            f"{moved} images went from one of its parts to another, for images of their group lie there; a group is "
            "never torn apart"
        )
    return Split(found["train"], found["validation"], found["test"], notes=tuple(notes))


def _members(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        members[sample.group].append(sample)
    return members


def _groups_of(samples: Iterable[Sample], files: frozenset[str]) -> set[str]:
    return {sample.group for sample in samples if sample.sha256 in files}


def _divide(
    samples: Sequence[Sample],
    classes: Sequence[str],
    shares: Sequence[float],
    seed: int,
    held: frozenset[str] = frozenset(),
) -> list[tuple[Sample, ...]]:
    """Samples in as many parts as there are shares, each group whole; groups of the files `held` in the last part."""
    fixed = _groups_of(samples, held)
    members = _members(samples)
    totals = class_counts(samples, classes)
    owed = [{label: share * total for label, total in totals.items()} for share in shares]
    left = Counter(label for inside in members.values() for label in _labels(inside))
    empty = {label: set(range(len(shares))) for label in classes}
    place: dict[str, int] = {}
    for group in sorted(members, key=lambda key: (key not in fixed, _rank(key, members[key], totals, seed))):
        inside = Counter(label for sample in members[group] for label in sample.labels)
        rarest = min(inside, key=lambda label: (totals[label], label))
        open_parts = empty[rarest] if left[rarest] <= len(empty[rarest]) else range(len(shares))
        part = max(sorted(open_parts), key=lambda index: sum(n * owed[index][c] / totals[c] for c, n in inside.items()))
        part = len(shares) - 1 if group in fixed else part
        for label, number in inside.items():
            owed[part][label] -= number
            left[label] -= 1
            empty[label].discard(part)
        place[group] = part
    return [tuple(s for s in samples if place[s.group] == index) for index in range(len(shares))]


def _labels(samples: Iterable[Sample]) -> set[str]:
    return {label for sample in samples for label in sample.labels}


def _rank(group: str, samples: list[Sample], totals: dict[str, int], seed: int) -> tuple[int, int, str]:
    rarest = min(totals[label] for label in _labels(samples))
    return rarest, -len(samples), hashlib.sha256(f"{seed}\0{group}".encode()).hexdigest()


def _check_groups(dataset: Dataset, members: dict[str, list[Sample]]) -> None:
    counted = Counter(label for samples in members.values() for label in _labels(samples))
    if short := [label for label in dataset.classes if counted[label] < len(PARTS)]:
        others = "".join(f", class {label!r} of {counted[label]}" for label in short[1:])
        raise DatasetError(
            f"class {short[0]!r} has images of only {counted[short[0]]} independent part(s){others}; training, "
            "validation and test need one each: add images of other parts or leave the class out"
        )


def _check_parts(dataset: Dataset, parts: list[tuple[Sample, ...]]) -> None:
    for name, part in zip(PARTS, parts, strict=True):
        if missing := sorted(set(dataset.classes) - _labels(part)):
            raise DatasetError(
                f"the {name} part gets no image of class {missing[0]!r}, because too few independent parts show it; "
                "add images of other parts, use larger shares or leave the class out"
            )
