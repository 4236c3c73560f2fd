"""Build the virtual environments of this checkout side by side: the product's and Label Studio's.

Standard library only, for it runs before anything is installed. Each environment carries a stamp, written last, with a
hash of all that it was built from: a matching stamp means there is nothing to do, a missing one that a build was cut
short and has to begin anew. With INSPECTION_CACHE set, environments live in that folder under their hash, and the
checkout holds links to them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from environments import (
    ENVIRONMENTS,
    ROOT,
    STAMP,
    Environment,
    SetupError,
    Step,
    home_of,
    is_complete,
    is_updatable,
    link_to,
    prune,
    require_space,
    unlink,
    write_stamp,
)
from pip_output import activity, explain, tail_of

if TYPE_CHECKING:
    from collections.abc import Iterator

HEARTBEAT_SECONDS = 15.0
SUPPORTED = ((3, 10), (3, 13))
# These would lead a virtual environment's Python to packages outside it.
FOREIGN_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")


class Reporter:
    """Prints one line at a time, each with the seconds since the set-up began."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def say(self, name: str, text: str) -> None:
        """Print what `name` is at."""
        with self._lock:
            print(f"[{time.monotonic() - self._started:4.0f} s] {name}: {text}", flush=True)  # noqa: T201


class Build(threading.Thread):
    """Builds one environment; `failure` tells why it is not `finished`."""

    def __init__(self, environment: Environment, log_dir: Path, reporter: Reporter) -> None:
        super().__init__(name=environment.name, daemon=True)
        self.environment = environment
        self.home = home_of(environment)
        self.log_file = log_dir / f"{environment.name}.log"
        self.finished = False
        self.failure = "stopped"
        self._reporter = reporter
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        """Build, and keep the reason where that fails."""
        try:
            self._build()
            self.finished = True
        except SetupError as error:
            self.failure = str(error)
        except OSError as error:
            self.failure = f"{error.strerror or error} ({error.filename or self.home})"

    def stop(self) -> None:
        """End the command that is running, and start no other."""
        self._stopped.set()
        child = self._child
        if child is not None and child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)

    def attach(self) -> None:
        """Point an environment that lives in a cache at this checkout."""
        (self.home / STAMP).touch()
        link_to(self.environment, self.home)
        if self.environment.attach is not None:
            with self.log_file.open("ab") as log:
                self._run_step(self.environment.attach, log, str(self.home / "bin" / "python"))

    def _build(self) -> None:
        require_space(self.home, self.environment.megabytes)
        with self.log_file.open("wb") as log:
            if is_updatable(self.home) and self._update(log):
                return
            self._create(log)

    def _update(self, log: IO[bytes]) -> bool:
        """Install over a finished older build; False where the outcome does not hold together."""
        self._reporter.say(self.name, f"bringing {self.environment.folder} up to date (log: {self._log_name})")
        (self.home / STAMP).unlink()
        self._run_steps(self.environment.steps, log)
        try:
            self._run_steps(self.environment.proofs, log)
        except SetupError:
            if self._stopped.is_set():
                raise
            self._reporter.say(self.name, "the update does not hold together; beginning anew")
            return False
        write_stamp(self.environment, self.home)
        self._reporter.say(self.name, "ready")
        return True

    def _create(self, log: IO[bytes]) -> None:
        if self.home == self.environment.link:
            unlink(self.environment)
        version = platform.python_version()
        self._reporter.say(
            self.name, f"creating {self.environment.folder} with Python {version} (log: {self._log_name})"
        )
        self._run_step(Step("", ("-m", "venv", "--clear", str(self.home))), log, sys.executable)
        self._run_steps((*self.environment.steps, *self.environment.proofs), log)
        write_stamp(self.environment, self.home)
        self._reporter.say(self.name, "ready")

    def _run_steps(self, steps: tuple[Step, ...], log: IO[bytes]) -> None:
        for step in steps:
            self._reporter.say(self.name, step.title)
            self._run_step(step, log, str(self.home / "bin" / "python"))

    def _run_step(self, step: Step, log: IO[bytes], python: str) -> None:
        """Run one command to its end, with a line on what it is doing every so often.

        Raises:
            SetupError: it failed or was stopped.
        """
        if self._stopped.is_set():
            raise SetupError("stopped")
        start = log.tell()
        self._child = subprocess.Popen(
            [python, *step.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=_environment_variables(),
            start_new_session=True,
        )
        spoken, last_beat = "", time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=0.5)
                break
            if time.monotonic() - last_beat >= HEARTBEAT_SECONDS:
                last_beat = time.monotonic()
                doing = activity(tail_of(self.log_file, start))
                self._reporter.say(self.name, f"still {doing}" if doing == spoken else doing)
                spoken = doing
        if self._stopped.is_set():
            raise SetupError("stopped")
        if self._child.returncode != 0:
            raise SetupError(f"{explain(tail_of(self.log_file, start), self.home)} (log: {self._log_name})")

    @property
    def _log_name(self) -> Path:
        return self.log_file.relative_to(ROOT)


