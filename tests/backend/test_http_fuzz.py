"""The HTTP face under requests made from its own description, and under bytes that follow none."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from backend.app import create_app
from backend.credentials import WEBHOOK_HEADER
from backend.desk import Desk
from backend.map_addresses import MapAddresses
from db import failures
from db.schema import Base
from tests.backend import desks

schemathesis = pytest.importorskip("schemathesis", reason="it needs Python 3.11")

pytestmark = pytest.mark.slow

AUTH = ("inspection", desks.PASSWORD)
KNOWN = {"Authorization": "Basic " + base64.b64encode(":".join(AUTH).encode()).decode()}
OPEN = {"/health", "/livez", "/readyz"}
MAP = "/maps/{project_id}/{name}"
# A supervisor is told which database the desk has, and nothing else of the inside.
NAMES_DATABASE = {"/status", "/api/v1/status"}
# Nothing of the inside: no traceback, no module, no file of this machine, no secret.
INSIDE = re.compile(r'Traceback|File "|\.py\b|site-packages|inspection\.db|sqlite|/tmp/|/home/|p\\u00e4ss|hook-token')
bounded = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("fuzzed")
    model = desks.write_model(folder / "tiny")
    with desks.image_server({"0.png": desks.png()}) as url:
        yield desks.open_desk(desks.settings_for(folder, model, url), work_off_queue=False)


@pytest.fixture(scope="module")
def app(desk: Desk) -> Iterator[FastAPI]:
    made = create_app(desk)
    with TestClient(made):
        yield made


@pytest.fixture(scope="module")
def operations(app: FastAPI) -> dict[tuple[str, str], Any]:
    """What the description names, each reached without starting the desk anew."""

    async def running(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        await app(scope, receive, send)

    described = schemathesis.openapi.from_dict(app.openapi())
    described.app = running
    found = [one.ok() for one in described.get_all_operations()]
    return {(one.method.upper(), one.path): one for one in found}


def rows(desk: Desk) -> dict[str, int]:
    with desk.database.read() as session:
        return {
            name: int(session.execute(text(f'SELECT count(*) FROM "{name}"')).scalar() or 0)
            for name in Base.metadata.tables
        }


def is_of_a_configuration(desk: Desk, status: int, path: str, headers: dict[str, str]) -> bool:
    """Whether the latest failure may be of this request: one of a task whose labeling configuration is unreadable."""
    with desk.database.read() as session:
        [latest] = failures.recent(session, limit=1)
    return (status, path, headers, latest.kind) == (400, "/predict", KNOWN, "labeling configuration")


def require_shut(status: int, said: str, headers: Any, path: str = "") -> None:
    """What every answer must keep to."""
    if path in NAMES_DATABASE and status == 200:
        said = re.sub(r"sqlite[^\"<]*inspection\.db", "", said)
    assert status < 500 or (status == 503 and "retry-after" in {name.lower() for name in headers}), said
    assert not INSIDE.search(said), said


DESCRIBED = [
    ("GET", "/api/v1/status"),
    ("GET", "/health"),
    ("GET", "/livez"),
    ("GET", MAP),
    ("GET", "/readyz"),
    ("GET", "/status"),
    ("GET", "/versions"),
    ("POST", "/predict"),
    ("POST", "/setup"),
    ("POST", "/status/retry"),
    ("POST", "/versions"),
    ("POST", "/webhook"),
]


def test_every_address_is_fuzzed(operations: dict[tuple[str, str], Any]) -> None:
    assert set(DESCRIBED) == set(operations)


@pytest.mark.parametrize(("method", "path"), DESCRIBED)
@pytest.mark.parametrize("headers", [KNOWN, {}], ids=["known", "unknown"])
def test_requests_made_from_the_description(
    operations: dict[tuple[str, str], Any], desk: Desk, method: str, path: str, headers: dict[str, str]
) -> None:
    operation = operations[method, path]
    modes = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode))

    @settings(bounded, max_examples=15)
    @given(case=modes)
    def fuzz(case: Any) -> None:
        before = rows(desk)
        answer = case.call(headers=headers)
        require_shut(answer.status_code, answer.text, answer.headers, path)
        if path == MAP:
            # No password opens these, and the address signed here is of no use to whoever guesses.
            assert answer.status_code == 404, answer.text
        elif not headers and path not in OPEN:
            assert answer.status_code in (401, 405), answer.text
        if answer.status_code >= 400:
            after = rows(desk)
            kept = after["failure"] - before["failure"]
            assert {**after, "failure": 0} == {**before, "failure": 0}
            assert kept == 0 or (kept == 1 and is_of_a_configuration(desk, answer.status_code, path, headers))

    fuzz()


WORDS = (
    *("action", "annotation", "annotations", "prediction", "result", "value", "points", "rle", "id", "task", "tasks"),
    *("data", "image", "project", "type", "schema", "label_config", "params", "context", "part", "lot", "score"),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["\ud800", "\0", "x" * 9000, "/data/upload/0.png", "file:///etc/passwd", "1.1", desks.CONFIG]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(WORDS) | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
TASK = st.fixed_dictionaries({"id": st.integers(0, 2**60), "data": st.dictionaries(st.sampled_from(
    ["image", "part", "lot"]), JSON, max_size=3)})  # fmt: skip
BODIES = {
    "/predict": st.fixed_dictionaries({"tasks": st.lists(TASK, max_size=3), "label_config": st.just(desks.CONFIG)},
                                      optional={"project": JSON, "params": JSON}),
    "/setup": st.fixed_dictionaries({"schema": st.just(desks.CONFIG)}, optional={"project": JSON, "hostname": JSON}),
    "/webhook": st.fixed_dictionaries({"action": st.sampled_from(["ANNOTATION_CREATED", "ANNOTATIONS_DELETED"]),
                                       "annotation": JSON}, optional={"project": JSON, "task": JSON}),
}  # fmt: skip


TAGS = st.sampled_from(
    ["View", "Image", "Choices", "PolygonLabels", "Label", "Choice", "Style", "Filter", "Repeater", "x:y"]
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["name", "toName", "value", "alias", "choice", "perRegion", "indexFlag", "apiUrl"]),
    st.sampled_from(["img", "where", "$image", "Crack", "", "Good", "true", "$", "a,b", "img,where", "multiple"]),
    max_size=4,
)


@st.composite
def tags(draw: Callable[[Any], Any], levels: int) -> str:
    """A tag of Label Studio's words, with tags in it."""
    written = " ".join(f'{name}="{value}"' for name, value in draw(ATTRIBUTES).items())
    inside = "".join(draw(st.lists(tags(levels - 1), max_size=3))) if levels else ""
    tag = draw(TAGS)
    return f"<{tag} {written}>{inside}</{tag}>"


