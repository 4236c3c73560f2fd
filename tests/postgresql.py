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
from pathlib import Path

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
        self.sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop(self, url: str) -> None:
        name = url.split("@/", 1)[1].split("?", 1)[0]
        self.sql(f'DROP DATABASE "{name}" WITH (FORCE)')

    def sql(self, statement: str) -> None:
        _run_as_owner([self.binaries / "psql", *self._login(), "-qAtc", statement])

    def stop(self) -> None:
        _run_as_owner([self.binaries / "pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop"])

    def start(self) -> None:
        options = f"-c listen_addresses='' -k {self.folder} -p {_PORT} {_FAST}"
        control = [self.binaries / "pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log"]
        _run_as_owner([*control, "-w", "-t", "60", "-o", options, "start"])

    def _login(self) -> list[str]:
        return ["-h", str(self.folder), "-p", str(_PORT), "-U", "postgres", "-v", "ON_ERROR_STOP=1"]


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
