"""A real Label Studio for the end-to-end tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backend.demo.label_studio_server import LabelStudioServer, prepare_template
from backend.demo.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
EXECUTABLE = ROOT / ".venv-label-studio" / "bin" / "label-studio"


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    """A running Label Studio with fresh data on a free port: `.url`, `.credentials`."""
    if not EXECUTABLE.is_file():
        reason = "Label Studio is not installed: run `scripts/setup.sh label-studio`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    cache = Path(os.environ.get("INSPECTION_CACHE") or Path.home() / ".cache" / "inspection")
    template = prepare_template(EXECUTABLE, cache)
    folder = tmp_path_factory.mktemp("label-studio")
    with LabelStudioServer(EXECUTABLE, folder, port=free_port(), template=template) as server:
        yield server
