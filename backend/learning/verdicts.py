"""One verdict a photograph, out of the reviews that stand; and which photographs nothing is learned from, and why."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from db.lessons import JudgedImage, StandingReview

UNPREDICTED = "reviewed where nothing was predicted, so it is not known which file was seen"
SEVERAL_IMAGES = "of a part with several images: the verdict is on the part, and not on one photograph"
SKIPPED = "skipped, or without a verdict"
NO_CLASS = "judged with words that are no class of the model"
DISAGREEMENT = "inspectors disagree, and no review is marked as ground truth"
BLIND = "held: of a blind project, which measures inspectors"


@dataclass(frozen=True)
class LeftOut:
    """A photograph that nothing is learned from: why, in words that several share, and what names it."""

    reason: str
    what: str


@dataclass(frozen=True)
class Verdict:
    """What inspectors agree to see on a photograph.

    Attributes:
        image: the file.
        labels: its classes, sorted.
        reviews: those that say so, the latest first.
    """

    image: JudgedImage
    labels: tuple[str, ...]
    reviews: tuple[StandingReview, ...]


@dataclass(frozen=True)
class Verdicts:
    """What reviews come to.

    Attributes:
        found: a verdict a photograph, by the file's hash.
        left_out: the others.
    """

    found: tuple[Verdict, ...]
    left_out: tuple[LeftOut, ...]


def verdicts_of(reviews: Iterable[StandingReview], blind: frozenset[str]) -> Verdicts:
    """One verdict for each photograph that has one.

    Args:
        reviews: that stand.
        blind: sha256 of what blind projects hold, which nothing may be learned from, wherever it was reviewed.
    """
    by_file: dict[str, list[StandingReview]] = defaultdict(list)
    left_out: list[LeftOut] = []
    for review in reviews:
        if review.image is None:
            left_out.append(LeftOut(UNPREDICTED, place_of(review)))
        elif review.part:
            left_out.append(LeftOut(BLIND if review.part & blind else SEVERAL_IMAGES, place_of(review)))
        else:
            by_file[review.image.sha256].append(review)
    found = []
    for sha256 in sorted(by_file):
        verdict = BLIND if sha256 in blind else _verdict(by_file[sha256])
        if isinstance(verdict, Verdict):
            found.append(verdict)
        else:
            left_out.append(LeftOut(verdict, place_of(by_file[sha256][0])))
    return Verdicts(tuple(found), tuple(left_out))


def place_of(review: StandingReview) -> str:
    """Where a review was made, for people."""
    return f"task {review.task_id} of project {review.project_id}"


def _verdict(reviews: Sequence[StandingReview]) -> Verdict | str:
    """What is said of one file, or why nothing is."""
    judging = [one for one in reviews if not one.was_cancelled and one.outcome not in (None, "skipped")]
    judging = [one for one in judging if one.labels is not None]
    if not judging:
        return SKIPPED
    judging = [one for one in judging if one.ground_truth] or judging
    named = [one for one in judging if one.labels and one.image and set(one.labels) <= set(one.image.classes)]
    if not named:
        return NO_CLASS
    # Words that are no class contradict those that are: who sees an unknown defect does not see a good part.
    if len(named) < len(judging):
        return DISAGREEMENT
    said = {tuple(sorted(one.labels or ())) for one in judging}
    if len(said) > 1:
        return DISAGREEMENT
    latest = sorted(judging, key=lambda one: (one.changed_at, one.review_id), reverse=True)
    assert latest[0].image is not None  # noqa: S101 - only such were grouped
    return Verdict(latest[0].image, said.pop(), tuple(latest))
