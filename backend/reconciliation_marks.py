"""How far a project was compared: from when on changes are looked at next, and when everything is."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from db.records import NewReconciliation, ReconciliationMark
from db.types import utc_now

# A change that was not committed yet when the last comparison read may bear an earlier instant than what that one saw.
_OVERLAP = timedelta(minutes=5)
_WHOLE_EVERY, _WHOLE_EVERY_WHILE_FAILING = timedelta(days=1), timedelta(hours=1)


def is_whole_due(last: ReconciliationMark) -> bool:
    """Whether it is time to compare everything again."""
    patience = _WHOLE_EVERY_WHILE_FAILING if last.failed else _WHOLE_EVERY
    return last.since is None or last.whole_at is None or utc_now() - last.whole_at > patience


def after_comparing(last: ReconciliationMark | None, ended: NewReconciliation, now: datetime) -> ReconciliationMark:
    """The mark after a comparison that ends now."""
    through = ended.through if last is None or ended.through is not None else last.through
    is_idle = last is not None and through == last.through
    reached_at = last.reached_at if last is not None and is_idle else now
    return ReconciliationMark(
        instance=ended.instance,
        project_id=ended.project_id,
        through=through,
        since=_since(last, through, is_settled=is_idle and ended.started_at - reached_at >= _OVERLAP),
        reached_at=reached_at,
        compared_at=now,
        whole_at=now if ended.is_full or last is None else last.whole_at,
        failed=ended.failed,
        surplus=ended.surplus,
    )


def after_failing(last: ReconciliationMark | None, ended: NewReconciliation, now: datetime) -> ReconciliationMark:
    """The mark of a project that could not be compared now: it was compared no further than before."""
    if last is not None:
        return replace(last, compared_at=now, failed=ended.failed)
    return ReconciliationMark(
        instance=ended.instance,
        project_id=ended.project_id,
        through=None,
        since=None,
        reached_at=now,
        compared_at=now,
        whole_at=None,
        failed=ended.failed,
        surplus=ended.surplus,
    )


def _since(last: ReconciliationMark | None, through: datetime | None, *, is_settled: bool) -> datetime | None:
    """Not before what was settled already; and what was looked at long after its last change is settled."""
    if through is None or is_settled:
        return through
    earliest = through - _OVERLAP
    if last is None or last.since is None or last.since > through:
        return earliest
    return max(earliest, last.since)
