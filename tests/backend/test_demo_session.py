"""The demo's memory of itself, its settings, its watch over its children and its check, against fakes."""

from __future__ import annotations

import json
import socket
import threading
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from backend.cli.program import run
from backend.demo import check
from backend.demo.label_studio_server import LabelStudioCredentials, LabelStudioError, LabelStudioServer
from backend.demo.progress import DemoProgress
from backend.demo.record import (
    RECORD_FILE,
    DemoRecord,
    DemoRecordError,
    KeptProject,
    read_record,
    write_record,
)
from backend.demo.session import (
    DemoError,
    DemoOptions,
    DemoSession,
    DemoSettings,
    label_studio_name,
    required_record,
    uploaded_name,
)
from backend.label_studio.errors import LabelStudioUnreachableError
from db.errors import DatabaseUnreachableError

PROJECT = KeptProject(3, "Strip", "/photos/inbox", ("good", "scratches"), (("1.png", "ab"),))


def options(directory: Path, port: int = 8080) -> DemoOptions:
    return DemoOptions(directory, Path("label-studio"), port, 9090)


def test_the_record_survives_being_written(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    record = DemoRecord(8080).with_project(PROJECT).with_project(replace(PROJECT, images="synthetic", project_id=4))
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record


def test_a_project_is_known_by_its_images_and_classes() -> None:
    record = DemoRecord(8080).with_project(PROJECT)
    assert record.project_for("/photos/inbox", ("good", "scratches")) == PROJECT
    assert record.project_for("/other/inbox", ("good", "scratches")) is None
    assert record.project_for("/photos/inbox", ("good", "dents")) is None
    assert record.with_project(replace(PROJECT, project_id=9)).projects == (replace(PROJECT, project_id=9),)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"label_studio_port": 1, "projects": [{"project_id": 1}]}'])
def test_a_damaged_record_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / RECORD_FILE).write_text(text)
    with pytest.raises(DemoRecordError, match=RECORD_FILE):
        read_record(tmp_path)


def test_another_port_for_label_studio_is_refused(tmp_path: Path) -> None:
    assert required_record(options(tmp_path, 8099)) == DemoRecord(8099)
    write_record(tmp_path, DemoRecord(8099))
    assert required_record(options(tmp_path, 8099)) == DemoRecord(8099)
    with pytest.raises(DemoError, match="--label-studio-port 8099") as refusal:
        required_record(options(tmp_path, 8080))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("Prüfling Nr. 3 (b).png", "4fc09ad2-Pr%C3%BCfling_Nr._3_b.png"),
        ("plain-name_1.png", "4fc09ad2-plain-name_1.png"),
        ("a+b%20c & d.png", "4fc09ad2-ab20c__d.png"),
    ],
)
def test_a_file_is_known_again_by_its_stored_name(name: str, stored: str) -> None:
    task = {"data": {"image": f"/data/upload/1/{stored}"}}
    assert uploaded_name(task) == label_studio_name(name)
    assert label_studio_name(unicodedata.normalize("NFC", name)) == label_studio_name(name)


class Uploads:
    """Label Studio's side of uploading; it fails after `batches` of them."""

    def __init__(self, batches: int = 1000) -> None:
        self.batches = batches
        self.names: list[str] = []

    def import_files(self, _: int, files: list[Path]) -> None:
        if self.batches == 0:
            raise LabelStudioUnreachableError("gone")
        self.batches -= 1
        self.names += [path.name for path in files]

    def tasks(self, _: int) -> Iterator[dict[str, Any]]:
        return iter([{"data": {"image": f"/data/upload/3/12345678-{label_studio_name(n)}"}} for n in self.names])


def session_with(tmp_path: Path, client: object, images: tuple[Path, ...], kept: KeptProject) -> Any:
    session: Any = DemoSession(options(tmp_path), DemoProgress(Console(quiet=True)))
    session.client, session.material = client, SimpleNamespace(images=images)
    session._record = DemoRecord(8080)
    session._keep(kept)
    return session


def photographs(folder: Path, count: int) -> tuple[Path, ...]:
    folder.mkdir()
    paths = tuple(folder / f"Prüfling {number}.png" for number in range(count))
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def test_an_interrupted_upload_goes_on_where_it_stopped(tmp_path: Path) -> None:
    images = photographs(tmp_path / "inbox", 45)
    client = Uploads(batches=1)
    with pytest.raises(LabelStudioUnreachableError):
        session_with(tmp_path, client, images, replace(PROJECT, uploaded=()))._upload()
    record = read_record(tmp_path)
    assert record is not None
    [kept] = record.projects
    assert [name for name, _ in kept.uploaded] == client.names
    client.batches = 1000
    session_with(tmp_path, client, images, kept)._upload()
    assert sorted(client.names) == sorted(path.name for path in images)


def test_what_label_studio_has_and_the_record_lacks_is_not_uploaded_again(tmp_path: Path) -> None:
    images = photographs(tmp_path / "inbox", 3)
    client = Uploads()
    client.names = [images[0].name]
    session = session_with(tmp_path, client, images, replace(PROJECT, uploaded=()))
    session._upload()
    assert client.names == [path.name for path in images]
    assert len(session.kept.uploaded) == 3


