from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def payloads() -> Path:
    """The requests captured from a real Label Studio."""
    folder = Path(__file__).parents[2] / ".." / "shared" / "label_studio_payloads"
    if not folder.is_dir():
        reason = "the captured Label Studio payloads (../shared/label_studio_payloads) are not here"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
