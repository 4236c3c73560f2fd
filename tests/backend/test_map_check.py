"""Whether the desk answers where a labeling page is sent for its maps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from backend.demo.processes import free_port
from backend.map_addresses import MapAddresses, allowed_project
from backend.map_check import what_keeps_maps_away

KEY = "k" * 32


class Answering(ThreadingHTTPServer):
    """Answers as a desk with the key does, or as it is told."""

    status: int | None = None
    content_type = "image/jpeg"
    location = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        is_right = query == "image=" and allowed_project(path, (KEY,)) == 7
        self.send_response(self.server.status or (200 if is_right else 404))
        self.send_header("Content-Type", self.server.content_type)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[Answering]:
    with Answering(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def test_a_desk_with_this_key_is_right(server: Answering) -> None:
    assert what_keeps_maps_away(MapAddresses(server.url, KEY).of(7)) is None


def test_a_desk_with_another_key_is_told(server: Answering) -> None:
    told = what_keeps_maps_away(MapAddresses(server.url, "o" * 32).of(7))
    assert told is not None and "INSPECTION_MAP_KEY" in told and server.url in told


@pytest.mark.parametrize(
    ("status", "content_type"), [(200, "text/html"), (200, "image/png"), (301, "image/jpeg"), (503, "text/plain")]
)
def test_another_server_is_told(server: Answering, status: int, content_type: str) -> None:
    server.status, server.content_type = status, content_type
    server.location = MapAddresses(server.url, KEY).of(7)
    told = what_keeps_maps_away(MapAddresses(server.url, KEY).of(7))
    assert told is not None and f"status {status}" in told and "INSPECTION_PUBLIC_URL" in told


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "https://desk.invalid", "http://[::", "http://a b"])
def test_where_nothing_answers_is_told(url: str) -> None:
    url = url.format(port=free_port())
    told = what_keeps_maps_away(MapAddresses(url, KEY).of(7))
    assert told is not None and url in told and "INSPECTION_PUBLIC_URL" in told
    # What lets a reader in is not among it.
    assert "/maps/" not in told