def _environment_variables() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
    return {**kept, "PIP_PROGRESS_BAR": "off", "PIP_RETRIES": "3", "PYTHONUNBUFFERED": "1"}


def require_python() -> None:
    """Make sure that this Python can build the environments.

    Raises:
        SetupError: too old, too new, or without `venv`.
    """
    oldest, newest = SUPPORTED
    if not oldest <= sys.version_info[:2] <= newest:
        raise SetupError(
            f"Python {platform.python_version()} cannot be used, {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]} "
            "can; name one with PYTHON=/path/to/python3.11"
        )
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise SetupError(explain("No module named ensurepip", ROOT))


@contextlib.contextmanager
def only_one(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Hold the lock that keeps two set-ups from building in one folder at a time."""
    with (folder / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reporter.say("setup", "another set-up is at work; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_all(environments: list[Environment], log_dir: Path, reporter: Reporter) -> None:
    """Build side by side what is not complete, then let the checkout use it all.

    Raises:
        SetupError: a build failed; the others were stopped.
    """
    builds = [Build(environment, log_dir, reporter) for environment in environments]
    missing = [build for build in builds if not is_complete(build.environment, build.home)]
    for build in missing:
        build.start()
    try:
        while any(build.is_alive() for build in missing):
            for build in missing:
                build.join(timeout=0.2)
            if any(not build.finished and not build.is_alive() for build in missing):
                break
    finally:
        if not all(build.finished for build in missing):
            for build in missing:
                build.stop()
        for build in missing:
            build.join(timeout=10)
    unfinished = [build for build in missing if not build.finished]
    if unfinished:
        # The first to fail is the cause; the others only say that they were stopped for it.
        cause = next((build for build in unfinished if build.failure != "stopped"), unfinished[0])
        raise SetupError(f"{cause.name}: {cause.failure}")
    for build in builds:
        if build.home != build.environment.link:
            build.attach()


def set_up(environments: list[Environment], reporter: Reporter) -> None:
    """Have all `environments` ready in this checkout.

    Raises:
        SetupError: one cannot be built.
        OSError: the checkout or the cache cannot be written.
    """
    require_python()
    log_dir = ROOT / ".inspection" / "setup"
    log_dir.mkdir(parents=True, exist_ok=True)
    cache = os.environ.get("INSPECTION_CACHE")
    shared = Path(cache).expanduser().resolve() if cache else log_dir
    shared.mkdir(parents=True, exist_ok=True)
    with only_one(shared, reporter):
        build_all(environments, log_dir, reporter)
        if cache:
            prune(shared, {home_of(environment) for environment in environments})


def main(arguments: list[str] | None = None) -> int:
    """Build the named environments; 0 when all are ready, 1 when one is not, 130 when interrupted."""
    names = [environment.name for environment in ENVIRONMENTS]
    parser = argparse.ArgumentParser(description="Build this checkout's virtual environments.")
    parser.add_argument("names", nargs="*", choices=[*names, "all"], default="all", help="which to build")
    named = parser.parse_args(arguments).names
    chosen = names if "all" in named else named
    # A shell that starts this in the background hands it an ignored SIGINT, which Python would leave ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        set_up([environment for environment in ENVIRONMENTS if environment.name in chosen], Reporter())
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except OSError as error:
        print(f"setup: {error.strerror or error} ({error.filename or ROOT})", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("setup: stopped; run it again to start over", file=sys.stderr)  # noqa: T201
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
