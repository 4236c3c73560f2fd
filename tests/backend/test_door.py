"""The door under hostile requests: what is refused stays outside, and what is let in is bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from starlette.datastructures import Headers

from backend.app import create_app
from backend.credentials import WEBHOOK_HEADER, Credentials, forget_former, rotate
from backend.desk import Desk
from backend.label_studio.labeling_config import MAX_CONFIG_DEPTH, LabelingConfigError, parse
from backend.label_studio.payloads import MAX_NUMBER, MAX_TASKS
from backend.map_addresses import MapAddresses
from backend.security import BodyLimit, Door
from backend.settings import Settings
from db import failures
from db.errors import DatabaseUnreachableError
from tests.backend import desks

AUTH = ("inspection", desks.PASSWORD)
AS_JSON = {"Content-Type": "application/json"}
TOKEN = {WEBHOOK_HEADER: desks.TOKEN}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return desks.write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Desk]:
    with desks.image_server({"0.png": desks.png()}) as url:
        yield desks.open_desk(desks.settings_for(tmp_path_factory.mktemp("desk"), model, url), work_off_queue=False)


@pytest.fixture(scope="module")
def client(desk: Desk) -> Iterator[TestClient]:
    with TestClient(create_app(desk), raise_server_exceptions=False) as client:
        yield client


def count(desk: Desk, table: str) -> int:
    with desk.database.read() as session:
        return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar() or 0)


def newest_reason(desk: Desk) -> str:
    with desk.database.read() as session:
        return failures.recent(session, limit=1)[0].reason


def predict(client: TestClient, **fields: object) -> Any:
    body = {"tasks": [], "label_config": desks.CONFIG, **fields}
    return client.post("/predict", content=json.dumps(body), auth=AUTH, headers=AS_JSON)


@pytest.mark.slow
def test_secrets_are_changed_without_turning_a_webhook_away(tmp_path: Path, model: Path) -> None:
    settings = Settings(data_dir=tmp_path, model=model)
    desk = desks.open_desk(settings, work_off_queue=False)
    old = desk.credentials()
    event = {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 1}]}

    def let_in(shown: Credentials) -> list[bool]:
        answers = [
            client.post("/webhook", json=event, headers={WEBHOOK_HEADER: shown.webhook_token}).status_code,
            client.post("/versions", auth=(shown.username, shown.password)).status_code,
        ]
        assert set(answers) <= {200, 202, 401}
        return [answer < 300 for answer in answers]

    with TestClient(create_app(desk)) as client:
        assert let_in(old) == [True, True]
        rotate(settings)
        new = desk.credentials()
        assert let_in(old) == let_in(new) == [True, True]
        forget_former(settings)
        assert (let_in(old), let_in(new)) == ([False, False], [True, True])
        assert count(desk, "job") == 4


def test_every_accepted_secret_is_compared_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer must not come sooner for the first of them than for the last."""
    compared = []

    def compare(given: bytes, accepted: bytes) -> bool:
        compared.append(accepted)
        return given == accepted

    monkeypatch.setattr("backend.security.hmac.compare_digest", compare)
    known = Credentials("u", "p", "t", "m", ("former p",), ("former t",))
    door = Door(lambda *_: None, lambda: known)  # type: ignore[arg-type, return-value]
    assert door._may_enter("/webhook", Headers({WEBHOOK_HEADER: "t"}))
    assert compared == [b"t", b"former t"]
    compared.clear()
    assert door._may_enter("/predict", Headers({"authorization": "Basic dTpw"}))
    assert not door._may_enter("/predict", Headers({"authorization": "Basic eDpw"}))
    assert compared == [b"u", b"p", b"former p"] * 2
    assert not door._may_enter("/predict", Headers({WEBHOOK_HEADER: "t"}))


async def announced(length: bytes) -> int:
    """The status for a request that announces this length."""
    sent: list[dict] = []

    async def inner(*_: object) -> None:
        sent.append({"status": 200})

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/webhook", "headers": [(b"content-length", length)]}
    await BodyLimit(inner, 2048, lambda _: None)(scope, None, send)  # type: ignore[arg-type]
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("length", "status"),
    [(b"9" * 5000, 413), (b"9" * 19, 413), (b"0" * 40 + b"4096", 413), (b"0" * 40 + b"7", 200), (b"x", 200)],
)
def test_an_announced_length_is_read_whatever_it_looks_like(length: bytes, status: int) -> None:
    assert anyio.run(announced, length) == status


