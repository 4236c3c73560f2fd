"""`inspection demo` as its user runs it: a process of its own, watched and stopped from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.demo.label_studio_server import LabelStudioCredentials
from backend.demo.processes import port_in_use
from db.engine import Database

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class DemoPlace:
    """Where a demo lives: its folder and ports."""

    directory: Path
    label_studio_port: int
    backend_port: int

    @property
    def arguments(self) -> list[str]:
        return [
            "--directory", str(self.directory),
            "--label-studio", str(ROOT / ".venv-label-studio" / "bin" / "label-studio"),
            "--label-studio-port", str(self.label_studio_port),
            "--backend-port", str(self.backend_port),
        ]  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.label_studio_port}"

    @property
    def credentials(self) -> LabelStudioCredentials:
        kept = json.loads((self.directory / "label-studio" / "administrator.json").read_text())
        return LabelStudioCredentials(**kept)

    @property
    def project(self) -> int:
        return int(json.loads((self.directory / "demo.json").read_text())["projects"][0]["project_id"])

    def database(self) -> Database:
        return Database(f"sqlite:///{self.directory / 'desk' / 'inspection.db'}")


def run_demo(place: DemoPlace, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    command = [sys.executable, "-m", "backend.cli", "demo", *place.arguments, *options]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)


@dataclass(frozen=True)
class StandingDemo:
    """A demo that stands, and what it has printed."""

    process: subprocess.Popen[str]
    lines: tuple[str, ...]


@contextmanager
def standing_demo(place: DemoPlace) -> Iterator[StandingDemo]:
    """The demo while it stands, stopped with Ctrl-C at the end."""
    command = [sys.executable, "-m", "backend.cli", "demo", *place.arguments]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stderr=subprocess.PIPE, start_new_session=True)
    try:
        lines = []
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if "Ctrl-C stops everything" in line:
                break
        else:
            raise AssertionError("the demo ended before it stood:\n" + "".join(lines))
        yield StandingDemo(process, tuple(lines))
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
        process.wait(timeout=60)


def ports_are_free(place: DemoPlace, seconds: float = 10.0) -> bool:
    """Whether nothing listens any more on the demo's ports."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not (port_in_use(place.label_studio_port) or port_in_use(place.backend_port)):
            return True
        time.sleep(0.2)
    return False


def summary_of(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON that `--check` printed."""
    assert finished.stdout, finished.stderr
    return dict(json.loads(finished.stdout))
