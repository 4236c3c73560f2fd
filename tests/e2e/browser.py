"""An inspector at the screen: headless Chromium on Label Studio's labeling page."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from backend.demo.label_studio_server import LabelStudioCredentials

# No sandbox as root, no graphics card, and no call of the browser's own to the outside.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 60_000


def chromium() -> str:
    """The browser's program."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "no Chromium found; install one, e.g. apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def artefacts() -> Path:
    """Where screenshots are kept."""
    folder = Path(os.environ.get("INSPECTION_ARTEFACTS") or Path(__file__).parents[2] / "artifacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def inspector(url: str, credentials: LabelStudioCredentials) -> Iterator[Page]:
    """A page of somebody who is logged in."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1440, "height": 1040})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{url}/user/login/")
        page.fill("input[name=email]", credentials.email)
        page.fill("input[name=password]", credentials.password)
        page.click("button[type=submit]")
        page.wait_for_url("**/")
        yield page
        browser.close()


def open_task(page: Page, project_url: str, task_id: int) -> None:
    """Open a task and wait until its regions are drawn."""
    open_page(page, f"{project_url}?task={task_id}")


def open_page(page: Page, url: str) -> None:
    """Open a labeling page and wait until its image and the regions on it are drawn."""
    page.goto(url)
    page.wait_for_selector(".konvajs-content canvas")
    image = page.locator('img[src^="blob:"]').first
    image.wait_for(state="attached")
    page.wait_for_function(
        """() => { const i = document.querySelector('img[src^="blob:"]'); return i && i.complete && i.width > 50; }"""
    )
    # The regions are drawn one animation after the image; nothing in the page tells when.
    page.wait_for_timeout(1500)


def shown_images(page: Page) -> list[bytes]:
    """The image files in the page, as they came, in the order in which they stand; waits until all are drawn."""
    page.wait_for_function(
        """() => [...document.querySelectorAll('img[src^="blob:"]')].every(i => i.complete && i.naturalWidth > 0)"""
    )
    encoded = page.evaluate(
        """() => Promise.all([...document.querySelectorAll('img[src^="blob:"]')].map(async image => {
            const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
            return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(''));
        }))"""
    )
    return [base64.b64decode(one) for one in encoded]


def ticked(page: Page) -> list[str]:
    """The classes that are ticked, without their keys."""
    boxes = page.locator(".lsf-choice__item input:checked, .lsf-choices input:checked, label:has(input:checked)")
    texts = [box.strip() for box in boxes.all_inner_texts() if box.strip()]
    return sorted({text.partition("[")[0].strip() for text in texts})


def listed_regions(page: Page) -> list[str]:
    """The labels in the page's list of regions."""
    return [text.strip() for text in page.locator(".lsf-outliner-item__title").all_inner_texts() if text.strip()]


def point_on_page(page: Page, percent: tuple[float, float]) -> tuple[float, float]:
    """Where a point of the image, in percent, lies on the page."""
    box = page.locator('img[src^="blob:"]').first.bounding_box()
    assert box is not None
    return box["x"] + percent[0] / 100 * box["width"], box["y"] + percent[1] / 100 * box["height"]


def drag_corner(page: Page, points: list[list[float]], corner: int, by: tuple[float, float]) -> None:
    """Select a polygon by a click inside it, then pull one of its corners, in pixels of the page."""
    inside = inner_point(points)
    page.mouse.click(*point_on_page(page, inside))
    page.wait_for_timeout(500)
    x, y = point_on_page(page, (points[corner][0], points[corner][1]))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by[0], y + by[1], steps=8)
    page.mouse.up()
    page.wait_for_timeout(500)


def inner_point(points: list[list[float]]) -> tuple[float, float]:
    """A point inside a polygon, far from its corners, in percent."""
    import cv2
    import numpy as np

    scale = 10
    mask = np.zeros((100 * scale, 100 * scale), np.uint8)
    cv2.fillPoly(mask, [np.rint(np.asarray(points) * scale).astype(np.int32)], 1)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(x) / scale, float(y) / scale


def ask_about(page: Page, label: str, corners: tuple[float, float, float, float]) -> dict[str, Any]:
    """Drag the smart tool over a place (left, top, right, bottom in percent); gives what Label Studio answered."""
    # A region that is selected, as one just taken over is, would take the label.
    page.keyboard.press("Escape")
    tool = page.locator(".lsf-tool_smart").first
    if not tool.is_visible():
        page.locator('label:has-text("Auto-Annotation")').click()
    # A click on the tool in use would put it away.
    if "tool_active" not in (tool.get_attribute("class") or ""):
        tool.click()
    page.get_by_text(label, exact=True).first.click()
    page.mouse.move(*point_on_page(page, corners[:2]))
    page.mouse.down()
    page.mouse.move(*point_on_page(page, corners[2:]), steps=8)
    with page.expect_response(lambda answer: "interactive-annotating" in answer.url) as answered:
        page.mouse.up()
    page.wait_for_timeout(1000)
    return dict(answered.value.json())


def submit(page: Page) -> None:
    """Accept with the keyboard, and wait until Label Studio has taken it."""
    with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST") as answer:
        page.keyboard.press("Control+Enter")
    assert answer.value.ok
    expect(page.locator("body")).to_be_visible()
