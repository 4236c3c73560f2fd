from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from backend.demo import label_studio_template
from backend.demo.label_studio_server import (
    LABEL_STUDIO_VERSION,
    LabelStudioCredentials,
    LabelStudioError,
    LabelStudioServer,
    prepare_template,
)
from backend.demo.label_studio_template import DATABASE_NAME
from backend.demo.processes import PortInUseError, ProcessError, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
EXECUTABLE = ROOT / ".venv-label-studio" / "bin" / "label-studio"
LABEL_CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="c" toName="image"><Choice value="a"/></Choices></View>'
)

# A stand-in that behaves like the `label-studio` program in what the launcher relies on.
STAND_IN = """#!{python}
import json, os, sqlite3, sys
from pathlib import Path
base = Path(os.environ["LABEL_STUDIO_BASE_DATA_DIR"])
(base / "environment.json").write_text(json.dumps(dict(os.environ)))
mode = Path(__file__).with_name("mode").read_text()
if mode == "broken":
    sys.exit("OperationalError: database or disk is full")
connection = sqlite3.connect(base / "label_studio.sqlite3")
for table in ("django_migrations", "htx_user", "ml_mlbackend"):
    connection.execute(f"CREATE TABLE IF NOT EXISTS {{table}} (id)")
connection.commit()
(base / ".env").write_text("SECRET_KEY=never to be shared")
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    environment = tmp_path / "environment"
    site_packages = environment / "lib" / "python3.11" / "site-packages"
    (site_packages / "label_studio-1.23.2.dist-info").mkdir(parents=True)
    program = environment / "bin" / "label-studio"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    program.with_name("mode").write_text("works")
    return program


def test_a_template_is_made_once_and_holds_nothing_but_the_database(stand_in: Path, tmp_path: Path) -> None:
    template = prepare_template(stand_in, tmp_path / "cache")
    assert [path.name for path in template.iterdir()] == [DATABASE_NAME]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [template.name]
    assert LABEL_STUDIO_VERSION in template.name
    stand_in.with_name("mode").write_text("broken")
    assert prepare_template(stand_in, tmp_path / "cache") == template


def test_another_set_of_packages_gets_another_template(stand_in: Path, tmp_path: Path) -> None:
    first = prepare_template(stand_in, tmp_path / "cache")
    (stand_in.parent.parent / "lib" / "python3.11" / "site-packages" / "django-5.2.20.dist-info").mkdir()
    assert prepare_template(stand_in, tmp_path / "cache") != first


def test_a_failed_migration_says_why_and_leaves_nothing(stand_in: Path, tmp_path: Path) -> None:
    stand_in.with_name("mode").write_text("broken")
    with pytest.raises(LabelStudioError, match="database or disk is full"):
        prepare_template(stand_in, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_users_environment_does_not_leak_into_label_studio(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SECRET_KEY", "HOST", "PORT", "DEBUG", "HTTP_PROXY", "POSTGRE_HOST", "LABEL_STUDIO_PASSWORD"):
        monkeypatch.setenv(name, "from the user's shell")
    server = LabelStudioServer(stand_in, tmp_path / "data", port=free_port())
    with pytest.raises(ProcessError, match="ended with exit status 0"):
        server.start(timeout=30)
    seen = json.loads((tmp_path / "data" / "data" / "environment.json").read_text())
    assert "from the user's shell" not in seen.values()
    kept = json.loads((tmp_path / "data" / "administrator.json").read_text())
    assert seen["LABEL_STUDIO_PASSWORD"] == kept["password"]
    assert seen["ML_BLOCK_LOCAL_IP"] == seen["SSRF_PROTECTION_ENABLED"] == seen["COLLECT_ANALYTICS"] == "false"


def test_an_environment_without_label_studio_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabelStudioError, match="there is no Label Studio"):
        prepare_template(tmp_path / "bin" / "label-studio", tmp_path / "cache")
    with pytest.raises(LabelStudioError, match="there is no Label Studio"):
        LabelStudioServer(tmp_path / "bin" / "label-studio", tmp_path / "data", port=free_port()).start()


def test_a_full_disk_is_told_before_anything_is_written(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_studio_template, "REQUIRED_BYTES", 1 << 62)
    with pytest.raises(LabelStudioError, match="MB are free"):
        LabelStudioServer(stand_in, tmp_path / "data", port=free_port()).start()
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", '{"email": "a@b.c"}', '{"email": 1, "unknown": 2}', "\x00"])
def test_damaged_credentials_are_told_and_kept(stand_in: Path, tmp_path: Path, content: str) -> None:
    file = tmp_path / "data" / "administrator.json"
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(LabelStudioError, match="cannot be read; restore it"):
        LabelStudioServer(stand_in, tmp_path / "data", port=free_port()).start()
    assert file.read_text() == content


def test_data_without_its_credentials_is_never_overwritten(stand_in: Path, tmp_path: Path) -> None:
    database = tmp_path / "data" / "data" / DATABASE_NAME
    database.parent.mkdir(parents=True)
    database.write_bytes(b"years of work")
    template = prepare_template(stand_in, tmp_path / "cache")
    with pytest.raises(LabelStudioError, match="is missing"):
        LabelStudioServer(stand_in, tmp_path / "data", port=free_port(), template=template).start()
    assert database.read_bytes() == b"years of work"


def test_a_taken_port_is_told_at_once(stand_in: Path, tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"port {port} .* --label-studio-port"):
            LabelStudioServer(stand_in, tmp_path / "data", port=port).start()
    assert not (tmp_path / "data").exists()


def test_credentials_are_unknown_before_the_start_and_never_printed(stand_in: Path, tmp_path: Path) -> None:
    server = LabelStudioServer(stand_in, tmp_path / "data", port=free_port())
    with pytest.raises(LabelStudioError, match="not started"):
        _ = server.credentials
    credentials = LabelStudioCredentials("a@example.com", "secret-1", "secret-2", "secret-3")
    assert "secret" not in repr(credentials)


@pytest.fixture(scope="module")
def template() -> Path:
    if not EXECUTABLE.is_file():
        reason = "Label Studio is not installed: run `scripts/setup.sh label-studio`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    cache = Path(os.environ.get("INSPECTION_CACHE") or Path.home() / ".cache" / "inspection")
    return prepare_template(EXECUTABLE, cache)


@pytest.fixture(scope="module")
def installation(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    folder = tmp_path_factory.mktemp("label-studio")
    server = LabelStudioServer(EXECUTABLE, folder, port=free_port(), template=template)
    server.start()
    yield server
    server.stop()


def api(server: LabelStudioServer, authorization: str) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": authorization}, timeout=30)


def access_token(server: LabelStudioServer) -> str:
    answer = httpx.post(
        f"{server.url}/api/token/refresh/", json={"refresh": server.credentials.personal_access_token}, timeout=30
    )
    return str(answer.raise_for_status().json()["access"])


def group_members(group: int) -> list[str]:
    processes = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    return [
        line for line in processes.splitlines() if line.split()[0] == str(group) and not line.split()[1].startswith("Z")
    ]


@pytest.mark.e2e
def test_both_kinds_of_token_and_the_password_let_the_inspector_in(installation: LabelStudioServer) -> None:
    credentials = installation.credentials
    for authorization in (f"Token {credentials.legacy_token}", f"Bearer {access_token(installation)}"):
        with api(installation, authorization) as client:
            assert client.get("/api/current-user/whoami").json()["email"] == credentials.email
    with httpx.Client(base_url=installation.url, timeout=30) as browser:
        browser.get("/user/login/")
        form = {"csrfmiddlewaretoken": browser.cookies["csrftoken"], "email": credentials.email}
        answer = browser.post("/user/login/", data={**form, "password": credentials.password})
        assert answer.status_code == httpx.codes.FOUND
        assert browser.get("/api/current-user/whoami").json()["email"] == credentials.email
        refused = httpx.post(f"{installation.url}/api/projects/", json={"title": "without credentials"}, timeout=30)
        assert refused.status_code == httpx.codes.UNAUTHORIZED


@pytest.mark.e2e
def test_what_is_secret_is_readable_by_its_owner_only(installation: LabelStudioServer) -> None:
    for file in ("administrator.json", "label-studio.log", "data/.env"):
        assert (installation.data_dir / file).stat().st_mode & 0o077 == 0, file
    assert (installation.data_dir / "data").stat().st_mode & 0o077 == 0
    log = installation.log_file.read_text()
    assert installation.credentials.password not in log
    assert installation.credentials.legacy_token not in log
    arguments = subprocess.run(
        ["ps", "-o", "args=", "-p", str(installation.pid)], capture_output=True, text=True, check=True
    ).stdout
    assert installation.credentials.password not in arguments


@pytest.mark.e2e
def test_installations_from_one_template_share_no_secret(
    installation: LabelStudioServer, template: Path, tmp_path: Path
) -> None:
    with LabelStudioServer(EXECUTABLE, tmp_path, port=free_port(), template=template) as other:
        assert (tmp_path / "data/.env").read_text() != (installation.data_dir / "data/.env").read_text()
        assert other.credentials.password != installation.credentials.password
        with api(installation, f"Bearer {access_token(other)}") as client:
            assert client.get("/api/current-user/whoami").status_code == httpx.codes.UNAUTHORIZED
    with closing(sqlite3.connect(template / DATABASE_NAME)) as database:
        for table in ("htx_user", "organization", "authtoken_token"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


@pytest.mark.e2e
def test_a_backend_on_loopback_may_be_connected(installation: LabelStudioServer) -> None:
    with api(installation, f"Token {installation.credentials.legacy_token}") as client:
        project = client.post("/api/projects/", json={"title": "loopback", "label_config": LABEL_CONFIG}).json()["id"]
        webhook = client.post("/api/webhooks/", json={"url": "http://127.0.0.1:9/hook", "project": project})
        assert webhook.status_code == httpx.codes.CREATED, webhook.text
        backend = client.post("/api/ml/", json={"url": "http://127.0.0.1:9", "project": project, "title": "absent"})
        assert "reserved network" not in backend.text


@pytest.mark.e2e
def test_a_restart_keeps_everything_and_a_stop_leaves_nothing(installation: LabelStudioServer) -> None:
    before = installation.credentials
    with api(installation, f"Token {before.legacy_token}") as client:
        made = client.post("/api/projects/", json={"title": "kept over the restart"}).raise_for_status().json()["id"]
    group = installation.pid
    assert group is not None
    assert group_members(group)
    installation.stop()
    assert not installation.is_running
    assert group_members(group) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{installation.url}/health", timeout=2)

    installation.start()
    assert installation.credentials == before
    with api(installation, f"Bearer {access_token(installation)}") as client:
        assert client.get(f"/api/projects/{made}/").json()["title"] == "kept over the restart"


@pytest.mark.e2e
def test_a_lost_personal_access_token_is_replaced(installation: LabelStudioServer) -> None:
    lost = installation.credentials.personal_access_token
    installation.stop()
    file = installation.data_dir / "administrator.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "personal_access_token": None}))
    installation.start()
    assert installation.credentials.personal_access_token not in (None, lost)
    assert access_token(installation)
    refused = httpx.post(f"{installation.url}/api/token/refresh/", json={"refresh": lost}, timeout=30)
    assert refused.status_code == httpx.codes.UNAUTHORIZED


@pytest.mark.e2e
def test_foreign_credentials_are_refused_in_words_and_the_server_is_stopped(installation: LabelStudioServer) -> None:
    installation.stop()
    file = installation.data_dir / "administrator.json"
    kept = file.read_text()
    foreign = {"legacy_token": "0" * 40, "personal_access_token": "a.b.c"}
    file.write_text(json.dumps({**json.loads(kept), **foreign}))
    with pytest.raises(LabelStudioError, match="refuses the credentials"):
        installation.start()
    assert not installation.is_running
    file.write_text(kept)
    installation.start()
