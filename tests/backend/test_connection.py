"""Connecting again after the desk's address changed leaves one backend and one webhook, and strangers alone."""

from __future__ import annotations

from typing import Any

import pytest

from backend.connection import BACKEND_TITLE, ConnectedProject, connect, create_project
from backend.credentials import WEBHOOK_HEADER, Credentials
from backend.label_studio.errors import (
    LabelStudioError,
    LabelStudioFailedError,
    LabelStudioRefusedError,
    LabelStudioUnreachableError,
)
from backend.label_studio.labeling_config import parse
from backend.label_studio.template import labeling_configuration
from backend.map_addresses import MapAddresses, has_maps
from backend.models_in_use import ModelIdentity

KEY = "k" * 32
CREDENTIALS = Credentials("inspection", "new password", "new token", KEY)
CLASSES = ("good", "scratches")
OLD, NEW = "http://127.0.0.1:9090", "http://desk.example:9191"


MODEL = ModelIdentity("0" * 64, "strip 1", CLASSES, "good", names_several=False)


class Project:
    """Label Studio's side of a project: it adds a webhook for each backend that is added."""

    url = "http://label-studio.example"

    def __init__(self) -> None:
        self.backends: dict[int, dict[str, Any]] = {}
        self.hooks: dict[int, dict[str, Any]] = {}
        self._number = 0
        self.label_config = labeling_configuration(CLASSES, "good", heading="Which?")
        self.fields: dict[str, Any] = {}

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def project(self, project_id: int) -> dict[str, Any]:
        return {"id": project_id, "title": "Strip", "label_config": self.label_config, **self.fields}

    def create_project(self, title: str, label_config: str, **fields: Any) -> dict[str, Any]:
        self.label_config, self.fields = label_config, fields
        return self.project(7)

    def update_project(self, _: int, *, label_config: str) -> None:
        self.label_config = label_config

    def ml_backends(self, _: int) -> list[dict[str, Any]]:
        return [{"id": number, **fields} for number, fields in self.backends.items()]

    def add_ml_backend(
        self, _: int, url: str, title: str, *, user: str, password: str, is_interactive: bool = False
    ) -> None:
        fields: dict[str, Any] = {"url": url, "title": title, "basic_auth_user": user, "basic_auth_pass": password}
        fields["is_interactive"] = is_interactive
        self.backends[self.next_number()] = fields
        self.hooks[self.next_number()] = {
            "url": f"{url.rstrip('/')}/webhook",
            "headers": {},
            "send_for_all_actions": True,
        }

    def update_ml_backend(self, number: int, **fields: Any) -> None:
        self.backends[number].update(fields)

    def delete_ml_backend(self, number: int) -> None:
        del self.backends[number]

    def webhooks(self, _: int) -> list[dict[str, Any]]:
        return [{"id": number, **fields} for number, fields in self.hooks.items()]

    def add_webhook(self, _: int, url: str, *, headers: dict[str, str], actions: tuple[str, ...]) -> None:
        self.hooks[self.next_number()] = {"url": url, "headers": headers, "actions": actions}

    def update_webhook(self, number: int, **fields: Any) -> None:
        self.hooks[number].update(fields)

    def delete_webhook(self, number: int) -> None:
        del self.hooks[number]

    def connect(
        self, url: str, credentials: Credentials = CREDENTIALS, *, number: int = 1, was_created: bool = False
    ) -> ConnectedProject:
        return connect(
            self,  # type: ignore[arg-type]
            number,
            backend_url=url,
            model=MODEL,
            credentials=credentials,
            mapping={},
            maps=MapAddresses(url, credentials.map_key),
            was_created=was_created,
        )

    def assert_connected_once(self, url: str) -> None:
        [backend] = self.backends.values()
        assert (backend["url"], backend["title"]) == (url, BACKEND_TITLE)
        assert (backend["basic_auth_user"], backend["basic_auth_pass"]) == ("inspection", "new password")
        [hook] = self.hooks.values()
        assert hook["url"] == f"{url}/webhook"
        assert hook["headers"] == {WEBHOOK_HEADER: "new token"}
        assert hook["send_for_all_actions"] is False


@pytest.fixture
def project() -> Project:
    return Project()


def test_a_first_connection_turns_label_studios_own_webhook_into_ours(project: Project) -> None:
    project.connect(f"{NEW}/")
    project.assert_connected_once(NEW)


@pytest.mark.parametrize("address", [OLD, NEW])
def test_connecting_again_changes_what_is_there(project: Project, address: str) -> None:
    project.connect(OLD, Credentials("inspection", "old password", "old token", KEY))
    project.connect(address)
    project.assert_connected_once(address)


def test_the_page_may_ask_where_the_configuration_has_a_control_for_it(project: Project) -> None:
    project.connect(NEW)
    assert [backend["is_interactive"] for backend in project.backends.values()] == [True]
    project.label_config = project.label_config.replace('smartOnly="true"', "")
    project.connect(NEW)
    assert [backend["is_interactive"] for backend in project.backends.values()] == [False]


def test_twins_of_ours_are_removed(project: Project) -> None:
    for address in (OLD, "http://127.0.0.1:9092", NEW):
        project.add_ml_backend(1, address, BACKEND_TITLE, user="inspection", password="old")
    project.add_webhook(1, "http://elsewhere/webhook", headers={WEBHOOK_HEADER.lower(): "old"}, actions=())
    project.connect(NEW)
    project.assert_connected_once(NEW)


