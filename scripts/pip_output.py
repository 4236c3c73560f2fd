"""What pip's output says, in words: what it is doing, and why it failed."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def tail_of(log_file: Path, start: int, limit: int = 200_000) -> str:
    """What was written to a log since `start`, at most its last `limit` bytes."""
    with log_file.open("rb") as log:
        end = log.seek(0, os.SEEK_END)
        log.seek(max(start, end - limit))
        return log.read().decode("utf-8", errors="replace")


def activity(output: str) -> str:
    """What pip is doing, in words, from what it has printed."""
    for line in reversed(output.splitlines()):
        text = line.strip()
        if text.startswith("Installing collected packages"):
            return f"unpacking {text.count(',') + 1} packages"
        if text.startswith("WARNING: Retrying"):
            return "waiting for the network (pip tries again)"
        if found := re.match(
            r"Downloading (?:\S*/)?([^\s/-]+-\d[\w.]*?)(?:-\S+)?\.(?:whl|tar\.gz|zip)(?: \((.+)\))?", text
        ):
            size = f" ({found[2]})" if found[2] else ""
            return f"downloading {found[1]}{size}"
        if found := re.match(r"Building wheel for (\S+)", text):
            return f"building {found[1]}"
        if found := re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.\-]+)", text):
            return f"looking up {found[1]}"
    return "working"


def explain(output: str, home: Path) -> str:
    """One line on why a command failed and what to do, from what it has printed."""
    if re.search(r"No space left on device|Errno 28|Disk quota exceeded", output):
        return f"the disk is full under {home}; make room and run again"
    if re.search(
        r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|Max retries exceeded|"
        r"Connection refused|ConnectionResetError|Network is unreachable|ProxyError|SSLError",
        output,
    ):
        return (
            "the package index cannot be reached; check the network and pip's index and proxy settings, then run again"
        )
    if re.search(r"ensurepip is not available|No module named ensurepip", output):
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return (
            f"this Python cannot make virtual environments; on Debian or Ubuntu: apt-get install python{version}-venv"
        )
    if "Permission denied" in output:
        return f"{home} cannot be written; check who owns it"
    errors = [line.strip() for line in output.splitlines() if re.match(r"\s*(ERROR|error|\w*Error)\b", line)]
    detail = next((line for line in errors if "No matching distribution" in line), errors[-1] if errors else "")
    return f"failed: {detail.removeprefix('ERROR: ') or 'see the log'}"