def test_what_is_too_large_is_kept_where_label_studio_sent_it_and_nowhere_else(client: TestClient, desk: Desk) -> None:
    large = {"Content-Length": "9" * 12}
    by_map = MapAddresses("", desk.credentials().map_key).of(7)
    before = count(desk, "failure")
    for path in ("/health", "/livez", "/readyz", by_map, by_map + "?image=x"):
        assert client.get(path, headers=large).status_code == 413
    assert client.post("/setup", headers=large, auth=AUTH).status_code == 413
    assert client.post("/webhook", headers=large).status_code == 401
    assert count(desk, "failure") == before
    assert client.post("/webhook", headers={**large, **TOKEN}).status_code == 413
    assert client.post("/predict", headers=large, auth=AUTH).status_code == 413
    assert count(desk, "failure") == before + 2


@pytest.mark.parametrize(
    ("error", "status"), [(DatabaseUnreachableError("away"), 503), (RuntimeError("unforeseen"), 500)]
)
def test_the_address_of_a_map_stays_out_of_the_log_when_something_fails(
    client: TestClient,
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
) -> None:
    def fail(*_: object) -> bytes:
        raise error

    monkeypatch.setattr(desk.map_pictures, "picture", fail)
    address = MapAddresses("", desk.credentials().map_key).of(7).removeprefix("/maps/")
    assert client.get(f"/maps/{address}?image=/data/upload/0.png").status_code == status
    told = [record.getMessage() for record in caplog.records if record.name == "backend.app"]
    assert len(told) == 1 and "GET /maps/…" in told[0]
    assert not any(address in record.getMessage() for record in caplog.records if record.name.startswith("backend"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"action": "ANNOTATION_CREATED", "x": NaN}', "NaN is no number"),
        (b'{"action": "ANNOTATION_CREATED", "score": -Infinity}', "-Infinity is no number"),
        (b'{"action": "ANNOTATION_CREATED", "lead_time": 1e999}', "too large"),
        (b'{"action": "ANNOTATION_CREATED", "id": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"action": "ANNOTATION_CREATED", "x": ' + b"[" * 65 + b"]" * 65 + b"}", "64 levels"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "64 levels"),
        (b'{"action": "ANNOTATION_CREATED\xff"}', "utf-8"),
        (b'"ANNOTATION_CREATED"', "no JSON object"),
    ],
)
def test_an_event_beyond_json_is_kept_as_a_failure_and_not_queued(
    client: TestClient, desk: Desk, body: bytes, said: str
) -> None:
    before = count(desk, "job")
    answer = client.post("/webhook", content=body, headers=TOKEN)
    assert (answer.status_code, answer.json()) == (202, {"status": "ignored"})
    assert count(desk, "job") == before
    assert said in newest_reason(desk)


def test_an_event_as_deep_as_an_annotation_ever_is_is_queued(client: TestClient, desk: Desk) -> None:
    before = count(desk, "job")
    body = b'{"action": "ANNOTATION_CREATED", "x": ' + b"[" * 63 + b"]" * 63 + b"}"
    assert client.post("/webhook", content=body, headers=TOKEN).json() == {"status": "queued"}
    assert count(desk, "job") == before + 1


