from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from db import decisions, failures, model_versions, predictions
from db.engine import Database
from db.records import NewFailure
from db.types import new_id
from tests.db import samples

ZONES = st.timezones() | st.integers(-840, 840).map(lambda m: timezone(timedelta(minutes=m)))
INSTANTS = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=ZONES)


@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(instant=INSTANTS)
def test_instants_come_back_to_the_microsecond_and_in_utc(database: Database, instant: datetime) -> None:
    later = (instant.astimezone(timezone.utc) + timedelta(microseconds=1)).astimezone(timezone(timedelta(hours=-5)))
    with database.write() as session:
        model_versions.register(session, samples.model())
        new = samples.decision(f"{instant!r}", started_at=instant, finished_at=later)
        recorded = decisions.record(session, new)
    with database.read() as session:
        found = decisions.find(session, recorded.id)
    assert found is not None
    assert (found.started_at, found.finished_at) == (instant, later)
    assert found.started_at.utcoffset() == found.finished_at.utcoffset() == timedelta(0)


def test_an_instant_without_a_zone_is_refused(database: Database) -> None:
    naive = datetime(2026, 5, 3)
    with database.write() as session:
        model_versions.register(session, samples.model())
    with pytest.raises(Exception, match="no time zone"), database.write() as session:
        decisions.record(session, samples.decision(started_at=naive))


def test_identifiers_sort_by_their_time_of_making() -> None:
    made = [new_id() for _ in range(1000)]
    assert made == sorted(set(made))
    assert {(i.version, i.variant) for i in made} == {(7, "specified in RFC 4122")}


def test_hostile_text_does_not_cost_the_failure(database: Database) -> None:
    with database.write() as session:
        failures.record(session, NewFailure(kind="predict", reason="a\0b", detail="\ud800 \U0001f600"))
    with database.read() as session:
        (found,) = failures.recent(session)
    assert (found.reason, found.detail) == ("a\ufffdb", "? \U0001f600")


def test_json_comes_back_as_it_was(database: Database) -> None:
    result = [{"nul": "\0", "quote": '"\\', "big": 2**53 - 1, "huge": 1e300, "tiny": 5e-324, "none": None, "ä": [True]}]
    with database.write() as session:
        model_versions.register(session, samples.model())
        decision = decisions.record(session, samples.decision())
        recorded = predictions.record(session, samples.prediction(decision.id, result=result))
    with database.read() as session:
        found = predictions.find(session, recorded.id)
    assert found is not None
    assert found.result == result
