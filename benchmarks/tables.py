"""Tables in documents from the reports in benchmarks/results."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def write_tables(document: Path, results: Path, tables: Mapping[str, Callable[[dict[str, Any]], str]]) -> None:
    """Put `tables`, made from the reports of their names, between their marks in a document.

    A report that is not there yet leaves its table as it is.

    Raises:
        ValueError: the document has no such marks.
    """
    text = document.read_text(encoding="utf-8")
    for name, table in tables.items():
        report = results / f"{name}.json"
        if report.is_file():
            text = replaced(text, name, table(json.loads(report.read_text(encoding="utf-8"))))
    document.write_text(text, encoding="utf-8")


def replaced(text: str, name: str, content: str) -> str:
    """`text` with `content` between the marks of that name."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"there is no <!-- {name} --> … <!-- /{name} --> to write between")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def machine_line(machine: dict[str, Any]) -> str:
    """What the figures above it were measured on, in italics."""
    packages = machine["packages"]
    names = [name for name in ("torch", "onnxruntime", "grad-cam", "captum") if packages.get(name)]
    versions = ", ".join(f"{name} {packages[name]}" for name in names)
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    return f"*{machine['cpu']}, {threads}; {versions}.*"
