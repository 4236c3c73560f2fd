"""Who may call the desk: Label Studio with basic authentication, its webhooks with a token in a header."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING

import anyio.to_thread
from fastapi import HTTPException, status
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers

from backend.credentials import WEBHOOK_HEADER, Credentials

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN = frozenset({"/health", "/livez", "/readyz"})
_REFUSAL = "wrong or missing credentials; run `inspection connect` to tell Label Studio this backend's credentials"
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="inspection"'}


class Door:
    """ASGI middleware that looks at a request's credentials before anything of its body is read.

    Probes are open; a webhook may show its token; everything else needs user and password.
    """

    def __init__(self, app: ASGIApp, credentials: Credentials) -> None:
        self._app = app
        self._credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] != "http" or scope["path"] in _OPEN or self._may_enter(scope["path"], Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        refusal = JSONResponse({"detail": _REFUSAL}, status_code=401, headers=_CHALLENGE)
        await refusal(scope, receive, send)

    def _may_enter(self, path: str, headers: Headers) -> bool:
        has_token = path == "/webhook" and _equal(headers.get(WEBHOOK_HEADER, ""), self._credentials.webhook_token)
        return has_token or _basic_matches(headers.get("authorization", ""), self._credentials)


def _basic_matches(header: str, credentials: Credentials) -> bool:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        user, separator, password = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return False
    # Both are compared, so that the time taken does not tell which one was wrong.
    user_right, password_right = _equal(user, credentials.username), _equal(password, credentials.password)
    return bool(separator) and user_right and password_right


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode("utf-8"))


class BodyLimit:
    """ASGI middleware that refuses a request body over `limit` bytes, announced or not, with 413.

    `refused` hears the path of each such request, so that what was sent there is at least known to be missing.
    """

    def __init__(self, app: ASGIApp, limit: int, refused: Callable[[str], None]) -> None:
        self._app = app
        self._limit = limit
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._limit:
            await anyio.to_thread.run_sync(self._refused, scope["path"])
            refusal = JSONResponse({"detail": self._reason}, status_code=413)
            await refusal(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                await anyio.to_thread.run_sync(self._refused, scope["path"])
                raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, self._reason)
            return message

        await self._app(scope, counted, send)

    @property
    def _reason(self) -> str:
        return f"the request is larger than {self._limit} bytes (INSPECTION_MAX_REQUEST_BYTES)"
