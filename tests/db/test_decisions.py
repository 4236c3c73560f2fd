from __future__ import annotations

import hashlib
import struct
import threading
from collections import Counter
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from db import decisions, model_versions
from db.engine import Database
from db.errors import InvalidRecordError, UnknownModelVersionError
from db.keys import canonical_sha256
from db.records import Decision, NewDecision, Recorded, VisualizationMap
from db.schema import DecisionRow
from tests.db import samples, workers


@pytest.fixture(autouse=True)
def registered_model(database: Database) -> Recorded:
    with database.write() as session:
        return model_versions.register(session, samples.model())


def record(database: Database, new: NewDecision) -> Recorded:
    with database.write() as session:
        return decisions.record(session, new)


def find(database: Database, recorded: Recorded) -> Decision:
    with database.read() as session:
        found = decisions.find(session, recorded.id)
    assert found is not None
    return found


def test_everything_comes_back(database: Database, registered_model: Recorded) -> None:
    new = samples.decision()
    recorded = record(database, new)
    found = find(database, recorded)
    assert {name: getattr(found, name) for name in vars(new)} == vars(new)
    assert found.decision_id == recorded.id
    assert found.decision_key == new.key
    assert found.model_version_id == registered_model.id
    assert found.environment_sha256 == canonical_sha256(new.environment)
    assert found.settings_sha256 == new.settings.sha256
    assert found.regions_sha256 == canonical_sha256(new.regions)
    assert found.recorded_at > new.finished_at


def test_a_decision_without_explanation_or_regions_comes_back(database: Database) -> None:
    new = samples.decision(
        explanations=(), regions=[], is_defect=False, verdict="good", settings=samples.settings(seed=3)
    )
    found = find(database, record(database, new))
    assert (found.explanations, found.regions, found.settings) == ((), [], new.settings)


@hypothesis_settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6))
def test_maps_come_back_bit_for_bit(database: Database, bits: list[int]) -> None:
    # Any bits at all: subnormals, both zeros, infinities and every NaN among them.
    grid = struct.pack("<6I", *bits)
    maps = (VisualizationMap(block_index=0, block_name="b", channels=1, height=2, width=3, grid=grid),)
    new = samples.decision(f"{bits}", logits=grid[:12], explanations=(samples.explanation(visualization_maps=maps),))
    found = find(database, record(database, new))
    assert found.explanations[0].visualization_maps[0].grid == grid
    assert found.logits == grid[:12]
    with database.read() as session:
        statement = text("SELECT sha256 FROM visualization_map WHERE grid = :grid")
        assert session.execute(statement, {"grid": grid}).scalars().first() == hashlib.sha256(grid).hexdigest()


def test_a_numpy_map_comes_back_equal(database: Database) -> None:
    array = np.random.default_rng(0).random((7, 5), dtype=np.float32)
    grid = array.astype("<f4").tobytes()
    maps = (VisualizationMap(block_index=4, block_name="b", channels=9, height=7, width=5, grid=grid),)
    new = samples.decision(explanations=(samples.explanation(visualization_maps=maps),))
    block = find(database, record(database, new)).explanations[0].visualization_maps[0]
    back = np.frombuffer(block.grid, dtype="<f4").reshape(block.height, block.width)
    np.testing.assert_array_equal(back, array)


def test_the_first_recording_stands(database: Database) -> None:
    first = record(database, samples.decision())
    second = record(database, samples.decision(probability=0.5, regions=[], explanations=()))
    assert first.is_new
    assert second == Recorded(first.id, is_new=False)
    assert find(database, first).probability == samples.decision().probability


def test_a_decision_is_found_by_key_and_by_image(database: Database) -> None:
    new = samples.decision()
    other = samples.decision(settings=samples.settings(seed=1))
    ids = [record(database, d).id for d in (new, other, samples.decision("another image"))]
    with database.read() as session:
        by_key = decisions.find_by_key(session, new.key)
        assert by_key is not None
        assert (by_key.decision_id, decisions.find_id(session, new.key)) == (ids[0], ids[0])
        assert [d.decision_id for d in decisions.find_by_image(session, new.image_sha256)] == ids[:2]
        assert decisions.find(session, uuid4()) is None
        assert decisions.find_by_key(session, "0" * 64) is None


