"""What the comparison of a project has come to so far, and whether that accounts for all that Label Studio counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backend.recovery import Found

_INSTANT = timedelta(microseconds=1)


@dataclass
class Tally:
    """A comparison. Of several passes `found` and `latest` are of all, and the rest of the last one.

    Attributes:
        started: by the desk's clock.
        found: what was recorded.
        latest: the latest change of any task that was listed.
        seen: annotations that were listed.
        failed: annotations that could not be brought into agreement.
        unread: tasks that could not be read.
        waiting: annotations left to their webhooks, with the change of their task, None where it was not listed.
        gone: annotations that Label Studio has no more and the record takes for present, not recorded as deleted yet.
        unconfirmed: those of them that are kept as failed.
        listed: the latest change of each task.
    """

    started: datetime
    found: Counter[Found] = field(default_factory=Counter)
    latest: datetime | None = None
    seen: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    unread: set[int] = field(default_factory=set)
    waiting: dict[int, datetime | None] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    unconfirmed: set[int] = field(default_factory=set)
    listed: dict[int, datetime] = field(default_factory=dict)

    def begin_pass(self) -> None:
        """Forget what the pass before came to, but not what it recorded."""
        for one in (self.seen, self.failed, self.unread, self.waiting, self.gone, self.unconfirmed, self.listed):
            one.clear()

    def through(self) -> datetime | None:
        """The latest change taken account of: before that of any task that was left to the next time."""
        before = (instant - _INSTANT for instant in self.waiting.values() if instant is not None)
        return min((instant for instant in (self.latest, *before) if instant is not None), default=None)


@dataclass(frozen=True)
class Balance:
    """Annotations of the record less those that Label Studio counts.

    Attributes:
        surplus: by Label Studio's count after the pass: the record then has what was deleted or made before.
        at_most: by the smaller of that count and the one before the pass, so that no annotation made or deleted
            meanwhile is taken for one that the record lacks.
        floor: how much of it failures account for.
    """

    surplus: int
    at_most: int
    floor: int

    @property
    def lacking(self) -> int:
        """Annotations that Label Studio counts, and that neither stand in the record, nor wait, nor failed."""
        return max(0, self.floor - self.at_most)


def balance(tally: Tally, present: frozenset[int], counted: tuple[int, int], known_surplus: int | None) -> Balance:
    """How the record compares with Label Studio's counts before and after a pass.

    Args:
        tally: after the pass.
        present: annotations that the record takes for present, after the pass.
        counted: annotations in Label Studio before and after it.
        known_surplus: what failures accounted for the last time, where only changes were looked at; None after a look
            at everything.
    """
    # What waits stands in the record already, or does still.
    expected = len(present | tally.waiting.keys()) - len((present & tally.waiting.keys()) - tally.seen)
    surplus = expected - counted[1]
    at_most = expected - min(counted)
    floor = -len(tally.failed - present)
    if known_surplus is None:
        settled = tally.seen - tally.failed - tally.waiting.keys()
        floor += len(tally.unconfirmed) - len(settled - present)
        if tally.unread:
            # How many annotations they have is not known.
            floor = min(floor, at_most)
    else:
        floor += known_surplus
    return Balance(surplus, at_most, floor)
