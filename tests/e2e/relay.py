"""A relay between two services, which does with each message what it is told to: pass it on, lose it, answer itself."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

# Of one connection, not of the message.
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "host", "content-length", "upgrade"})
_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Message:
    """A request, or the answer to one (then `status` is set)."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)
    status: int = 0

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


Forward = Callable[[], Message]
Treatment = Callable[[Message, Forward], Message | None]
"""What becomes of a message: gives its answer; None cuts the connection."""


def answer(status: int, content: object, **headers: str) -> Message:
    """An answer of the relay's own: JSON, or text as it is."""
    is_text = isinstance(content, str)
    body = content if is_text else json.dumps(content)
    kind = "text/html" if is_text else "application/json"
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Message("", "", (("content-type", kind), *named), str(body).encode(), status)


@contextmanager
def relay(target: str, port: int, treatment: Treatment) -> Iterator[str]:
    """Relays from a port of this machine to `target`; gives the address to use in its place."""
    http = httpx.Client(base_url=target, timeout=_PATIENCE_SECONDS, trust_env=False)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            message = Message(self.command, self.path, tuple(self.headers.items()), body)
            given = treatment(message, lambda: _forwarded(http, message))
            if given is None:
                self.close_connection = True
                return
            self.send_response_only(given.status)
            for name, value in given.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(given.body)))
            self.send_header("Connection", "close")
            self.end_headers()
            # Whoever asked may have lost patience.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(given.body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.handle_any)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            """Callers that go away are part of the test."""

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        server.server_close()
        http.close()


def _forwarded(http: httpx.Client, message: Message) -> Message:
    """The target's answer, as it came; 502 where nothing answers."""
    headers = [(name, value) for name, value in message.headers if name.lower() not in _HOP]
    try:
        with http.stream(message.method, message.path, headers=headers, content=message.body) as response:
            body = b"".join(response.iter_raw())
    except httpx.HTTPError as error:
        return answer(502, f"<h1>Bad gateway</h1>{type(error).__name__}")
    kept = tuple((name, value) for name, value in response.headers.multi_items() if name.lower() not in _HOP)
    return Message("", "", kept, body, response.status_code)
