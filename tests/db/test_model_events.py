from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from db import model_events, model_locations, model_versions
from db.engine import Database
from db.errors import InvalidRecordError, ModelSwitchError, UnknownModelVersionError
from db.model_events import DESK
from db.records import ModelScope
from tests.db import samples, workers

SEVEN, EIGHT = ModelScope(samples.INSTANCE, 7), ModelScope(samples.INSTANCE, 8)
NAMES = ("a", "b", "c")


@pytest.fixture
def versions(database: Database) -> dict[str, UUID]:
    with database.write() as session:
        return {
            name: model_versions.register(session, samples.model(version=name, fingerprint=samples.sha(name))).id
            for name in NAMES
        }


def activate(database: Database, version: UUID, scope: ModelScope = DESK, note: str | None = None) -> bool:
    with database.write() as session:
        return model_events.activate(session, version, scope, actor="ada", note=note) is not None


def take_back(database: Database, scope: ModelScope = DESK) -> UUID | None:
    with database.write() as session:
        return model_events.take_back(session, scope, actor="bob").model_version_id


def choices(database: Database, scope: ModelScope = DESK) -> list[str]:
    """Names of the versions a scope can answer with, the one in use first."""
    names = {samples.sha(name): name for name in NAMES}
    with database.read() as session:
        return [names[fingerprint] for fingerprint in model_events.choices(session, scope)]


def test_nothing_is_in_use_before_anything_was_activated(database: Database, versions: dict[str, UUID]) -> None:
    assert choices(database) == choices(database, SEVEN) == []
    with database.read() as session:
        assert (model_events.in_use(session), model_events.history(session)) == ({}, ())


def test_a_project_follows_the_desk_until_it_has_a_version_of_its_own(
    database: Database, versions: dict[str, UUID]
) -> None:
    activate(database, versions["a"])
    assert choices(database, SEVEN) == ["a"]
    activate(database, versions["b"], SEVEN)
    assert (choices(database, SEVEN), choices(database, EIGHT), choices(database)) == (["b", "a"], ["a"], ["a"])
    activate(database, versions["c"])
    assert (choices(database, SEVEN), choices(database, EIGHT)) == (["b", "c", "a"], ["c", "a"])
    with database.read() as session:
        assert model_events.in_use(session) == {DESK: versions["c"], SEVEN: versions["b"]}


def test_one_number_in_two_label_studios_is_two_projects(database: Database, versions: dict[str, UUID]) -> None:
    activate(database, versions["a"], SEVEN)
    assert choices(database, ModelScope("http://elsewhere", 7)) == []


def test_taking_back_uncovers_what_was_before_step_by_step(database: Database, versions: dict[str, UUID]) -> None:
    activate(database, versions["c"])
    for name in ("a", "b", "a"):
        activate(database, versions[name], SEVEN)
    assert take_back(database, SEVEN) == versions["b"]
    assert choices(database, SEVEN) == ["b", "a", "c"]
    activate(database, versions["c"], SEVEN)
    assert [take_back(database, SEVEN) for _ in range(3)] == [versions["b"], versions["a"], None]
    assert choices(database, SEVEN) == ["c"]
    with pytest.raises(ModelSwitchError, match="nothing was activated for project 7"):
        take_back(database, SEVEN)


def test_activating_what_is_in_use_is_no_event(database: Database, versions: dict[str, UUID]) -> None:
    assert activate(database, versions["a"], SEVEN)
    assert not activate(database, versions["a"], SEVEN)
    assert activate(database, versions["a"])
    with database.read() as session:
        assert len(model_events.history(session)) == 2


def test_an_event_says_who_what_where_why_and_what_it_undoes(database: Database, versions: dict[str, UUID]) -> None:
    activate(database, versions["a"], SEVEN, note="better on rust")
    take_back(database, SEVEN)
    with database.read() as session:
        first, second = model_events.history(session)
    assert (first.number, first.kind, first.actor, first.note) == (1, "activated", "ada", "better on rust")
    assert (first.scope, first.model_version_id, first.undoes_event_id) == (SEVEN, versions["a"], None)
    assert (second.number, second.kind, second.actor, second.note) == (2, "taken back", "bob", None)
    assert (second.model_version_id, second.undoes_event_id) == (None, first.model_event_id)
    assert first.occurred_at <= second.occurred_at


def test_a_version_in_use_cannot_be_retired_and_a_retired_one_not_used(
    database: Database, versions: dict[str, UUID]
) -> None:
    activate(database, versions["a"], SEVEN)
    with database.write() as session, pytest.raises(ModelSwitchError, match="steel a is in use for project 7"):
        model_events.retire(session, versions["a"], actor="ada")
    activate(database, versions["b"], SEVEN)
    with database.write() as session:
        assert model_events.retire(session, versions["a"], actor="ada", note="overkill") is not None
        assert model_events.retire(session, versions["a"], actor="ada") is None
        assert model_events.retired(session) == {versions["a"]}
    assert choices(database, SEVEN) == ["b"]
    with pytest.raises(ModelSwitchError, match="steel a is retired"):
        activate(database, versions["a"])
    with pytest.raises(ModelSwitchError, match="steel a is retired"):
        take_back(database, SEVEN)
    with database.write() as session:
        assert model_events.reinstate(session, versions["a"], actor="bob") is not None
        assert model_events.reinstate(session, versions["a"], actor="bob") is None
    assert take_back(database, SEVEN) == versions["a"]


