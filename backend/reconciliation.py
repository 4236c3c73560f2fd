"""The desk's projects compared with Label Studio: which tasks of each, how often, and what is told of it afterwards."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.known_projects import recorded_projects
from backend.label_studio.errors import LabelStudioError, LabelStudioMissingError, LabelStudioUnauthorisedError
from backend.project_comparison import ProjectComparison, is_everybodys
from backend.reconciliation_marks import after_comparing, after_failing, is_whole_due
from backend.tally import Tally
from db import reconciliations
from db.records import NewReconciliation, ReconciliationMark
from db.types import utc_now

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from backend.label_studio.client import LabelStudioClient
    from backend.project_comparison import Progress
    from backend.reviews import ReviewService
    from db.engine import Database

logger = logging.getLogger(__name__)


class LackingError(RuntimeError):
    """Label Studio counts annotations that it does not list."""

    def __init__(self, project_id: int, lacking: int) -> None:
        super().__init__(
            f"Label Studio counts {lacking} more annotations in project {project_id} than it lists or the record has; "
            "see whether the API key's user may see all tasks, and run `inspection reconcile` again"
        )


@dataclass(frozen=True)
class Summary:
    """How the comparison of several projects ended.

    Attributes:
        compared: an entry a project.
        unreadable: why others could not be compared, by number.
    """

    compared: tuple[NewReconciliation, ...]
    unreadable: Mapping[int, str]

    @property
    def agrees(self) -> bool:
        """Whether the record says of every annotation what Label Studio says, apart from those that are waited for."""
        return not self.unreadable and not any(one.failed for one in self.compared)


class Reconciler:
    """Compares projects.

    Args:
        client: of the Label Studio that has the annotations.
        database: has the reviews, and takes those that are missing.
        review_service: makes reviews of what is found, as it does of webhooks.
        grace: younger changes are left to the next time, as their webhooks may be on the way.
        are_deletions_confirmed: whether a person said that what is gone was deleted; otherwise what may have gone with
            a restored backup is kept as a failure.
    """

    def __init__(
        self,
        client: LabelStudioClient,
        database: Database,
        review_service: ReviewService,
        *,
        grace: timedelta = timedelta(0),
        are_deletions_confirmed: bool = False,
    ) -> None:
        self._client = client
        self._database = database
        self._instance = client.url
        self._comparison = ProjectComparison(
            client, database, review_service, grace, are_deletions_confirmed=are_deletions_confirmed
        )

    def reconcile(self, project_id: int, *, whole: bool, progress: Progress | None = None) -> NewReconciliation:
        """Compare a project, record what is missing, and keep how that ended.

        What cannot be recorded is kept as a failure with its reason, and the others are compared all the same. Where
        that does not account for all annotations that Label Studio counts, everything is compared once more, and what
        is lacking then is a failure too.

        Args:
            whole: compare every annotation. Otherwise only those of tasks that changed since the last time, and all of
                them once a day, or where the record has more or fewer annotations than Label Studio counts.
            progress: hears the project's number, how many of its tasks were looked at, and how many it has.

        Raises:
            LabelStudioError: Label Studio is away or does not let the project be read; what was found is recorded.
            DatabaseError: the database is away.
        """
        tally = Tally(utc_now())
        with self._database.read() as session:
            is_known = project_id in recorded_projects(session, self._instance)
            last = reconciliations.mark(session, instance=self._instance, project_id=project_id)
        project = self._client.find_project(project_id) if is_known else self._client.project(project_id)
        if project is None:
            return self._reconcile_gone(tally, project_id, last, whole=whole)
        since = None if whole or last is None or is_whole_due(last) else last.since
        known = None if since is None or last is None else last.surplus
        sums, project = self._comparison.compare(tally, project, since, known, progress)
        if since is not None and last is not None and (sums.surplus > last.surplus or sums.lacking):
            # A task that is gone is not listed as changed: only looking at all tells which annotations went with it.
            since = None
            sums, project = self._comparison.compare(tally, project, None, None, progress)
        lacking = sums.lacking if since is None else 0
        if lacking:
            # Once more, as it may have been made and deleted while the others were read.
            sums, project = self._comparison.compare(tally, project, None, None, progress)
            lacking = sums.lacking
        if lacking:
            self._comparison.keep_failure(project_id, None, LackingError(project_id, lacking))
        surplus = max(sums.surplus, sums.floor - lacking)
        return self._keep(tally, project_id, last, is_full=since is None, surplus=surplus, lacking=lacking)

    def _reconcile_gone(
        self, tally: Tally, project_id: int, last: ReconciliationMark | None, *, whole: bool
    ) -> NewReconciliation:
        """Compare a project that is gone: as long as nobody says that it was deleted, no more often than others that
        fail."""
        is_known = (
            last is not None and not is_whole_due(last) and len(self._comparison.present(project_id)) <= last.failed
        )
        is_full = whole or not is_known
        if is_full:
            self._comparison.look_for_all(tally, project_id)
        return self._keep(tally, project_id, last, is_full=is_full, surplus=0)

    def reconcile_all(self, project_ids: Iterable[int], *, whole: bool, progress: Progress | None = None) -> Summary:
        """Compare several projects, each as `reconcile` does; one that cannot be read keeps no other from it.

        Raises:
            LabelStudioError: Label Studio is away, or does not take the key.
            DatabaseError: the database is away.
        """
        compared: list[NewReconciliation] = []
        unreadable: dict[int, str] = {}
        for project_id in project_ids:
            try:
                compared.append(self.reconcile(project_id, whole=whole, progress=progress))
            except Exception as error:
                if is_everybodys(self._client, error):
                    raise
                if not isinstance(error, LabelStudioError):
                    logger.exception("comparing project %d met what nobody foresaw", project_id)
                unreadable[project_id] = str(error)
                if self._is_to_be_kept(project_id, error):
                    self._comparison.keep_failure(project_id, None, error)
                    self._keep_unreadable(project_id)
        return Summary(tuple(compared), unreadable)

    def forget_others(self, project_ids: Collection[int]) -> None:
        """Have nobody warned of projects besides these, which are all that the desk knows.

        Raises:
            DatabaseError: the database is away.
        """
        with self._database.write() as session:
            reconciliations.forget_others(session, instance=self._instance, project_ids=project_ids)

    def _is_to_be_kept(self, project_id: int, error: Exception) -> bool:
        """Whether that a project could not be read is told of afterwards: not of one that is no concern of the desk's,
        and not of one that vanished meanwhile, which the next comparison finds gone."""
        if isinstance(error, LabelStudioMissingError):
            try:
                return self._client.find_project(project_id) is not None
            except LabelStudioError:
                return True
        if not isinstance(error, LabelStudioUnauthorisedError):
            return True
        with self._database.read() as session:
            is_marked = reconciliations.mark(session, instance=self._instance, project_id=project_id) is not None
            return is_marked or project_id in recorded_projects(session, self._instance)

    def _keep_unreadable(self, project_id: int) -> None:
        """None of what the record takes for present could be compared."""
        with self._database.read() as session:
            last = reconciliations.mark(session, instance=self._instance, project_id=project_id)
        failed = max(1, len(self._comparison.present(project_id)))
        ended = self._ended(Tally(utc_now()), project_id, failed=failed, surplus=last.surplus if last else 0)
        self._write(ended, last, after_failing(last, ended, utc_now()))

    def _keep(
        self,
        tally: Tally,
        project_id: int,
        last: ReconciliationMark | None,
        *,
        is_full: bool,
        surplus: int,
        lacking: int = 0,
    ) -> NewReconciliation:
        carried = last.failed if last is not None and not is_full else 0
        failed = max(len(tally.failed) + len(tally.unread) + lacking, carried)
        ended = self._ended(tally, project_id, is_full=is_full, failed=failed, surplus=surplus)
        self._write(ended, last, after_comparing(last, ended, utc_now()))
        return ended

    def _ended(
        self, tally: Tally, project_id: int, *, failed: int, surplus: int, is_full: bool = False
    ) -> NewReconciliation:
        return NewReconciliation(
            instance=self._instance,
            project_id=project_id,
            is_full=is_full,
            through=tally.through(),
            annotations=len(tally.seen),
            created=tally.found["created"],
            updated=tally.found["updated"],
            skipped=tally.found["skipped"],
            deleted=tally.found["deleted"],
            failed=failed,
            waiting=len(tally.waiting),
            surplus=surplus,
            started_at=tally.started,
        )

    def _write(self, ended: NewReconciliation, last: ReconciliationMark | None, mark: ReconciliationMark) -> None:
        # A project in which nothing happens would fill the table.
        is_news = last is None or (ended.failed, ended.surplus) != (last.failed, last.surplus)
        with self._database.write() as session:
            reconciliations.set_mark(session, mark)
            if ended.found or is_news or (ended.is_full and ended.annotations):
                reconciliations.record(session, ended)
