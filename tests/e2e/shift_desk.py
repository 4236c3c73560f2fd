"""The desk of a shift: started, killed with everything in hand, and asked all the while what Label Studio asks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from backend.demo.processes import ManagedProcess
from tests.e2e.test_desk import HEALTH_SECONDS, ROOT, SETUP_SECONDS, DeskPlace

_EVERY_SECONDS = 0.3


@dataclass
class ShiftDesk:
    """A desk at its place. `is_up` while it is meant to answer."""

    place: DeskPlace
    is_up: bool = False
    _process: ManagedProcess | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        return Path(self.place.environment["INSPECTION_DATA_DIR"])

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self._process = ManagedProcess(
            "desk",
            [sys.executable, "-m", "backend.cli", "serve"],
            log_file=self.folder / "desk.log",
            environment=self.place.environment,
            working_directory=ROOT,
        )
        self._process.start()
        self._process.wait_until_healthy(f"{self.place.url}/readyz", timeout=120)
        self.is_up = True

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        self.is_up = False
        assert self._process is not None
        os.kill(int(str(self._process.pid)), signal.SIGKILL)
        self._process.stop()

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """A command of the operator's that goes on beside the rest."""
        command = [sys.executable, "-m", "backend.cli", *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.place.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def basic(self) -> tuple[str, str]:
        """The first of the desk's credentials, as they are now."""
        kept = json.loads((self.folder / "credentials.json").read_text())
        return "inspection", str(kept["password"]).splitlines()[0]


@dataclass
class Watch:
    """What Label Studio would have met: answers of /health and /setup, and those that did not come in its patience."""

    answered: int = 0
    missed: list[str] = field(default_factory=list)


@contextmanager
def watched(desk: ShiftDesk, project: int, label_config: str) -> Iterator[Watch]:
    """Ask /health and /setup again and again, as long as the desk is meant to be up."""
    watch, stop = Watch(), threading.Event()

    def ask() -> None:
        body = {"project": f"{project}.1", "schema": label_config}
        with httpx.Client(base_url=desk.place.url, trust_env=False) as http:
            while not stop.wait(_EVERY_SECONDS):
                for path, patience in (("/health", HEALTH_SECONDS), ("/setup", SETUP_SECONDS)):
                    if not desk.is_up:
                        continue
                    began = time.monotonic()
                    try:
                        if path == "/health":
                            answer = http.get(path, timeout=patience)
                        else:
                            answer = http.post(path, json=body, auth=desk.basic(), timeout=patience)
                        answer.raise_for_status()
                        watch.answered += 1
                    except httpx.HTTPError as error:
                        # Killed while it answered.
                        if desk.is_up:
                            watch.missed.append(f"{path} after {time.monotonic() - began:.1f} s: {error!r}")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()