@pytest.mark.parametrize(
    "fields",
    [
        {"project": "9" * 30},
        {"project": "9" * 5000},
        {"project": MAX_NUMBER + 1},
        {"project": "x" * 1_000_000},
        {"tasks": [{"id": 2**70, "data": {}}]},
        {"tasks": [{"id": -1, "data": {}}]},
        {"tasks": ["x"] * 5000},
        {"tasks": [{}] * (MAX_TASKS + 1)},
        {"label_config": "\ud800"},
        {"label_config": "x" * 1_000_000},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_refusal_is_short_and_changes_nothing(client: TestClient, desk: Desk, fields: dict[str, object]) -> None:
    before = count(desk, "failure")
    answer = predict(client, **fields)
    assert answer.status_code == 422
    assert len(answer.content) < 20_000
    assert count(desk, "failure") == before
    assert answer.json()["number_of_problems"] >= len(answer.json()["problems"]) >= 1


def test_json_that_is_too_deep_or_none_is_refused(client: TestClient) -> None:
    deep = b'{"tasks": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    for body in (deep, b"\xff\xfe\x00", b'{"tasks": [', b"\0"):
        answer = client.post("/predict", content=body, auth=AUTH, headers=AS_JSON)
        assert answer.status_code in (400, 422)
        assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "data",
    [
        {"image": "/data/upload/0.png\0"},
        {"image": "/data/upload/\ud800.png"},
        {"image": "file:///etc/passwd"},
        {"image": "/data/local-files/?d=../../etc/passwd"},
        {"image": "x" * 2_000_000},
        {"image": "/data/upload/0.png", "part": "\0\ud800"},
        {str(number): "x" * 100 for number in range(5000)},
    ],
    ids=["nul", "surrogate", "file", "local", "long", "part", "keys"],
)
def test_a_hostile_task_costs_only_itself(client: TestClient, desk: Desk, data: dict[str, str]) -> None:
    body = json.dumps({"tasks": [{"id": 1, "data": data}, desks.task(2, "0.png")], "project": 1,
                       "label_config": desks.CONFIG})  # fmt: skip
    answer = client.post("/predict", content=body, auth=AUTH, headers=AS_JSON)
    assert answer.status_code == 200
    bad, fine = answer.json()["results"]
    assert fine["result"]
    if "part" in data:
        assert bad["result"]
        return
    assert bad == {}
    with desk.database.read() as session:
        kept = failures.recent(session, limit=1)[0]
    assert kept.task_id == 1
    assert len(kept.reason) <= 4000 and len(kept.image_uri or "") <= 4000


BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
INNER = '<Image name="i" value="$i"/>'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "said"),
    [
        (f'<!DOCTYPE v [<!ENTITY e0 "ha">{BOMB}]><View>{INNER}&e9;</View>', "DOCTYPE"),
        (f'<!DOCTYPE v SYSTEM "http://127.0.0.1:1/x.dtd"><View>{INNER}</View>', "DOCTYPE"),
        (f'<!DOCTYPE v [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]><View>{INNER}</View>', "DOCTYPE"),
        (f"<!DOCTYPE v><View>{INNER}</View>", "DOCTYPE"),
        ("<View>" * MAX_CONFIG_DEPTH + INNER + "</View>" * MAX_CONFIG_DEPTH, "levels"),
        (
            f'<View>{INNER}<Choices name="c">' + "<V>" * 30_000 + "</V>" * 30_000 + "</Choices></View>",
            "levels",
        ),
        (f'<?xml version="1.0" encoding="utf-8"?><View>{INNER}</View>', "SDK"),
        (f"<View>{INNER}\0</View>", "well-formed"),
    ],
    ids=["laughs", "external", "parameter", "empty", "deep", "deeper", "declared", "nul"],
)
def test_a_hostile_configuration_is_refused_and_named(client: TestClient, config: str, said: str) -> None:
    answer = predict(client, label_config=config)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert len(answer.content) < 2000
    assert client.post("/setup", json={"schema": config}, auth=AUTH).status_code == 200


def test_a_configuration_within_the_depth_is_read() -> None:
    levels = MAX_CONFIG_DEPTH - 1
    assert parse("<View>" * levels + INNER + "</View>" * levels).images
    with pytest.raises(LabelingConfigError, match="levels"):
        parse("<View>" * (levels + 1) + INNER + "</View>" * (levels + 1))


def test_addresses_and_headers_of_enormous_length(client: TestClient) -> None:
    assert client.get("/" + "x" * 60_000, auth=AUTH).status_code == 404
    assert client.get("/versions?" + "x" * 60_000, auth=AUTH).status_code == 200
    assert client.get("/versions", headers={"X-Long": "x" * 1_000_000}, auth=AUTH).status_code == 200
    assert client.post("/webhook", headers={WEBHOOK_HEADER: "x" * 1_000_000}).status_code == 401
    assert client.post("/webhook", headers={WEBHOOK_HEADER: b"\xff\xfe"}).status_code == 401


@pytest.mark.slow
def test_a_hundred_tasks_in_one_request_are_answered_in_order(client: TestClient) -> None:
    tasks = [desks.task(number, "0.png" if number % 2 else "gone.png") for number in range(100)]
    answer = predict(client, tasks=tasks, project=1)
    assert [bool(one) for one in answer.json()["results"]] == [bool(number % 2) for number in range(100)]