def test_our_address_under_another_title_is_ours(project: Project) -> None:
    project.add_ml_backend(1, f"{NEW}/", "My desk", user="", password="")
    project.connect(NEW)
    project.assert_connected_once(NEW)


def test_foreign_backends_and_webhooks_stay_as_they_are(project: Project) -> None:
    project.add_ml_backend(1, "http://segmenter:9090", "Segmenter", user="them", password="theirs")
    project.add_webhook(1, "http://factory/webhook", headers={"Authorization": "theirs"}, actions=("TASKS_CREATED",))
    project.add_webhook(1, "http://factory/other", headers={WEBHOOK_HEADER: "theirs"}, actions=())
    backends, hooks = dict(project.backends), dict(project.hooks)
    project.connect(OLD)
    project.connect(NEW)
    assert {n: f for n, f in project.backends.items() if n in backends} == backends
    assert {n: f for n, f in project.hooks.items() if n in hooks} == hooks
    assert len(project.backends) == len(backends) + 1
    assert len(project.hooks) == len(hooks) + 1


def make(project: Project, *, is_blind: bool = False) -> int:
    maps = MapAddresses(NEW, KEY)
    return create_project(project, "Strip", MODEL, heading="Which?", maps=maps, is_blind=is_blind)  # type: ignore[arg-type]


def test_a_new_project_shows_the_maps_of_its_own_number(project: Project) -> None:
    assert make(project) == 7
    project.connect(NEW, number=7, was_created=True)
    assert f'value="{MapAddresses(NEW, KEY).of(7)}?image=$image"' in project.label_config


CALLS = ("project", "update_project", "ml_backends", "add_ml_backend", "webhooks", "update_webhook")
FAULTS = (
    LabelStudioUnreachableError("nothing answers"),
    LabelStudioFailedError("it failed inside", 502),
    LabelStudioRefusedError("it was refused", 400),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("call", CALLS)
def test_a_new_project_that_could_not_be_connected_is_told_of_and_gone_on_with(
    project: Project, monkeypatch: pytest.MonkeyPatch, call: str, fault: LabelStudioError
) -> None:
    number = make(project)
    with monkeypatch.context() as patch:
        patch.setattr(project, call, raising(fault))
        with pytest.raises(type(fault), match=r"project 7 was made, and is not connected yet") as told:
            project.connect(NEW, number=number, was_created=True)
    assert "inspection connect --project 7" in str(told.value) and str(fault) in str(told.value)
    assert told.value.status == fault.status
    # That does the rest, the maps included.
    assert project.connect(NEW, number=number).map_tag is None
    project.assert_connected_once(NEW)
    assert f'value="{MapAddresses(NEW, KEY).of(7)}?image=$image"' in project.label_config


def test_of_a_project_that_was_there_only_the_fault_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "webhooks", raising(FAULTS[0]))
    with pytest.raises(LabelStudioUnreachableError, match=r"^nothing answers$"):
        project.connect(NEW)


@pytest.mark.parametrize("fault", FAULTS[:2], ids=lambda fault: type(fault).__name__)
def test_where_nobody_knows_whether_the_project_was_made_it_is_to_be_looked_for(
    project: Project, monkeypatch: pytest.MonkeyPatch, fault: LabelStudioError
) -> None:
    monkeypatch.setattr(project, "create_project", raising(fault))
    with pytest.raises(type(fault), match=r"lists a new project “Strip”.*connect --project NUMBER") as told:
        make(project)
    assert str(told.value).startswith(str(fault))


def test_where_the_project_was_refused_there_is_none_to_look_for(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project, "create_project", raising(FAULTS[2]))
    with pytest.raises(LabelStudioRefusedError, match=r"^it was refused$"):
        make(project)


def raising(fault: LabelStudioError) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise fault

    return fail


def test_connecting_again_brings_the_maps_address_up_to_date_and_changes_nothing_else(project: Project) -> None:
    old = MapAddresses(OLD, "o" * 32).of(1)
    text = f"""<View> <!-- my own --><Image name='why' value='{old}?image=$photo'/>
    <Image name="i" value="$photo"/><Choices name="c" toName="i"><Choice value="good"/></Choices></View>"""
    project.label_config = text
    report = project.connect(NEW)
    assert report.map_tag is None
    assert project.label_config == text.replace(old, MapAddresses(NEW, KEY).of(1))


def test_a_configuration_without_maps_is_left_alone_and_told_how_to_show_them(project: Project) -> None:
    before = project.label_config
    report = project.connect(NEW)
    assert project.label_config == before
    assert report.map_tag is not None
    project.label_config = f"{before.removesuffix('</View>')}{report.map_tag}</View>"
    assert project.connect(NEW).map_tag is None


def test_a_blind_project_shows_nothing_of_what_the_model_says(project: Project) -> None:
    make(project, is_blind=True)
    assert project.fields["show_collab_predictions"] is False
    assert project.fields["sampling"] == "Uniform sampling"
    before = project.label_config
    assert [control.name for control in parse(before).controls if control.asks] == []
    assert parse(before).is_blind
    assert not has_maps(before)
    report = project.connect(NEW, number=7, was_created=True)
    assert (report.is_blind, report.map_tag, project.label_config) == (True, None, before)
    assert [backend["is_interactive"] for backend in project.backends.values()] == [False]


def test_questions_are_answered_in_no_project_that_hides_predictions(project: Project) -> None:
    project.connect(NEW)
    project.fields = {"show_collab_predictions": False}
    assert project.connect(NEW).is_blind
    assert [backend["is_interactive"] for backend in project.backends.values()] == [False]
