"""Fixtures of all tests that may learn a region head."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def short_lessons() -> Iterator[None]:
    """Heads of the small pictures in these tests have learned enough after a few of the steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inspection_models.region_head.STEPS", 120)
        yield