def test_names_that_label_studio_makes_one_are_both_uploaded(tmp_path: Path) -> None:
    [first] = photographs(tmp_path / "inbox", 1)
    second = first.with_name(label_studio_name(first.name))
    second.write_bytes(b"another photograph")
    client = Uploads()
    session = session_with(tmp_path, client, (first,), replace(PROJECT, uploaded=()))
    session._upload()
    session.material.images = (first, second)
    session._upload()
    assert client.names == [first.name, second.name]


def test_a_changed_photograph_under_a_known_name_is_uploaded(tmp_path: Path) -> None:
    images = photographs(tmp_path / "inbox", 2)
    client = Uploads()
    session = session_with(tmp_path, client, images, replace(PROJECT, uploaded=()))
    session._upload()
    images[1].write_bytes(b"another photograph")
    session._upload()
    assert client.names == [images[0].name, images[1].name, images[1].name]


def test_the_users_environment_is_none_of_the_demos_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECTION_DATABASE_URL", "postgresql://elsewhere/production")
    monkeypatch.setenv("INSPECTION_PASSWORD", "of another desk")
    (tmp_path / "key").write_text("the key\n")
    settings = DemoSettings(data_dir=tmp_path, label_studio_api_key_file=tmp_path / "key")
    assert settings.resolved_database_url == f"sqlite:///{tmp_path / 'inspection.db'}"
    assert settings.password is None
    assert settings.label_studio_api_key is not None
    assert settings.label_studio_api_key.get_secret_value() == "the key"


@pytest.mark.parametrize("dead", ["label studio", "desk"])
def test_a_child_that_ended_is_named_with_its_log(dead: str, tmp_path: Path) -> None:
    session: Any = DemoSession(options(tmp_path), DemoProgress(Console(quiet=True)))
    session.server = SimpleNamespace(is_running=dead != "label studio", log_file=tmp_path / "label studio.log")
    session._desk = SimpleNamespace(is_running=dead != "desk", log_file=tmp_path / "desk.log")
    with pytest.raises(DemoError, match=f"(?i){dead} ended") as ended:
        session.watch()
    assert str(tmp_path / f"{dead}.log") in str(ended.value)


def broken_session(error: Exception) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    client = SimpleNamespace(tasks=fail, project=fail, predictions=fail)
    return SimpleNamespace(
        client=client,
        project=SimpleNamespace(project_id=1, url="http://label-studio.example/projects/1/data"),
        server=SimpleNamespace(url="http://label-studio.example"),
        material=SimpleNamespace(truth={"1.png": "good"}),
        kept=PROJECT,
        model_version="strip",
        card=SimpleNamespace(metrics={}),
        timings={},
    )


@pytest.mark.parametrize(
    "error",
    [LabelStudioUnreachableError("gone"), DatabaseUnreachableError("away"), IndexError("none"), ValueError("x")],
)
def test_a_step_that_cannot_be_carried_out_is_a_failed_step(error: Exception) -> None:
    summary = json.loads(json.dumps(check.check_demo(broken_session(error))))
    assert summary["ok"] is False
    assert [step["ok"] for step in summary["steps"]] == [False] * 6
    assert all(str(error) in step["found"] for step in summary["steps"])


def test_nothing_to_accept_is_a_failed_step_with_its_reason() -> None:
    session = broken_session(ValueError())
    session.client = SimpleNamespace(tasks=lambda _: iter([{"id": 1, "predictions": []}]))
    assert check._review(session) == (False, "no task has a prediction of strip to accept")


def test_a_check_that_never_came_up_prints_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: DemoSession) -> None:
        raise DemoError("port 1 is taken")

    monkeypatch.setattr(DemoSession, "__enter__", broken)
    assert run(["demo", "--check"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out) == {"ok": False, "error": "port 1 is taken"}
    assert told.err == "error: port 1 is taken\n"


def test_serving_on_a_taken_port_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("INSPECTION_PORT", str(other.getsockname()[1]))
        assert run(["serve"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "INSPECTION_PORT" in line


@pytest.fixture
def legacy_off() -> Iterator[Callable[[str], LabelStudioServer]]:
    """A Label Studio that refuses legacy tokens and refreshes one personal access token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.end_headers()

        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            good = self.path == "/api/token/refresh/" and told == {"refresh": "good"}
            self.send_response(200 if good and "Authorization" not in self.headers else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing to say."""

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield lambda folder: LabelStudioServer(Path("label-studio"), Path(folder), port=http.server_port)
        http.shutdown()


@pytest.mark.parametrize(("token", "accepted"), [("good", True), ("bad", False), (None, False)])
def test_switched_off_legacy_tokens_do_not_end_the_demo(
    legacy_off: Callable[[str], LabelStudioServer], token: str | None, accepted: bool, tmp_path: Path
) -> None:
    server = legacy_off(str(tmp_path))
    credentials = LabelStudioCredentials("inspector@example.com", "password", "legacy", token)
    if accepted:
        assert server._log_in(credentials) == credentials
        return
    with pytest.raises(LabelStudioError, match="refuses the credentials"):
        server._log_in(credentials)
