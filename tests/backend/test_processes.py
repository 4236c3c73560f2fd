from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backend.demo.processes import (
    ManagedProcess,
    PortInUseError,
    ProcessError,
    free_port,
    port_in_use,
    require_free_port,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SERVER = """
import http.server, sys, time
time.sleep(float(sys.argv[2]))
class Handler(http.server.BaseHTTPRequestHandler):
    answers = 0
    def do_GET(self):
        Handler.answers += 1
        self.send_response(503 if Handler.answers < 3 else 200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c",
    "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def eventually(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def alive(pid: int) -> bool:
    """Whether a process runs: one that is dead and only waits to be reaped does not."""
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(status.strip()) and not status.strip().startswith("Z")


def python(tmp_path: Path, code: str, *arguments: object) -> ManagedProcess:
    return ManagedProcess(
        "the child", [sys.executable, "-c", code, *map(str, arguments)], log_file=tmp_path / "logs" / "child.log"
    )


def test_health_is_awaited_until_the_answer_is_200(tmp_path: Path) -> None:
    port = free_port()
    heard: list[float] = []
    with python(tmp_path, SERVER, port, 0.3) as child:
        seconds = child.wait_until_healthy(f"http://127.0.0.1:{port}/", timeout=30, progress=heard.append)
        assert child.is_running
        assert port_in_use(port)
    assert seconds >= 0.3
    assert heard == sorted(heard)
    assert heard
    assert not child.is_running
    assert not port_in_use(port)


def test_an_early_end_is_told_with_its_status_and_this_runs_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "child.log"
    log.parent.mkdir()
    log.write_text("from an earlier run\n")
    child = python(tmp_path, "import sys; print('the database is locked'); sys.exit(7)")
    child.start()
    with pytest.raises(ProcessError, match="the child ended with exit status 7") as error:
        child.wait_until_healthy(f"http://127.0.0.1:{free_port()}/", timeout=30)
    assert "the database is locked" in str(error.value)
    assert "earlier run" not in str(error.value)
    assert log.read_text().startswith("from an earlier run\n")


def test_a_signal_is_named(tmp_path: Path) -> None:
    child = python(tmp_path, "import os; os.abort()")
    child.start()
    with pytest.raises(ProcessError, match="was ended by SIGABRT"):
        child.wait_until_healthy(f"http://127.0.0.1:{free_port()}/", timeout=30)


def test_a_child_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with (
        python(tmp_path, "import time; time.sleep(600)") as child,
        pytest.raises(ProcessError, match=r"did not answer at http://127\.0\.0\.1"),
    ):
        child.wait_until_healthy(f"http://127.0.0.1:{free_port()}/", timeout=0.5)


def test_stop_ends_the_whole_group_even_if_it_ignores_the_polite_signal(tmp_path: Path) -> None:
    child = python(tmp_path, STUBBORN)
    child.start()
    assert eventually(lambda: "ready" in child.log_tail())
    grandchild = int(next(line for line in child.log_tail().splitlines() if line.isdigit()))
    leader = child.pid
    assert leader is not None
    assert alive(grandchild)
    child.stop(grace=0.3)
    assert not alive(leader)
    assert eventually(lambda: not alive(grandchild))
    child.stop()


@pytest.mark.slow
def test_stop_reaches_what_a_dead_leader_left_behind(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True)"
    )
    child = python(tmp_path, code)
    child.start()
    assert eventually(lambda: not child.is_running)
    orphan = int(child.log_tail())
    assert alive(orphan)
    child.stop(grace=2)
    assert eventually(lambda: not alive(orphan))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's parent-death signal is Linux's")
def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from backend.demo.processes import ManagedProcess
child = ManagedProcess("child", [sys.executable, "-c", "import time; time.sleep(600)"], log_file=Path(sys.argv[1]))
child.start()
print(child.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "child.log")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert eventually(lambda: not alive(child))


def test_a_missing_program_and_an_unwritable_log_are_told(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="cannot start the tool: /no/such/program"):
        ManagedProcess("the tool", ["/no/such/program"], log_file=tmp_path / "a.log").start()
    (tmp_path / "file").touch()
    with pytest.raises(ProcessError, match="cannot write the tool's log"):
        ManagedProcess("the tool", [sys.executable], log_file=tmp_path / "file" / "a.log").start()


def test_the_log_is_for_its_owner_only(tmp_path: Path) -> None:
    with python(tmp_path, "import time; time.sleep(600)") as child:
        assert child.log_file.stat().st_mode & 0o077 == 0
        with pytest.raises(ProcessError, match="is running already"):
            child.start()


def test_a_taken_port_is_named_with_the_way_out() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert port_in_use(port)
        with pytest.raises(PortInUseError, match=rf"^port {port} .* choose another port with --port$") as error:
            require_free_port(port, "--port")
        assert "\n" not in str(error.value)
    assert not port_in_use(port)
    require_free_port(port, "--port")


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(PortInUseError, match=r"port 8080 on 192\.0\.2\.1 cannot be used"):
        require_free_port(8080, "--port", host="192.0.2.1")
