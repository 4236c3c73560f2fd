"""Fixtures of all tests here: quick lessons of region heads, and logging as each test found it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def short_lessons() -> Iterator[None]:
    """Heads of the small pictures in these tests have learned enough after a few of the steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inspection_models.region_head.STEPS", 120)
        yield


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Commands that are run in this process log to the error stream of their test, which is closed after it."""
    root = logging.getLogger()
    level, before = root.level, [one for one in root.handlers if type(one) is logging.StreamHandler]
    yield
    root.setLevel(level)
    for handler in [one for one in root.handlers if type(one) is logging.StreamHandler and one not in before]:
        root.removeHandler(handler)
