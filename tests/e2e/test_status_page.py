"""The status page in a real browser: the button works there, nothing is refused by its own policy, all fits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Page, sync_playwright

from backend.app import create_app
from backend.demo.processes import free_port
from backend.desk import Desk
from backend.models_in_use import version_in_use
from db import jobs
from tests.backend import desks, status_material
from tests.e2e.browser import FLAGS, PATIENCE_MS, artefacts, chromium

pytestmark = pytest.mark.e2e

STUDIO = "http://127.0.0.1:8080"
SIZES = {"desktop": (1100, 800), "phone": (390, 844)}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    model = desks.write_model(tmp_path / "model")
    opened = desks.open_desk(desks.settings_for(tmp_path, model, STUDIO), work_off_queue=False)
    version = version_in_use(opened.settings, opened.database, None).model_version
    status_material.fill(opened.database, STUDIO, version)
    return opened


@pytest.fixture
def url(desk: Desk) -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(desk), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started or desk.problems():
        assert thread.is_alive()
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=15)


@pytest.fixture(params=sorted(SIZES))
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    width, height = SIZES[request.param]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        credentials = {"username": "inspection", "password": desks.PASSWORD}
        page = browser.new_page(viewport={"width": width, "height": height}, http_credentials=credentials)
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()


def test_a_supervisor_reads_it_and_presses_the_button(page: Page, url: str, desk: Desk) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{url}/status")
    width = page.viewport_size["width"] if page.viewport_size else 0
    page.screenshot(path=artefacts() / f"status-{width}.png", full_page=True)
    # Without what differs from machine to machine.
    page.evaluate("document.querySelector('#about ~ table').hidden = document.querySelector('#about').hidden = true")
    page.locator("body").screenshot(path=artefacts() / f"status-{width}-shown.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("getComputedStyle(document.querySelector('.state')).borderTopWidth") == "3px"
    assert page.locator(".state strong").inner_text() == "ready"
    page.get_by_role("button", name="Start all failed over").click()
    page.wait_for_url("**/status?retried=2")
    assert "2 failed jobs were started over" in page.locator("main").inner_text()
    with desk.database.read() as session:
        assert jobs.depth(session, kind="webhook").failed == 0
    assert said == []
