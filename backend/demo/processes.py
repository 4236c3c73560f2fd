"""Child processes that are seen to be healthy, leave no orphan, and say why they ended."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

POLL_SECONDS = 0.2
TAIL_LINES = 12
PR_SET_PDEATHSIG = 1


class ProcessError(RuntimeError):
    """A child process could not be started, ended early, or never became healthy."""


class PortInUseError(ProcessError):
    """A port that is needed belongs to another program."""


def port_in_use(port: int, host: str = "127.0.0.1") -> bool:
    """Whether another program listens on `host`:`port`.

    Raises:
        OSError: the address cannot be used for another reason (not this machine's, or no permission).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # A port still in TIME_WAIT after a restart is free; servers bind with the same option.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


def require_free_port(port: int, option: str, host: str = "127.0.0.1") -> None:
    """Raise unless `host`:`port` is free; `option` is what the user gives to choose another port.

    Raises:
        PortInUseError: one line that names the port and the option.
    """
    try:
        taken = port_in_use(port, host)
    except OSError as error:
        raise PortInUseError(
            f"port {port} on {host} cannot be used ({error.strerror}); choose another with {option}"
        ) from error
    if taken:
        raise PortInUseError(
            f"port {port} on {host} is taken by another program; stop that one or choose another port with {option}"
        )


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class ManagedProcess:
    """One child with a log file, in a session of its own, so that its whole process group can be stopped.

    On Linux the child is also ended by the kernel when the thread that started it ends, even by SIGKILL: start it from
    a thread that lives as long as the child should.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log_file: Path,
        environment: Mapping[str, str] | None = None,
        working_directory: Path | None = None,
    ) -> None:
        self.name = name
        self.command = tuple(str(part) for part in command)
        self.log_file = log_file
        self._environment = dict(environment) if environment is not None else None
        self._working_directory = working_directory
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Process id, also that of its group; None while nothing is running."""
        return self._process.pid if self._process is not None else None

    @property
    def is_running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """What the child ended with, negative for a signal's number; None while it runs, and where it was stopped."""
        return self._process.poll() if self._process is not None else None

    def start(self) -> None:
        """Start the child; its output is appended to the log file, which only its owner may read.

        Raises:
            ProcessError: it is running already, or the program or the log file cannot be opened.
        """
        if self.is_running:
            raise ProcessError(f"{self.name} is running already")
        try:
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise ProcessError(f"cannot write {self.name}'s log {self.log_file} ({error.strerror})") from error
        with os.fdopen(descriptor, "ab") as log:
            self._log_start = os.fstat(log.fileno()).st_size
            try:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    cwd=self._working_directory,
                    start_new_session=True,
                    preexec_fn=_die_with_parent_hook(),  # noqa: PLW1509  (one prepared system call, no lock)
                )
            except OSError as error:
                raise ProcessError(f"cannot start {self.name}: {self.command[0]} ({error.strerror})") from error

    def wait_until_healthy(self, url: str, *, timeout: float, progress: Callable[[float], None] | None = None) -> float:
        """Wait until GET `url` answers 200, and return the seconds that took; `progress` hears the seconds so far.

        Raises:
            ProcessError: the child ended, with the end of its log; or `timeout` seconds passed.
        """
        started = time.monotonic()
        with httpx.Client(timeout=2.0, trust_env=False) as client:
            while True:
                elapsed = time.monotonic() - started
                if not self.is_running:
                    raise ProcessError(
                        f"{self.name} {self._ending()}. Its log {self.log_file} ends:\n{self.log_tail()}"
                    )
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(url).status_code == httpx.codes.OK:
                        return time.monotonic() - started
                if elapsed > timeout:
                    raise ProcessError(
                        f"{self.name} did not answer at {url} within {timeout:.0f} s; see its log {self.log_file}"
                    )
                if progress is not None:
                    progress(elapsed)
                time.sleep(POLL_SECONDS)

    def stop(self, grace: float = 10.0) -> None:
        """End the child's whole group: SIGTERM, and SIGKILL for what is left after `grace` seconds. Safe to repeat."""
        process, self._process = self._process, None
        if process is None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline:
            # poll() also reaps the child: a dead child that nobody has waited for still counts as a group member.
            if process.poll() is not None and not _signal_group(process.pid, 0):
                return
            time.sleep(0.05)
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        """The last `lines` lines that this run of the child wrote."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(self._log_start)
                text = log.read().decode("utf-8", errors="replace")
        except OSError as error:
            return f"(the log cannot be read: {error.strerror})"
        return "\n".join(text.rstrip().splitlines()[-lines:]) or "(the log is empty)"

    def _ending(self) -> str:
        status = self._process.returncode if self._process is not None else None
        if status is None:
            return "is not running"
        if status < 0:
            return f"was ended by {signal.Signals(-status).name}"
        return f"ended with exit status {status}"


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; False where no such group is left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # macOS answers so for a group whose only members are dead and not yet waited for.
        return False
    return True


def _die_with_parent_hook() -> Callable[[], None] | None:
    """What a Linux child runs before its program: have the kernel end it with its parent. None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    # Looked up here: between fork and exec nothing may be loaded or locked.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def die_with_parent() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return die_with_parent