def test_a_version_nobody_registered_is_refused(database: Database, versions: dict[str, UUID]) -> None:
    for change in (model_events.retire, model_events.reinstate):
        with pytest.raises(UnknownModelVersionError), database.write() as session:
            change(session, uuid4(), actor="ada")
    with pytest.raises(UnknownModelVersionError):
        activate(database, uuid4())


def test_a_scope_is_whole() -> None:
    with pytest.raises(ValueError, match="together"):
        ModelScope("http://127.0.0.1:8080", None)
    with pytest.raises(ValueError, match="together"):
        ModelScope(None, 7)


def test_the_schema_itself_refuses_events_that_make_no_sense(database: Database, versions: dict[str, UUID]) -> None:
    activate(database, versions["a"])
    columns = (
        "model_event_id, number, kind, model_version_id, instance, project_id, undoes_event_id, actor, occurred_at"
    )
    version, first = "(SELECT min(model_version_id) FROM model_version)", "(SELECT model_event_id FROM model_event)"
    if database.engine.dialect.name == "postgresql":
        version = "(SELECT model_version_id FROM model_version LIMIT 1)"
    now = "(SELECT occurred_at FROM model_event)"
    for values in (
        f"2, 'praised', {version}, NULL, NULL, NULL",
        f"0, 'activated', {version}, NULL, NULL, NULL",
        f"2, 'activated', {version}, 'http://x', NULL, NULL",
        "2, 'activated', NULL, NULL, NULL, NULL",
        f"2, 'retired', {version}, 'http://x', 7, NULL",
        f"2, 'activated', {version}, NULL, NULL, {first}",
        "2, 'taken back', NULL, NULL, NULL, NULL",
    ):
        statement = f"INSERT INTO model_event ({columns}) VALUES ('{uuid4().hex}', {values}, 'ada', {now})"
        with pytest.raises(InvalidRecordError), database.write() as session:
            session.execute(text(statement))


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from([DESK, SEVEN, EIGHT]), st.sampled_from([*NAMES, "back"])), min_size=1, max_size=12
    )
)
def test_the_state_is_what_the_steps_say(
    database: Database, versions: dict[str, UUID], steps: list[tuple[ModelScope, str]]
) -> None:
    """Against stacks kept by hand; all in one unit of work that is undone at the end."""
    stacks: dict[ModelScope, list[str]] = {DESK: [], SEVEN: [], EIGHT: []}
    names = {identifier: name for name, identifier in versions.items()}
    with database.write() as session, session.begin_nested() as trial:
        for scope, step in steps:
            stack = stacks[scope]
            if step != "back":
                event = model_events.activate(session, versions[step], scope, actor="ada")
                assert (event is None) == (stack[-1:] == [step])
                stack += [step] if event is not None else []
            elif stack:
                stack.pop()
                assert names.get(model_events.take_back(session, scope, actor="ada").model_version_id) == (  # type: ignore[arg-type]
                    stack[-1] if stack else None
                )
        used = {scope: versions[stack[-1]] for scope, stack in stacks.items() if stack}
        assert model_events.in_use(session) == used
        for scope, stack in stacks.items():
            below = [] if scope == DESK else stacks[DESK][::-1]
            expected = dict.fromkeys([*stack[::-1], *below])
            assert model_events.choices(session, scope) == tuple(samples.sha(name) for name in expected)
        trial.rollback()


@pytest.mark.slow
def test_processes_that_switch_at_once_take_turns(database_url: str, versions: dict[str, UUID]) -> None:
    barrier = workers.CONTEXT.Barrier(3)
    processes = [
        workers.CONTEXT.Process(target=workers.activate_in_turn, args=(database_url, str(n), barrier, 6))
        for n in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    opened = Database(database_url)
    with opened.read() as session:
        events = model_events.history(session)
    opened.close()
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    # Of those that ask for one version at once, one makes the event and the others find it in use.
    assert [event.model_version_id for event in events] == [versions[name] for name in NAMES] * 2


@pytest.mark.slow
def test_a_process_that_dies_in_the_middle_leaves_nothing(database_url: str, versions: dict[str, UUID]) -> None:
    is_ready = workers.CONTEXT.Event()
    process = workers.CONTEXT.Process(target=workers.die_before_activation, args=(database_url, is_ready))
    process.start()
    assert is_ready.wait(60)
    process.kill()
    process.join(60)
    opened = Database(database_url)
    assert activate(opened, versions["b"])
    assert choices(opened) == ["b"]
    opened.close()


def test_where_a_version_lies_is_kept_once_and_the_latest_comes_first(
    database: Database, versions: dict[str, UUID]
) -> None:
    for directory in ("/first", "/second", "/first"):
        with database.write() as session:
            model_locations.record(session, samples.sha("a"), directory)
    with database.read() as session:
        assert model_locations.of(session, samples.sha("a")) == ("/second", "/first")
        assert model_locations.of(session, samples.sha("b")) == ()
    with pytest.raises(UnknownModelVersionError), database.write() as session:
        model_locations.record(session, samples.sha("nobody"), "/third")
