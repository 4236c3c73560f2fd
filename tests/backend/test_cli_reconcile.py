"""`inspection reconcile` as a person and a script meet it, and what `doctor` says of it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from backend.cli.program import run
from backend.label_studio import client as client_module
from tests.backend import desks
from tests.backend.label_studio_fake import KEY, FakeLabelStudio, refusal

URL = "http://studio.example"


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> FakeLabelStudio:
    """A Label Studio with a project of the desk's and one annotation in it, and a migrated database."""
    made = FakeLabelStudio(URL, desks.CONFIG)
    project = made.add_project()
    made.webhooks = [{"project": project, "headers": {"X-Inspection-Token": desks.TOKEN}}]
    made.annotate(made.add_task(project), [])
    for name, value in {
        "DATA_DIR": str(tmp_path), "LABEL_STUDIO_URL": URL, "LABEL_STUDIO_API_KEY": KEY, "WEBHOOK_TOKEN": desks.TOKEN,
    }.items():  # fmt: skip
        monkeypatch.setenv(f"INSPECTION_{name}", value)

    class Client(client_module.LabelStudioClient):
        def __init__(self, url: str, api_key: str) -> None:
            super().__init__(url, api_key, pause=0, transport=httpx.MockTransport(made))

    monkeypatch.setattr(client_module, "LabelStudioClient", Client)
    assert run(["db", "upgrade"]) == 0
    capsys.readouterr()
    return made


def reconciling(capsys: pytest.CaptureFixture[str]) -> tuple[bool, str]:
    """What doctor finds."""
    run(["doctor", "--json"])
    [found] = [one for one in json.loads(capsys.readouterr().out) if one["what"] == "reconciling"]
    return found["ok"], found["found"]


def test_what_was_lost_is_told_and_then_nothing_is(studio: FakeLabelStudio, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not done yet" in reconciling(capsys)[1]
    assert run(["reconcile", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["agrees"], told["annotations"], told["failed"], told["unreadable"]) == (True, 1, 0, {})
    assert told["found"] == {"created": 1, "updated": 0, "skipped": 0, "deleted": 0}
    assert [one["project_id"] for one in told["projects"]] == list(studio.projects)
    assert run(["reconcile"]) == 0
    shown = capsys.readouterr().out
    assert "no webhook had told of none; 0 not in agreement" in shown
    assert "the record agrees with Label Studio" in shown
    ok, said = reconciling(capsys)
    assert ok and "1 projects in agreement, last compared" in said


def test_what_is_not_in_agreement_is_exit_1_and_says_where_to_look(
    studio: FakeLabelStudio, capsys: pytest.CaptureFixture[str]
) -> None:
    [project] = studio.projects
    [annotation] = studio.annotations.values()
    annotation["result"] = "torn"
    assert run(["reconcile", "--project", str(project), "--project", "99"]) == 1
    shown = capsys.readouterr()
    assert "1 not in agreement" in shown.out and "does not agree" in shown.out
    assert "project 99 was not compared" in shown.err and "inspection failures" in shown.err
    ok, said = reconciling(capsys)
    assert not ok and f"not in agreement in project {project};" in said, "nobody knows project 99"
    assert run(["failures"]) == 0
    assert "reconcile" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "said"),
    [(refusal(401, "Token is expired"), "make a new one"), (refusal(500, "database is locked"), "database is locked")],
)
def test_a_label_studio_that_does_not_answer_is_one_clear_line(
    studio: FakeLabelStudio, answer: httpx.Response, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    studio.fault = lambda _: answer
    assert run(["reconcile"]) == 1
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_without_a_key_or_a_database_it_says_what_to_do(
    studio: FakeLabelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INSPECTION_DATA_DIR", str(tmp_path / "elsewhere"))
    assert run(["reconcile"]) == 1
    assert "inspection db upgrade" in capsys.readouterr().err
    monkeypatch.delenv("INSPECTION_LABEL_STUDIO_API_KEY")
    assert run(["reconcile"]) == 2
    assert "INSPECTION_LABEL_STUDIO_API_KEY" in capsys.readouterr().err
