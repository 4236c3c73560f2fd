"""Who may call the desk: Label Studio with basic authentication, its webhooks with a token in a header."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING

from fastapi import HTTPException, status

from backend.credentials import WEBHOOK_HEADER, Credentials

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


def require_basic(headers: Headers, credentials: Credentials) -> None:
    """Let a caller with the right user and password pass.

    Raises:
        HTTPException: 401, whatever was wrong with the header.
    """
    if not _basic_matches(headers.get("authorization", ""), credentials):
        raise _refusal()


def require_webhook_sender(headers: Headers, credentials: Credentials) -> None:
    """Let a webhook with the right token, or a caller with the right user and password, pass.

    Raises:
        HTTPException: 401.
    """
    if _equal(headers.get(WEBHOOK_HEADER, ""), credentials.webhook_token):
        return
    require_basic(headers, credentials)


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


def _refusal() -> HTTPException:
    return HTTPException(
        status.HTTP_401_UNAUTHORIZED,
        "wrong or missing credentials; run `inspection connect` to tell Label Studio this backend's credentials",
        headers={"WWW-Authenticate": 'Basic realm="inspection"'},
    )


class BodyLimit:
    """ASGI middleware that refuses a request body over `limit` bytes, announced or not, with 413."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._limit:
            await self._refuse(send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise HTTPException(
                    status.HTTP_413_CONTENT_TOO_LARGE, f"the request is larger than {self._limit} bytes"
                )
            return message

        await self._app(scope, counted, send)

    async def _refuse(self, send: Send) -> None:
        body = f'{{"detail":"the request is larger than {self._limit} bytes"}}'.encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})
