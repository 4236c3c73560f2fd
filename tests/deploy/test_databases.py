"""compose.yaml's database script and Label Studio's variables, tried on a real PostgreSQL and the real Label Studio."""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest

from backend.demo.processes import ManagedProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
EXECUTABLE = ROOT / ".venv-label-studio" / "bin" / "label-studio"
PASSWORDS = {"label_studio": 'it\'s a "password" with $1 and \\', "inspection": "another: %s"}
RESERVED = """
import inspect, re
from label_studio.core.utils import io
print(*re.findall(r"'([0-9a-f:.]+/[0-9]+)'", inspect.getsource(io.validate_ip)))
"""


def missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def postgresql_program(name: str) -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    on_path = shutil.which(name)
    if not found and on_path is None:
        missing("PostgreSQL is not installed: `make test` says how to get it")
    return found[-1] if found else Path(str(on_path))


@contextmanager
def cluster() -> Iterator[tuple[Path, int]]:
    """An empty PostgreSQL, passwords asked for over TCP only: the folder of its socket, and its port."""
    account: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    # Not below pytest's folder: a socket's path must be short, and PostgreSQL's account must be able to enter.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    port = free_port()
    control = postgresql_program("pg_ctl")
    options = f"-c listen_addresses=127.0.0.1 -k {folder} -p {port} -c fsync=off"
    try:
        if account:
            shutil.chown(folder, "postgres", "postgres")
        subprocess.run(
            [
                postgresql_program("initdb"), "-D", folder / "data", "-U", "postgres", "--encoding=UTF8",
                "--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync",
            ],
            check=True, capture_output=True, cwd="/", **account,
        )  # fmt: skip
        start = [control, "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **account)
        try:
            yield folder, port
        finally:
            stop = [control, "-D", folder / "data", "-m", "immediate", "stop"]
            subprocess.run(stop, check=True, capture_output=True, cwd="/", **account)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a PostgreSQL in which deploy/postgres/10-databases.sh has run."""
    secrets = tmp_path_factory.mktemp("secrets")
    for name, password in PASSWORDS.items():
        (secrets / name).write_text(password)
    with cluster() as (socket_folder, port):
        search_path = f"{postgresql_program('psql').parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(
            ["bash", str(ROOT / "deploy" / "postgres" / "10-databases.sh")],
            env={
                "PATH": search_path, "PGHOST": str(socket_folder), "PGPORT": str(port),
                "LABEL_STUDIO_DATABASE_PASSWORD_FILE": str(secrets / "label_studio"),
                "DESK_DATABASE_PASSWORD_FILE": str(secrets / "inspection"),
            },
            check=True,
        )  # fmt: skip
        yield port


def connect(port: int, user: str, database: str, password: str) -> psycopg.Connection[Any]:
    return psycopg.connect(host="127.0.0.1", port=port, user=user, dbname=database, password=password)


@pytest.mark.slow
def test_each_owner_has_its_own_database_and_no_other(databases: int) -> None:
    for owner, password in PASSWORDS.items():
        with connect(databases, owner, owner, password) as connection:
            connection.execute("CREATE TABLE mine (id integer)")
            row = connection.execute("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = user").fetchone()
            assert row == (False,)
            connection.rollback()
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            connect(databases, owner, owner, "wrong")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        connect(databases, "label_studio", "inspection", PASSWORDS["label_studio"])


@pytest.mark.e2e
def test_label_studio_may_call_the_desk_and_no_other_reserved_address(compose: dict[str, Any]) -> None:
    if not EXECUTABLE.is_file():
        missing("Label Studio is not installed: run `scripts/setup.sh label-studio`")
    services = compose["services"]
    reserved = subprocess.run(
        [EXECUTABLE.parent / "python", "-c", RESERVED], capture_output=True, text=True, check=True
    ).stdout.split()
    desk = ipaddress.ip_network(services["backend"]["networks"]["desk"]["ipv4_address"])
    assert desk.subnet_of(ipaddress.ip_network(compose["networks"]["desk"]["ipam"]["config"][0]["subnet"]))
    expected: set[Any] = set()
    for network in map(ipaddress.ip_network, reserved):
        expected |= (
            set(network.address_exclude(desk)) if network.version == 4 and network.supernet_of(desk) else {network}
        )
    banned = services["label-studio"]["environment"]["USER_ADDITIONAL_BANNED_SUBNETS"].split(",")
    assert {ipaddress.ip_network(network) for network in banned} == expected
    assert len(reserved) > 25


@pytest.mark.e2e
def test_label_studio_comes_up_on_postgresql_with_these_variables(
    compose: dict[str, Any], databases: int, tmp_path: Path
) -> None:
    if not EXECUTABLE.is_file():
        missing("Label Studio is not installed: run `scripts/setup.sh label-studio`")
    port, token = free_port(), "0123456789abcdef" * 2 + "01234567"
    service = compose["services"]["label-studio"]["environment"]
    environment = {
        **{name: value for name, value in service.items() if "${" not in value},
        "PATH": os.environ["PATH"],
        "POSTGRE_HOST": "127.0.0.1",
        "POSTGRE_PORT": str(databases),
        "POSTGRE_PASSWORD": PASSWORDS["label_studio"],
        "LABEL_STUDIO_USERNAME": "inspector@example.com",
        "LABEL_STUDIO_PASSWORD": "a long password",
        "LABEL_STUDIO_USER_TOKEN": token,
        "SECRET_KEY": "a key that is shared by all processes",
        "LABEL_STUDIO_BASE_DATA_DIR": str(tmp_path / "data"),
    }
    # What the image does before it serves.
    subprocess.run([EXECUTABLE, "init"], env=environment, cwd=tmp_path, check=True, stdin=subprocess.DEVNULL)
    start = [EXECUTABLE, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    with ManagedProcess(
        "Label Studio", start, log_file=tmp_path / "log", environment=environment, working_directory=tmp_path
    ) as server:
        server.wait_until_healthy(f"http://127.0.0.1:{port}/health", timeout=300)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Token {token}"}, timeout=30
        ) as client:
            assert client.get("/api/current-user/whoami").json()["email"] == "inspector@example.com"
            made = client.post("/api/projects/", json={"title": "on PostgreSQL"})
            project = made.raise_for_status().json()["id"]
            for address, status in (
                ("172.30.90.10:9090", httpx.codes.CREATED),
                ("172.30.90.11:9090", httpx.codes.FORBIDDEN),
                ("127.0.0.1:9090", httpx.codes.FORBIDDEN),
                ("169.254.169.254", httpx.codes.FORBIDDEN),
            ):
                answer = client.post("/api/webhooks/", json={"url": f"http://{address}/hook", "project": project})
                assert answer.status_code == status, (address, answer.text)
            refused = client.post("/api/ml/", json={"url": "http://127.0.0.1:9090", "project": project, "title": "no"})
            assert "reserved network" in refused.text