HEADS = st.sampled_from(["", "", '<?xml version="1.0" encoding="utf-8"?>', "<!-- -->"])
CONFIGURATIONS = st.builds(
    lambda head, inside: f'{head}<View><Image name="img" value="$image"/>{"".join(inside)}</View>',
    HEADS,
    st.lists(tags(2), max_size=4),
)


@pytest.mark.parametrize("path", sorted(BODIES))
def test_bodies_of_the_right_shape_with_anything_in_it(app: FastAPI, desk: Desk, path: str) -> None:
    client = TestClient(app, raise_server_exceptions=False)

    @bounded
    @given(body=BODIES[path] | JSON)
    def fuzz(body: Any) -> None:
        before = rows(desk)
        answer = client.post(path, content=json.dumps(body), headers={**KNOWN, "Content-Type": "application/json"})
        require_shut(answer.status_code, answer.text, answer.headers)
        if answer.status_code >= 400:
            assert rows(desk) == before

    fuzz()


def test_any_configuration_is_answered_or_refused(app: FastAPI) -> None:
    client = TestClient(app, raise_server_exceptions=False)

    @settings(bounded, max_examples=100)
    @given(config=CONFIGURATIONS | st.text(max_size=50))
    def fuzz(config: str) -> None:
        tasks = [desks.task(1, "0.png")]
        for path, body in (("/predict", {"tasks": tasks, "label_config": config}), ("/setup", {"schema": config})):
            answer = client.post(path, json=body, headers=KNOWN)
            require_shut(answer.status_code, answer.text, answer.headers)

    fuzz()


@pytest.mark.parametrize("path", sorted({path for _, path in DESCRIBED}))
def test_bytes_and_headers_that_follow_no_description(app: FastAPI, desk: Desk, path: str) -> None:
    if path == MAP:
        path = MapAddresses("", desk.credentials().map_key).of(1)
    client = TestClient(app, raise_server_exceptions=False)
    line = st.binary(max_size=40).map(lambda raw: bytes(byte for byte in raw if byte not in b"\r\n\0"))
    named = st.sampled_from(["content-type", "content-length", "content-encoding", "accept", "authorization", "host",
                             "transfer-encoding", WEBHOOK_HEADER, "x-forwarded-for"])  # fmt: skip

    @bounded
    @given(st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "X"]), st.binary(max_size=60),
           st.dictionaries(named, line, max_size=4), st.binary(max_size=30), st.booleans())  # fmt: skip
    def fuzz(method: str, body: bytes, headers: dict[str, bytes], query: bytes, known: bool) -> None:
        before = rows(desk)
        sent = {name.encode(): value for name, value in {**headers, **(KNOWN if known else {})}.items()}
        sent = {name: value.encode() if isinstance(value, str) else value for name, value in sent.items()}
        answer = client.request(method, f"{path}?{query.hex()}", content=body, headers=sent)
        require_shut(answer.status_code, answer.text, answer.headers, path)
        is_kept = answer.status_code == 413 and path in ("/predict", "/webhook")
        assert answer.status_code < 400 or is_kept or rows(desk) == before

    fuzz()
