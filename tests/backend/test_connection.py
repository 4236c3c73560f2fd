"""Connecting again after the desk's address changed leaves one backend and one webhook, and strangers alone."""

from __future__ import annotations

from typing import Any

import pytest

from backend.connection import BACKEND_TITLE, connect
from backend.credentials import WEBHOOK_HEADER, Credentials
from backend.label_studio.template import labeling_configuration
from backend.models_in_use import ModelIdentity

CREDENTIALS = Credentials("inspection", "new password", "new token")
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

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def project(self, project_id: int) -> dict[str, Any]:
        config = labeling_configuration(CLASSES, "good", heading="Which?")
        return {"id": project_id, "title": "Strip", "label_config": config}

    def ml_backends(self, _: int) -> list[dict[str, Any]]:
        return [{"id": number, **fields} for number, fields in self.backends.items()]

    def add_ml_backend(self, _: int, url: str, title: str, *, user: str, password: str) -> None:
        fields = {"url": url, "title": title, "basic_auth_user": user, "basic_auth_pass": password}
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

    def connect(self, url: str, credentials: Credentials = CREDENTIALS) -> None:
        connect(self, 1, backend_url=url, model=MODEL, credentials=credentials, mapping={})  # type: ignore[arg-type]

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
    project.connect(OLD, Credentials("inspection", "old password", "old token"))
    project.connect(address)
    project.assert_connected_once(address)


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