@pytest.mark.parametrize(
    ("distance", "line", "is_unlike"), [(0.3, 0.25, True), (0.25, 0.25, False), (0.1, None, False)]
)
def test_how_far_an_image_is_from_the_known_ones_comes_back(
    database: Database, distance: float, line: float | None, is_unlike: bool
) -> None:
    new = samples.decision(distance=distance, unlike_from=line, verdict="review")
    found = find(database, record(database, new))
    assert (found.distance, found.unlike_from, found.is_unlike) == (distance, line, is_unlike)


def test_what_is_unlike_is_for_review(database: Database) -> None:
    with pytest.raises(ValueError, match=r"above 0\.25, so the verdict is 'review'"):
        samples.decision(distance=0.3, unlike_from=0.25)
    columns = decisions._columns
    for changes, constraint in (
        ({"distance": 0.3, "unlike_from": 0.25}, "unlike_for_review"),
        ({"distance": -0.1}, "distance_range"),
        ({"distance": 2.5}, "distance_range"),
    ):
        with pytest.raises(InvalidRecordError, match=f"ck_decision_{constraint}"), database.write() as session:
            new = samples.decision()
            session.add(DecisionRow(**columns(session, uuid4(), new.key, new) | changes))
            session.flush()


def test_an_unregistered_model_is_refused(database: Database) -> None:
    with pytest.raises(UnknownModelVersionError, match="register the model first"):
        record(database, samples.decision(model_fingerprint=samples.sha("stranger")))


def test_maps_and_logits_of_the_wrong_size_are_refused() -> None:
    with pytest.raises(ValueError, match="2x3; 24 are needed"):
        VisualizationMap(block_index=0, block_name="b", channels=1, height=2, width=3, grid=b"\0" * 20)
    with pytest.raises(ValueError, match="8 bytes of float32 logits for 3 classes"):
        samples.decision(logits=samples.floats(0, 1))


def test_a_map_that_cannot_be_kept_costs_its_decision_too(database: Database) -> None:
    twice = (samples.explanation(rank=1), samples.explanation(rank=2))
    with pytest.raises(Exception, match="attribution_map"):
        record(database, samples.decision(explanations=twice))
    with database.read() as session:
        assert decisions.find_id(session, samples.decision().key) is None


def test_one_waits_for_the_other_that_records_the_same(database: Database) -> None:
    answers = []
    inside, blocked = threading.Event(), threading.Event()

    def second() -> None:
        inside.wait(10)
        with database.write() as session:
            blocked.set()
            answers.append(decisions.record(session, samples.decision()))

    other = threading.Thread(target=second)
    other.start()
    with database.write() as session:
        first = decisions.record(session, samples.decision())
        inside.set()
        blocked.wait(10)
        other.join(0.2)  # it must not get through before the commit
        assert answers == []
    other.join(10)
    assert first.is_new
    assert answers == [Recorded(first.id, is_new=False)]


@pytest.mark.slow
def test_processes_that_record_the_same_at_once_make_one_row(database: Database, database_url: str) -> None:
    count = 15
    barrier, answers = workers.CONTEXT.Barrier(2), workers.CONTEXT.Queue()
    processes = [
        workers.CONTEXT.Process(target=workers.record_decisions, args=(database_url, barrier, answers, count))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    told = [answers.get(timeout=60) for _ in range(2 * 2 * count)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    # Both name the same row, and exactly one of them made it.
    assert len({row for row, _ in told}) == 2 * count
    assert set(Counter(row for row, is_new in told if is_new).values()) == {1}
    with database.read() as session:
        for table, rows in (
            ("decision", 1),
            ("attribution_map", 2),
            ("visualization_map", 4),
            ("review", 1),
            ("actor", 1),
        ):
            assert session.scalar(text(f"SELECT count(*) FROM {table}")) == rows * count
        assert session.scalar(text("SELECT count(*) FROM environment")) == 1
