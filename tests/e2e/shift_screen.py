"""The inspector of a shift at the screen: skips, accepts, adjusts, rejects, corrects what was missed, decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from random import Random

from playwright.sync_api import Error as ScreenError
from playwright.sync_api import Page

from backend.demo.label_studio_server import LabelStudioCredentials
from backend.label_studio.client import LabelStudioClient
from tests.e2e import browser
from tests.e2e.shift_inspectors import Ledger, Made, patiently
from tests.e2e.shift_plan import REGIONS, Change, Json, Meant, Plan, accept, skip

_PATIENCE_SECONDS = 120.0
_Act = Callable[[Page, list[Json]], Meant]


def inspect_at_screen(
    url: str,
    credentials: LabelStudioCredentials,
    project: int,
    known: Mapping[int, Json],
    plan: Plan,
    ledger: Ledger,
    began: threading.Event,
    sent_home: threading.Event,
) -> None:
    """Skip what the queue brings first, then do one task after the other, whatever happens to Label Studio meanwhile.

    Args:
        began: set once the queue was left: it may bring any task, and have it predicted.
        sent_home: set where the rest is not to be done any more.
    """
    acts: tuple[_Act, ...] = (_accept, _adjust, _reject, _miss, _decide)
    with (
        LabelStudioClient(url, credentials.legacy_token) as client,
        browser.inspector(url, credentials) as page,
    ):
        me = int(client.whoami()["id"])
        try:
            _skip_first(page, f"{url}/projects/{project}/data", known, ledger)
        finally:
            began.set()
        for act, photograph in zip(acts, plan.at_the_screen, strict=True):
            if sent_home.is_set():
                return
            task = known[photograph.number]
            number, meant = _inspect(page, client, me, f"{url}/projects/{project}/data", task, act)
            ledger.made[number] = Made(number, task["id"], task["predictions"][0], True, meant)


def _skip_first(page: Page, project_url: str, known: Mapping[int, Json], ledger: Ledger) -> None:
    """Skip whatever the queue brings; a task that is opened by its number cannot be skipped at the screen."""
    browser.open_page(page, f"{project_url}?labeling=1")
    with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST") as answer:
        page.get_by_test_id("bottombar-skip-button").click()
    made = answer.value.json()
    task = next(one for one in [*known.values()] if one["id"] == made["task"])
    prediction = task["predictions"][0]
    ledger.made[made["id"]] = Made(made["id"], task["id"], prediction, True, skip(prediction["result"], Random(0)))


def _inspect(
    page: Page, client: LabelStudioClient, me: int, project_url: str, task: Json, act: _Act
) -> tuple[int, Meant]:
    """One task, from the beginning where the page failed and nothing was submitted."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    meant: Meant | None = None
    while True:
        try:
            browser.open_task(page, project_url, task["id"])
            meant = act(page, task["predictions"][0]["result"])
        except (ScreenError, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        mine = [one for one in patiently(lambda: client.annotations(task["id"])) if one["completed_by"] == me]
        if mine and meant is not None:
            [annotation] = mine
            return int(annotation["id"]), meant


def _accept(page: Page, predicted: list[Json]) -> Meant:
    browser.submit(page)
    return accept(predicted, Random(0))


def _adjust(page: Page, predicted: list[Json]) -> Meant:
    first, *others = [item for item in predicted if item["from_name"] == REGIONS]
    browser.drag_corner(page, first["value"]["points"], 0, (12, 9))
    browser.submit(page)
    label = first["value"]["polygonlabels"][0]
    kept = accept(others, Random(0)).changes
    return Meant([], "adjusted", label, (Change("moved", first["id"], first["id"], label, label), *kept))


def _reject(page: Page, predicted: list[Json]) -> Meant:
    """Good is ticked, and nobody takes the region away."""
    return _ticked(page, "1", "rejected", "good", predicted)


def _miss(page: Page, predicted: list[Json]) -> Meant:
    return _ticked(page, "2", "missed", "crack", predicted)


def _decide(page: Page, predicted: list[Json]) -> Meant:
    return _ticked(page, "1", "decided", "good", predicted)


def _ticked(page: Page, key: str, outcome: str, label: str, predicted: list[Json]) -> Meant:
    page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert browser.ticked(page) == [label]
    browser.submit(page)
    return Meant([], outcome, label, accept(predicted, Random(0)).changes)
