from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from db import actors, decisions, model_versions, predictions, reviews
from db.engine import Database
from db.errors import InvalidRecordError
from db.records import NewReview, Recorded
from tests.db import samples


@pytest.fixture
def judged(database: Database) -> dict[str, Any]:
    """What a review refers to."""
    with database.write() as session:
        model_versions.register(session, samples.model())
        decision = decisions.record(session, samples.decision())
        prediction = predictions.record(session, samples.prediction(decision.id))
        actor = actors.pseudonym(session, instance=samples.INSTANCE, ls_user_id=7, display_name="A. Inspector")
    return {"decision_id": decision.id, "prediction_id": prediction.id, "actor_id": actor}


def record(database: Database, new: NewReview) -> Recorded:
    with database.write() as session:
        return reviews.record(session, new)


def test_everything_comes_back(database: Database, judged: dict[str, Any]) -> None:
    new = samples.review(
        **judged,
        model_output_shown=True,
        parent_prediction=5,
        parent_annotation=6,
        ground_truth=True,
        found_by="reconciling",
    )
    recorded = record(database, new)
    with database.read() as session:
        found = reviews.find(session, recorded.id)
        assert reviews.for_decision(session, judged["decision_id"]) == (found,)
        assert reviews.for_task(session, instance=samples.INSTANCE, task_id=41) == (found,)
        assert reviews.for_task(session, instance="http://elsewhere", task_id=41) == ()
        assert reviews.find(session, uuid4()) is None
    assert found is not None
    assert {name: getattr(found, name) for name in vars(new)} == vars(new)
    assert (found.review_id, found.review_key) == (recorded.id, new.key)


def test_a_doubled_message_makes_no_second_review(database: Database) -> None:
    first = record(database, samples.review())
    again = record(database, samples.review())
    reconciled = record(database, samples.review(action="updated", payload_sha256=samples.sha("read from the API")))
    assert first.is_new
    assert again == reconciled == Recorded(first.id, is_new=False)


@pytest.mark.parametrize(
    "change",
    [
        {"annotation_updated_at": samples.NOON + timedelta(microseconds=1)},
        {"annotation_id": 1002},
        {"instance": "http://elsewhere"},
        {"action": "deleted", "outcome": None},
        {"annotation_updated_at": None},
    ],
)
def test_another_state_is_another_review(database: Database, change: dict[str, Any]) -> None:
    first = record(database, samples.review())
    second = record(database, samples.review(**change))
    assert second.is_new
    assert second.id != first.id


def test_the_latest_state_stands_whatever_the_order_of_arrival(database: Database) -> None:
    def latest() -> str | None:
        with database.read() as session:
            review = reviews.latest_for_annotation(session, instance=samples.INSTANCE, annotation_id=1001)
        assert review is not None
        return review.outcome

    record(database, samples.review(annotation_updated_at=samples.NOON + timedelta(seconds=9), outcome="rejected"))
    record(database, samples.review(annotation_updated_at=samples.NOON, outcome="accepted"))
    record(database, samples.review(annotation_updated_at=None, outcome="skipped"))
    assert latest() == "rejected"
    record(database, samples.review(annotation_updated_at=None, outcome=None, action="deleted", task_id=None))
    assert latest() is None
    with database.read() as session:
        assert reviews.latest_for_annotation(session, instance=samples.INSTANCE, annotation_id=9) is None


def test_the_states_that_stand_are_read_for_many_annotations_at_once(database: Database) -> None:
    later = samples.NOON + timedelta(seconds=9)
    record(database, samples.review(annotation_updated_at=later, was_cancelled=True, outcome="skipped"))
    record(database, samples.review())
    record(database, samples.review(annotation_id=1002, task_id=42))
    record(database, samples.review(annotation_id=1002, action="deleted", outcome=None, result_sha256=None))
    record(database, samples.review(annotation_id=1003, project_id=4))
    record(database, samples.review(annotation_id=1001, instance="http://elsewhere", action="deleted", outcome=None))
    with database.read() as session:
        states = reviews.states(session, instance=samples.INSTANCE, annotation_ids=[1001, 1002, 9])
        present = reviews.present(session, instance=samples.INSTANCE, project_id=3)
        of_tasks = [
            reviews.present(session, instance=samples.INSTANCE, project_id=3, task_ids=[task]) for task in (41, 42)
        ]
        assert reviews.projects(session, instance=samples.INSTANCE) == (3, 4)
    assert set(states) == {1001, 1002}
    assert (states[1001].annotation_updated_at, states[1001].was_cancelled) == (later, True)
    assert states[1001].result_sha256 == samples.sha("result")
    assert (states[1002].action, states[1002].result_sha256) == ("deleted", None)
    assert (present, of_tasks) == ({1001}, [{1001}, set()])


@pytest.mark.parametrize("outcome", ["accepted", "adjusted", "relabelled", "rejected", "missed", "skipped"])
def test_every_outcome_can_be_kept(database: Database, outcome: str) -> None:
    assert record(database, samples.review(outcome=outcome)).is_new


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"outcome": "fine"}, "outcome_known"),
        ({"action": "renamed"}, "action_known"),
        ({"mean_iou": 1.01}, "mean_iou_range"),
        ({"lead_time_s": -1.0}, "lead_time_s_range"),
        ({"payload_sha256": "short"}, "payload_sha256_length"),
        ({"found_by": "chance"}, "found_by_known"),
    ],
)
def test_impossible_reviews_are_refused(database: Database, change: dict[str, Any], constraint: str) -> None:
    with pytest.raises(InvalidRecordError, match=f"ck_review_{constraint}"):
        record(database, samples.review(**change))


def test_no_outcome_is_for_deletions_and_for_what_was_never_predicted(
    database: Database, judged: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRecordError, match="ck_review_outcome_stated"):
        record(database, samples.review(**judged, outcome=None))
    assert record(database, samples.review(**judged, outcome=None, action="deleted")).is_new
    assert record(database, samples.review(outcome=None)).is_new


def test_a_review_of_nothing_known_is_refused(database: Database) -> None:
    with pytest.raises(InvalidRecordError, match=r"(?i)foreign key"):
        record(database, samples.review(decision_id=uuid4()))


def test_a_review_outlives_the_name_of_its_inspector(database: Database, judged: dict[str, Any]) -> None:
    recorded = record(database, samples.review(**judged))
    with database.write() as session:
        assert actors.erase(session, judged["actor_id"])
        assert not actors.erase(session, judged["actor_id"])
    with database.read() as session:
        actor = actors.find(session, judged["actor_id"])
        review = reviews.find(session, recorded.id)
    assert actor is not None
    assert (actor.instance, actor.ls_user_id, actor.display_name) == (None, None, None)
    assert actor.erased_at is not None
    assert review is not None
    assert review.actor_id == judged["actor_id"]


def test_a_user_keeps_one_pseudonym_until_erased(database: Database) -> None:
    def pseudonym(**changes: Any) -> Any:
        with database.write() as session:
            return actors.pseudonym(session, **{"instance": samples.INSTANCE, "ls_user_id": 7, **changes})

    first = pseudonym(display_name="A. Inspector")
    assert pseudonym() == first == pseudonym(display_name="A. Renamed")
    assert len({first, pseudonym(ls_user_id=8), pseudonym(instance="http://elsewhere")}) == 3
    with database.read() as session:
        actor = actors.find(session, first)
        assert actors.find(session, uuid4()) is None
    assert actor is not None
    assert (actor.ls_user_id, actor.display_name, actor.erased_at) == (7, "A. Renamed", None)
    with database.write() as session:
        actors.erase(session, first)
    assert pseudonym() != first
