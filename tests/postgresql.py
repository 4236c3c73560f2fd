"""A PostgreSQL server of one's own: in a temporary folder, on a unix socket, gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psycopg

_PORT = 5432
_FAST = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"


@dataclass(frozen=True)
class Server:
    """A running server whose superuser needs no password."""

    binaries: Path
    folder: Path

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}&port={_PORT}"

    def new_database(self, template: str = "template1") -> str:
        """The URL of a fresh database."""
        name = f"t_{uuid.uuid4().hex}"
        # Copying files is twice as fast as the other way, and the only one before PostgreSQL 15.
        how = "STRATEGY FILE_COPY" if self._administrator.info.server_version >= 150_000 else ""
        self.sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {how}')
        return self.url(name)

    def drop(self, url: str) -> None:
        self.sql(f'DROP DATABASE "{database_name(url)}" WITH (FORCE)')

    def empty(self, url: str) -> None:
        """Remove all rows, past the triggers that deny it."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            connection.execute("; ".join(f'DELETE FROM "{name}"' for (name,) in tables if name != "alembic_version"))

    def sql(self, statement: str) -> None:
        self._administrator.execute(statement)

    def stop(self) -> None:
        _run_as_owner([self.binaries / "pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop"])

    def start(self) -> None:
        options = f"-c listen_addresses='' -k {self.folder} -p {_PORT} {_FAST}"
        control = [self.binaries / "pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log"]
        _run_as_owner([*control, "-w", "-t", "60", "-o", options, "start"])

    @cached_property
    def _administrator(self) -> psycopg.Connection:
        return psycopg.connect(self.url(), autocommit=True)


def database_name(url: str) -> str:
    return url.split("@/", 1)[1].split("?", 1)[0]


def find_binaries() -> Path | None:
    """The folder of the newest PostgreSQL on this machine."""
    on_path = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
    candidates = [*([Path(on_path).resolve().parent] if on_path else []), *reversed(folders)]
    return next((folder for folder in candidates if (folder / "initdb").exists()), None)


@contextmanager
def running_server(binaries: Path) -> Iterator[Server]:
    # A socket's path is limited to about 100 bytes: straight under the temporary folder, not in pytest's deep one.
    folder = Path(tempfile.mkdtemp(prefix="pg.", dir="/tmp"))
    server = Server(binaries, folder)
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        initdb = [binaries / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust"]
        _run_as_owner([*initdb, "-E", "UTF8", "--locale=C", "--no-sync"])
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_as_owner(command: list[str | Path]) -> None:
    # PostgreSQL refuses to run as root.
    owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    done = subprocess.run(
        [str(word) for word in command],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if command[-1] != "start" else subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **owner,
    )
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}: {done.stdout or ''}")
