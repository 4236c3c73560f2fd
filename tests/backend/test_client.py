"""The client against a stand-in that answers as Label Studio 1.23.2 was seen to."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.label_studio import client as client_module
from backend.label_studio import errors
from backend.label_studio.client import LabelStudioClient, webhook_fields

URL = "http://desk.example:8080"
LEGACY = "0123456789abcdef0123456789abcdef01234567"


def jwt(kind: str, lifetime: float = 300, number: int = 0) -> str:
    claims = {"token_type": kind, "iat": 1000, "exp": 1000 + lifetime, "jti": f"{kind}{number}"}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{body}.c2ln"


PAT = jwt("refresh", 1e9)


def error(status: int, detail: str, **more: Any) -> httpx.Response:
    body = {"id": "x", "status_code": status, "version": "1.23.2", "detail": detail, "exc_info": None, **more}
    return httpx.Response(status, json=body)


class Desk:
    """Authentication as Label Studio does it; `answer` does the rest."""

    def __init__(
        self, answer: Callable[[httpx.Request], httpx.Response] | None = None, *, legacy: bool = False
    ) -> None:
        self.answer = answer or (lambda request: httpx.Response(200, json={"email": "a@b.c"}))
        self.legacy = legacy
        self.requests: list[httpx.Request] = []
        self.access: list[str] = []
        self.lifetime = 300.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        if request.url.path == "/api/token/refresh/":
            if json.loads(request.content) != {"refresh": PAT}:
                return error(401, "Token is invalid")
            self.access.append(jwt("access", self.lifetime, len(self.access)))
            return httpx.Response(200, json={"access": self.access[-1]})
        if request.url.path == "/health":
            return httpx.Response(200, json={"status": "UP"})
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind == "Token" and token == LEGACY:
            if not self.legacy:
                said = "legacy token authentication has been disabled for this organization"
                return error(401, f"Authentication token no longer valid: {said}")
        elif kind == "Token":
            return error(401, "Invalid token.")
        elif not (kind == "Bearer" and token in self.access):
            return error(401, "Authentication credentials were not provided.")
        return self.answer(request)

    def paths(self) -> list[str]:
        return [request.url.path for request in self.requests]

    def client(self, key: str = PAT, url: str = URL) -> LabelStudioClient:
        return LabelStudioClient(url, key, pause=0, transport=httpx.MockTransport(self))


def test_a_personal_access_token_is_exchanged_once() -> None:
    desk = Desk()
    with desk.client(f"  {PAT}\n") as client:
        assert client.whoami() == client.whoami() == {"email": "a@b.c"}
    assert desk.paths() == ["/api/token/refresh/", "/api/current-user/whoami", "/api/current-user/whoami"]
    assert desk.requests[1].headers["authorization"] == f"Bearer {desk.access[0]}"


def test_an_access_token_is_renewed_before_it_runs_out() -> None:
    now = [0.0]
    desk = Desk()
    client = desk.client()
    authorization = client.authorization
    authorization._clock = lambda: now[0]  # type: ignore[attr-defined]
    for moment, exchanges in ((0, 1), (239, 1), (241, 2), (470, 2), (482, 3)):
        now[0] = moment
        authorization()
        assert len(desk.access) == exchanges, moment


def test_a_refused_access_token_is_renewed_and_the_call_repeated() -> None:
    desk = Desk()
    client = desk.client()
    client.whoami()
    desk.access.clear()  # as after a restart with another secret key
    assert client.whoami() == {"email": "a@b.c"}
    assert desk.paths()[-3:] == ["/api/current-user/whoami", "/api/token/refresh/", "/api/current-user/whoami"]


def test_threads_share_one_exchange() -> None:
    desk = Desk()
    client = desk.client()
    threads = [threading.Thread(target=client.whoami) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(desk.access) == 1


def test_a_token_of_unknown_lifetime_is_used_all_the_same() -> None:
    desk = Desk()
    desk.lifetime = float("nan")
    client = desk.client()
    now = [0.0]
    client.authorization._clock = lambda: now[0]  # type: ignore[attr-defined]
    client.whoami()
    client.whoami()
    assert len(desk.access) == 1
    now[0] = 300
    client.whoami()
    assert len(desk.access) == 2


def test_a_legacy_token_is_sent_as_it_is() -> None:
    desk = Desk(legacy=True)
    assert desk.client(LEGACY).whoami() == {"email": "a@b.c"}
    assert desk.paths() == ["/api/current-user/whoami"]
    assert desk.requests[0].headers["authorization"] == f"Token {LEGACY}"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (LEGACY, "legacy tokens are switched off"),
        ("nonsense", "not valid"),
        (jwt("refresh", number=7), "not valid"),
    ],
)
def test_a_refused_key_is_explained(key: str, said: str) -> None:
    desk = Desk()
    with pytest.raises(errors.LabelStudioUnauthorisedError, match=said) as caught:
        desk.client(key).whoami()
    assert caught.value.status == 401
    assert key not in str(caught.value)
    assert len(desk.requests) == 1


@pytest.mark.parametrize("key", ["", "  ", "a b", "schlüssel", "a\nb"])
def test_a_key_that_can_be_none_is_refused_at_once(key: str) -> None:
    with pytest.raises(errors.LabelStudioUnauthorisedError, match="copy it anew"):
        Desk().client(key)


def test_health_needs_no_valid_key() -> None:
    desk = Desk()
    desk.client("nonsense").health()
    assert "authorization" not in desk.requests[0].headers


def test_an_address_with_a_path_is_kept() -> None:
    desk = Desk()
    with pytest.raises(errors.LabelStudioUnauthorisedError):
        desk.client(LEGACY, URL + "/studio/").whoami()
    assert desk.paths() == ["/studio/api/current-user/whoami"]


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (
            error(
                400, "Validation error", validation_errors={"title": ["Ensure this field has at least 3 characters."]}
            ),
            errors.LabelStudioRefusedError,
            "title: Ensure this field has at least 3 characters",
        ),
        (
            httpx.Response(400, json={"label_config": ["Validation failed on : 'Choice' is a required property"]}),
            errors.LabelStudioRefusedError,
            "label_config: Validation failed",
        ),
        (
            error(
                400, "x", validation_errors={"non_field_errors": ["Can't connect. <a href='h'>Learn\n more</a> now"]}
            ),
            errors.LabelStudioRefusedError,
            r"change project 1: Can't connect\. Learn more now$",
        ),
        (error(404, "No Project matches the given query."), errors.LabelStudioRefusedError, "No Project matches"),
        (
            error(403, "URL resolves to a reserved network address (block: 127.0.0.0/8)"),
            errors.LabelStudioAddressError,
            "ML_BLOCK_LOCAL_IP=false.*SSRF_PROTECTION_ENABLED=false",
        ),
        (
            error(403, "You do not have permission to perform this action."),
            errors.LabelStudioUnauthorisedError,
            "lacks the right",
        ),
        (error(500, "database is locked"), errors.LabelStudioFailedError, "database is locked"),
        (httpx.Response(502, text="<html><h1>Bad Gateway</h1></html>"), errors.LabelStudioFailedError, "Bad Gateway"),
        (httpx.Response(418), errors.LabelStudioRefusedError, "status 418 without a message"),
        (
            httpx.Response(301, headers={"location": "https://desk.example/api?x=1"}),
            errors.LabelStudioUnreachableError,
            "redirect to https://desk.example/api;",
        ),
        (httpx.Response(200, text="<html>hello</html>"), errors.LabelStudioUnreachableError, "does not speak"),
        (httpx.Response(200, json=[1]), errors.LabelStudioUnreachableError, "does not speak"),
    ],
)
def test_answers_that_are_errors_say_what_to_do(
    answer: httpx.Response, kind: type[errors.LabelStudioError], said: str
) -> None:
    desk = Desk(lambda request: answer)
    with pytest.raises(kind, match=said):
        desk.client().update_project(1, title="x")
    assert desk.paths().count("/api/projects/1/") == 1


@pytest.mark.parametrize(
    ("failure", "said"), [(httpx.ConnectError("refused"), "nothing answers"), (httpx.ReadTimeout("x"), "in time")]
)
def test_no_answer_is_told(failure: Exception, said: str) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(errors.LabelStudioUnreachableError, match=said):
        LabelStudioClient(URL, LEGACY, pause=0, transport=httpx.MockTransport(fail)).whoami()


class Flaky:
    """Fails in the given ways, then answers."""

    def __init__(self, *failures: Exception | httpx.Response, then: Any = None) -> None:
        self.failures = list(failures)
        self.then = then if then is not None else {"task_count": 1}
        self.calls = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        return httpx.Response(201, json=self.then)


def test_reading_is_repeated_and_writing_is_not() -> None:
    flaky = Flaky(httpx.ReadTimeout("x"), error(503, "busy"))
    assert Desk(flaky).client().whoami() == {"task_count": 1}
    assert flaky.calls == 3
    flaky = Flaky(*[error(500, "broken")] * 3)
    with pytest.raises(errors.LabelStudioFailedError):
        Desk(flaky).client().whoami()
    assert flaky.calls == 3
    flaky = Flaky(error(503, "busy"))
    with pytest.raises(errors.LabelStudioFailedError):
        Desk(flaky).client().create_annotation(1, [])
    assert flaky.calls == 1


def test_being_asked_to_wait_is_heeded_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("backend.label_studio.connection.time.sleep", slept.append)
    answers = [httpx.Response(429, headers={"Retry-After": wait}) for wait in ("7", "86400")]
    assert Desk(Flaky(*answers)).client().whoami() == {"task_count": 1}
    assert slept == [7.0, 30.0]
    with pytest.raises(errors.LabelStudioRefusedError, match="429"):
        Desk(Flaky(*[httpx.Response(429, headers={"Retry-After": "soon"})] * 3)).client().whoami()


@pytest.mark.parametrize(
    ("answer", "is_gone"),
    [
        (error(404, "No Annotation matches the given query."), True),
        (httpx.Response(404, text="<html>no such page</html>"), False),
        (httpx.Response(404, json={"detail": "Not Found"}), False),
        (httpx.Response(404, json=["Not Found"]), False),
    ],
)
def test_only_label_studio_itself_can_say_that_something_is_gone(answer: httpx.Response, is_gone: bool) -> None:
    client = Desk(lambda request: answer).client()
    for find in (client.find_annotation, client.find_project):
        if is_gone:
            assert find(5) is None
        else:
            with pytest.raises(errors.LabelStudioRefusedError):
                find(5)
    found = Desk(lambda request: httpx.Response(200, json={"id": 5})).client()
    assert found.find_annotation(5) == found.find_project(5) == {"id": 5}


def test_an_upload_is_repeated_only_where_it_was_not_taken() -> None:
    flaky = Flaky(httpx.ConnectError("refused"), error(500, "database is locked"))
    assert Desk(flaky).client().import_files(1, [("a.png", b"x")]) == 1
    assert flaky.calls == 3
    flaky = Flaky(httpx.ReadTimeout("x"))
    with pytest.raises(errors.LabelStudioUnreachableError):
        Desk(flaky).client().import_files(1, [("a.png", b"x")])
    assert flaky.calls == 1


def import_as_label_studio_does(request: httpx.Request) -> httpx.Response:
    """One file a form field: of several under one name the last wins."""
    fields = set(re.findall(rb'name="([^"]+)"; filename="', request.content))
    return httpx.Response(201, json={"task_count": len(fields), "file_upload_ids": list(range(len(fields)))})


def test_every_file_of_an_upload_becomes_a_task(tmp_path: Path) -> None:
    (tmp_path / "first.png").write_bytes(b"1")
    files: list[Path | tuple[str, bytes]] = [tmp_path / "first.png", *((f"{i}.png", b"2") for i in range(44))]
    desk = Desk(import_as_label_studio_does)
    assert desk.client().import_files(3, files) == 45
    assert desk.paths().count("/api/projects/3/import") == 3
    assert b'filename="first.png"' in desk.requests[1].content
    assert desk.client().import_files(3, []) == 0


def test_uploads_are_split_by_size_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_UPLOAD_BYTES", 10)
    desk = Desk(import_as_label_studio_does)
    assert desk.client().import_files(3, [("a", b"123456"), ("b", b"1234"), ("c", b"1"), ("d", b"1" * 30)]) == 4
    assert desk.paths().count("/api/projects/3/import") == 3


def test_files_that_became_no_tasks_are_told() -> None:
    desk = Desk(lambda request: httpx.Response(201, json={"task_count": 1}))
    with pytest.raises(errors.LabelStudioFailedError, match="1 tasks of 2"):
        desk.client().import_files(3, [("a", b"1"), ("b", b"2")])


class TaskList:
    """`/api/tasks/` as Label Studio gives it: no more than a hundred at once, of those beyond a number."""

    def __init__(self, count: int) -> None:
        self.tasks = [{"id": number} for number in range(1, count + 1)]
        self.queries: list[Any] = []
        self.sizes: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        params = request.url.params
        assert (params["project"], params["fields"]) == ("5", "all")
        query = json.loads(params["query"])
        self.queries.append(query)
        self.sizes.append(int(params["page_size"]))
        beyond = next(one["value"] for one in query["filters"]["items"] if one["filter"] == "filter:tasks:id")
        assert query["ordering"] == ["tasks:id"]
        found = [task for task in self.tasks if task["id"] > beyond]
        return httpx.Response(200, json={"total": len(found), "tasks": found[: min(self.sizes[-1], 100)]})


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 250])
def test_all_tasks_of_all_pages(count: int) -> None:
    assert [task["id"] for task in Desk(TaskList(count)).client().tasks(5)] == list(range(1, count + 1))


def test_a_task_deleted_between_two_pages_hides_no_other() -> None:
    tasks = TaskList(250)
    listing = Desk(tasks).client().tasks(5)
    seen = [next(listing)["id"]]
    del tasks.tasks[:3]
    seen += [task["id"] for task in listing]
    assert seen == list(range(1, 251))


def test_a_listing_that_takes_too_long_is_asked_for_less() -> None:
    tasks = TaskList(30)

    def slow(request: httpx.Request) -> httpx.Response:
        if int(request.url.params["page_size"]) > 12:
            tasks.sizes.append(int(request.url.params["page_size"]))
            raise httpx.ReadTimeout("slow")
        return tasks(request)

    assert [task["id"] for task in Desk(slow).client().tasks(5)] == list(range(1, 31))
    assert tasks.sizes == [100, 50, 25, 12, 12, 12], "each size is tried once"


def test_tasks_changed_since() -> None:
    tasks = TaskList(1)
    moment = datetime(2026, 11, 22, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    list(Desk(tasks).client().tasks(5, updated_after=moment))
    _, item = tasks.queries[0]["filters"]["items"]
    assert item["value"] == "2026-11-22T10:00:00.000000Z"
    assert (item["filter"], item["operator"]) == ("filter:tasks:updated_at", "greater")


def test_projects_of_all_pages_by_title() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        found = [{"id": page, "title": "Strips" if page == 2 else "Other"}]
        return httpx.Response(200, json={"count": 2, "next": "more" if page == 1 else None, "results": found})

    client = Desk(answer).client()
    assert [project["id"] for project in client.projects()] == [1, 2]
    assert [project["id"] for project in client.projects("Strips")] == [2]


def test_connecting_sends_what_label_studio_needs() -> None:
    bodies: dict[str, Any] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        bodies[f"{request.method} {request.url.path}"] = json.loads(request.content or b"null")
        if request.method == "DELETE":
            return httpx.Response(204)
        return httpx.Response(200, json=[{"id": 1}] if request.method == "GET" else {"id": 1})

    client = Desk(answer).client()
    client.add_ml_backend(1, "http://backend:9090", "Inspection", user="u", password="p", is_interactive=True)
    assert bodies["POST /api/ml/"] == {
        "project": 1,
        "url": "http://backend:9090",
        "title": "Inspection",
        "is_interactive": True,
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": "u",
        "basic_auth_pass": "p",
        "extra_params": {},
    }
    client.add_webhook(1, "http://backend:9090/webhook", headers={"X-Token": "t"}, actions=["ANNOTATION_CREATED"])
    assert bodies["POST /api/webhooks/"] == {
        "project": 1,
        "url": "http://backend:9090/webhook",
        **webhook_fields({"X-Token": "t"}, ["ANNOTATION_CREATED"]),
    }
    assert bodies["POST /api/webhooks/"]["send_for_all_actions"] is False
    client.retrieve_predictions(1, [4, 5])
    with pytest.raises(ValueError, match="all tasks"):
        client.retrieve_predictions(1, [])
    assert bodies["POST /api/dm/actions/"] == {"selectedItems": {"all": False, "included": [4, 5]}, "project": 1}
    client.create_annotation(4, [{"id": "a"}], lead_time=2.5)
    assert bodies["POST /api/tasks/4/annotations/"] == {"result": [{"id": "a"}], "lead_time": 2.5}
    assert client.ml_backends(1) == client.webhooks(1) == client.predictions(1) == client.annotations(4) == [{"id": 1}]
    for remove in (client.delete_webhook, client.delete_ml_backend, client.delete_annotation):
        remove(1)


def test_cookies_are_not_kept() -> None:
    """A session cookie would go along with the token, and to other ports of the same host."""
    desk = Desk(lambda request: httpx.Response(200, json={}, headers={"set-cookie": "sessionid=s; Path=/"}))
    client = desk.client()
    client.whoami()
    client.whoami()
    assert all("cookie" not in request.headers for request in desk.requests)
