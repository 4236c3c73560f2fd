"""The supervisor's page and its JSON: who sees them, what they say, and what its form may do."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import get_ident

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event

from backend.app import create_app
from backend.desk import Desk
from backend.models_in_use import version_in_use
from backend.status.forms import FormTokens, is_from_here
from backend.status.report import Agreement
from db import decisions, failures, jobs, model_events, model_versions, predictions, reviews
from db.records import ModelScope, NewFailure
from inspection_models.intervals import clopper_pearson
from tests.backend import desks, status_material
from tests.db import samples

AUTH = ("inspection", desks.PASSWORD)
HERE = "http://desk.example:9090"
STUDIO = "http://127.0.0.1:8080"
HOSTILE = """<script>alert("x")</script>'"><img src=x onerror=alert(1)>"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return desks.write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def desk(tmp_path: Path, model: Path) -> Desk:
    return desks.open_desk(desks.settings_for(tmp_path, model, STUDIO), work_off_queue=False)


@pytest.fixture
def client(desk: Desk) -> Iterator[TestClient]:
    with TestClient(create_app(desk), base_url=HERE, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client


def read(client: TestClient) -> tuple[dict, str]:
    as_json = client.get("/api/v1/status", auth=AUTH)
    as_page = client.get("/status", auth=AUTH)
    assert (as_json.status_code, as_page.status_code) == (200, 200), as_page.text
    return as_json.json(), as_page.text


def version_of(desk: Desk) -> str:
    return version_in_use(desk.settings, desk.database, None).model_version


def fail_a_job(desk: Desk, reason: str = "refused") -> None:
    with desk.database.write() as session:
        jobs.enqueue(session, "webhook", {})
        job = jobs.claim(session, owner="w", lease=timedelta(minutes=1))
        assert job is not None
        jobs.fail(session, job, reason, retry=False)


def failed_jobs(desk: Desk) -> int:
    with desk.database.read() as session:
        return jobs.depth(session, kind="webhook").failed


def token_on(page: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_nobody_sees_it_without_the_password(client: TestClient) -> None:
    for method, path in (("GET", "/status"), ("GET", "/api/v1/status"), ("POST", "/status/retry")):
        assert client.request(method, path).status_code == 401


def test_a_fresh_desk_says_what_to_do(client: TestClient) -> None:
    status, page = read(client)
    assert status["projects"] == []
    assert status["queue"]["queued"] == status["failures"]["count"] == 0
    assert [one["scope"] for one in status["models"]] == ["the desk"]
    assert "inspection connect" in page


@pytest.mark.slow
def test_page_and_json_say_how_a_filled_desk_stands(client: TestClient, desk: Desk) -> None:
    status_material.fill(desk.database, STUDIO, version_of(desk))
    status, page = read(client)
    panels, castings = status["projects"]
    assert (panels["project_id"], panels["judged"], castings["judged"]) == (7, 1180, 250)
    of_used = sum(panels["outcomes"].values()) + panels["perhaps_blind"]
    reviewed = of_used + panels["other_versions"]
    assert 50 < panels["other_versions"] < 100
    assert castings["other_versions"] == 0
    assert 1180 - reviewed + panels["outcomes"]["skipped"] <= panels["waiting"] < 1180 - of_used
    assert 0 < panels["waiting_for_review"] < panels["waiting"]
    assert sum(day["reviews"] for day in panels["reviews_by_day"]) == reviewed
    assert len(panels["reviews_by_day"]) == 14
    agreement = panels["agreement"]
    undecided = panels["outcomes"]["decided"] + panels["outcomes"]["skipped"]
    assert panels["perhaps_blind"] > 0
    assert agreement["of"] == of_used - undecided - panels["perhaps_blind"]
    assert agreement["count"] == panels["outcomes"]["accepted"] + panels["outcomes"]["adjusted"]
    told = " ".join(html.unescape(page).split())
    assert f"{100 * agreement['share']:.1f} %" in told
    assert f"({agreement['count']} of {agreement['of']} reviews; 95 % interval" in told
    assert "had seen the model's answer" in told
    assert f"not known if the answer was seen</th><td>{panels['perhaps_blind']}<" in told
    assert status["queue"] | {"failed_jobs": [], "oldest_waiting_since": None} == {
        "queued": 2, "running": 0, "done": 42, "failed": 2, "failed_jobs": [], "oldest_waiting_since": None,
    }  # fmt: skip
    assert status["queue"]["oldest_waiting_since"] is not None
    assert status["failures"]["count"] == 5
    assert "inspection predict --project 12" in told
    assert f'href="{STUDIO}/projects/12/data?task=12311"' in page


def test_only_a_review_whose_inspector_saw_the_answer_agrees_with_it(client: TestClient, desk: Desk) -> None:
    used = version_of(desk)
    with desk.database.write() as session:
        model_versions.register(session, samples.model())
        decided = decisions.record(session, samples.decision()).id
        sent = {
            version: predictions.record(session, samples.prediction(decided, model_version=version)).id
            for version in (used, "tiny before")
        }
        for number, was_shown in enumerate((True, True, False, None, None, None, True, None)):
            judged = sent["tiny before" if number > 5 else used]
            said = "rejected" if number == 1 else "accepted"
            of = {"annotation_id": number, "decision_id": decided, "prediction_id": judged, "instance": STUDIO}
            reviews.record(session, samples.review(**of, outcome=said, model_output_shown=was_shown))
    [project] = read(client)[0]["projects"]
    assert project["other_versions"] == 2
    assert project["outcomes"] == {"accepted": 1, "rejected": 1}
    assert (project["blind"], project["perhaps_blind"]) == (1, 3)
    assert (project["agreement"]["count"], project["agreement"]["of"]) == (1, 2)


def test_what_waits_to_be_mended_is_seen_before_anything_is_read(client: TestClient, desk: Desk) -> None:
    assert "not-mended" not in read(client)[1].partition("</style>")[2]
    with desk.database.write() as session:
        failures.record(session, NewFailure(kind="webhook", reason="lost", instance=STUDIO))
    assert "not-mended" in read(client)[1].partition("</style>")[2]


def test_a_failed_job_is_seen_before_anything_is_read(client: TestClient, desk: Desk) -> None:
    fail_a_job(desk)
    assert "not-mended" in read(client)[1].partition("</style>")[2]


@pytest.mark.slow
def test_the_version_of_a_project_is_the_one_activated_for_it(client: TestClient, desk: Desk) -> None:
    status_material.fill(desk.database, STUDIO, version_of(desk))
    with desk.database.write() as session:
        registered = model_versions.find_by_fingerprint(session, samples.sha("model"))
        assert registered is not None
        model_events.activate(session, registered.model_version_id, ModelScope(STUDIO, 12), actor="me")
    status, _ = read(client)
    panels, castings = (one["model_version"] for one in status["projects"])
    assert panels.startswith("tiny ")
    assert castings.startswith("panel ")
    assert [one["scope"] for one in status["models"]] == ["the desk", "project 12"]


def test_one_connection_is_enough(client: TestClient, desk: Desk) -> None:
    status_material.fill(desk.database, STUDIO, version_of(desk))
    # By thread, as the model is being loaded beside.
    held: Counter[int] = Counter()

    def take(*_: object) -> None:
        held[get_ident()] += 1
        assert held[get_ident()] == 1, "a second connection is taken while one is held"

    def give_back(*_: object) -> None:
        held[get_ident()] -= 1

    event.listen(desk.database.engine, "checkout", take)
    event.listen(desk.database.engine, "checkin", give_back)
    status, _ = read(client)
    assert len(status["projects"]) == 2
    assert held


def test_advice_fits_what_was_refused(client: TestClient, desk: Desk) -> None:
    for path in ("/webhook", "/predict"):
        desk.keep_refused(path)
    newest = read(client)[0]["failures"]["newest"]
    assert [one["what"] for one in newest] == ["predict", "webhook"]
    assert "INSPECTION_MAX_REQUEST_BYTES" in newest[0]["what_to_do"]
    assert "`inspection reconcile`" in newest[1]["what_to_do"]


def test_nothing_from_the_database_is_read_as_html(client: TestClient, desk: Desk) -> None:
    fail_a_job(desk, HOSTILE)
    with desk.database.write() as session:
        for kind in ("predict", HOSTILE):
            new = NewFailure(kind=kind, reason=HOSTILE, instance=STUDIO, project_id=7, task_id=3)
            failures.record(session, new)
        hostile = samples.model(name=HOSTILE, fingerprint=samples.sha("hostile"))
        number = model_versions.register(session, hostile).id
        model_events.activate(session, number, ModelScope(STUDIO, 7), actor="me")
    status, page = read(client)
    assert HOSTILE in json.dumps(status).replace('\\"', '"')
    assert page.count("alert(1)") >= 4
    assert "<script" not in page
    assert "<img" not in page


@pytest.mark.slow
def test_a_browser_may_load_the_pages_own_style_and_nothing_else(client: TestClient) -> None:
    response = client.get("/status", auth=AUTH)
    [style] = re.findall(r"<style>(.*?)</style>", response.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = response.headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "style=" not in response.text
    assert not re.findall(r"""(?:src|srcset|@import|url\()""", response.text)
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.slow
def test_the_button_lets_failed_jobs_start_over(client: TestClient, desk: Desk) -> None:
    for _ in range(3):
        fail_a_job(desk)
    _, page = read(client)
    sent = client.post("/status/retry", auth=AUTH, data={"token": token_on(page)}, headers={"Origin": HERE})
    assert (sent.status_code, sent.headers["location"]) == (303, "/status?retried=3")
    assert failed_jobs(desk) == 0
    after = client.get(sent.headers["location"], auth=AUTH).text
    assert "3 failed jobs were started over" in after
    assert "<form" not in after


@pytest.mark.parametrize(
    ("origin", "token"),
    [
        ("http://evil.example", None),
        ("http://desk.example:9091", None),
        ("null", None),
        ("", None),
        (HERE, "wrong"),
        (HERE, ""),
        (HERE, "9999999999.00"),
    ],
)
def test_a_form_from_elsewhere_changes_nothing(client: TestClient, desk: Desk, origin: str, token: str | None) -> None:
    fail_a_job(desk)
    _, page = read(client)
    data = {"token": token_on(page) if token is None else token}
    sent = client.post("/status/retry", auth=AUTH, data=data, headers={"Origin": origin} if origin else {})
    assert sent.status_code == 403
    assert "open /status" in sent.json()["detail"]
    if origin not in (HERE, ""):
        assert f"a page of {origin}, and the desk was called as desk.example:9090" in sent.json()["detail"]
    assert failed_jobs(desk) == 1


def test_a_huge_form_is_not_read(client: TestClient) -> None:
    sent = client.post("/status/retry", auth=AUTH, data={"token": "x" * 10_000}, headers={"Origin": HERE})
    assert sent.status_code == 413


def test_tokens_run_out_and_are_good_for_one_purpose_and_password() -> None:
    now = [1000.0]
    tokens = FormTokens(["secret"], "retry", clock=lambda: now[0])
    token = tokens.new()
    assert tokens.is_good(token)
    assert FormTokens(["secret"], "retry", clock=lambda: now[0]).is_good(token)
    assert FormTokens(["new", "secret"], "retry", clock=lambda: now[0]).is_good(token)
    assert not tokens.is_good(FormTokens(["new", "secret"], "retry", clock=lambda: now[0]).new())
    assert not FormTokens(["other"], "retry", clock=lambda: now[0]).is_good(token)
    assert not FormTokens(["secret"], "another", clock=lambda: now[0]).is_good(token)
    assert not tokens.is_good(token.replace("1000", "2000"))
    now[0] += 12 * 3600
    assert tokens.is_good(token)
    now[0] += 1
    assert not tokens.is_good(token)


def test_only_the_very_same_host_and_port_is_here() -> None:
    assert is_from_here({"origin": "https://desk.example", "host": "desk.example"}, None)
    for origin in ("https://desk.example.evil", "https://evil@desk.example", "desk.example", "null", ""):
        assert not is_from_here({"origin": origin, "host": "desk.example"}, "https://desk.example"), origin
    assert not is_from_here({"origin": "", "host": ""}, None)


def test_behind_a_proxy_the_public_address_is_here() -> None:
    def is_here(origin: str, public_url: str) -> bool:
        return is_from_here({"origin": origin, "host": "127.0.0.1:9090"}, public_url)

    assert is_here("https://desk.example", "https://Desk.example:443/inspection")
    assert is_here("http://desk.example:8443", "http://desk.example:8443")
    for origin in ("http://desk.example", "https://desk.example:8443", "https://desk.example.evil", "null", ""):
        assert not is_here(origin, "https://desk.example"), origin


def test_agreement_counts_what_judged_a_decision_only() -> None:
    found = Agreement.of_outcomes({"accepted": 8, "adjusted": 1, "missed": 1, "decided": 90, "skipped": 9})
    assert found is not None
    assert (found.count, found.of, found.share) == (9, 10, 0.9)
    assert (found.low, found.high) == clopper_pearson(9, 10)
    assert Agreement.of_outcomes({"decided": 3, "skipped": 2}) is None


def test_the_description_of_the_api_tells_of_it(client: TestClient) -> None:
    described = client.get("/openapi.json", auth=AUTH).json()
    answer = described["paths"]["/api/v1/status"]["get"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Status")
    assert "interval" in described["components"]["schemas"]["Agreement"]["properties"]["low"]["description"]
