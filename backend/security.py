"""Who may call the desk: Label Studio with basic authentication, its webhooks with a token in a header, and whoever has
a signed address the maps that it stands for."""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING

import anyio.to_thread
from fastapi import HTTPException, status
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers

from backend.credentials import WEBHOOK_HEADER, Credentials
from backend.map_addresses import MAPS_PATH, allowed_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN = frozenset({"/health", "/livez", "/readyz"})
# Label Studio alone is let in here, and does not look at the answer.
_NEVER_SILENT = frozenset({"/predict", "/webhook"})
_MOST_DIGITS = 18
_REFUSAL = "wrong or missing credentials; run `inspection connect` to tell Label Studio this backend's credentials"
_NO_MAPS = "no maps are at this address; run `inspection connect` for the project to give it today's"
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="inspection"'}


class Door:
    """ASGI middleware that looks at a request's credentials before anything of its body is read.

    Probes are open, and told by `request.state.is_known` whether the caller showed credentials; a webhook may show its
    token; maps are read by signed addresses and by nothing else; everything else needs user and password.
    `credentials` gives those of the moment.
    """

    def __init__(self, app: ASGIApp, credentials: Callable[[], Credentials]) -> None:
        self._app = app
        self._credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_known = self._may_enter(scope["path"], Headers(scope=scope))
        if is_known or scope["path"] in _OPEN:
            scope.setdefault("state", {})["is_known"] = is_known
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith(MAPS_PATH):
            # Without a challenge, at which a browser would ask the inspector for a password.
            refusal = JSONResponse({"detail": _NO_MAPS}, status_code=404)
        else:
            refusal = JSONResponse({"detail": _REFUSAL}, status_code=401, headers=_CHALLENGE)
        await refusal(scope, receive, send)

    def _may_enter(self, path: str, headers: Headers) -> bool:
        accepted = self._credentials()
        if path.startswith(MAPS_PATH):
            return allowed_project(path, accepted.map_keys) is not None
        tokens = (accepted.webhook_token, *accepted.former_webhook_tokens)
        has_token = path == "/webhook" and _equals_one(headers.get(WEBHOOK_HEADER, ""), tokens)
        return has_token or _basic_matches(headers.get("authorization", ""), accepted)


def _basic_matches(header: str, credentials: Credentials) -> bool:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        user, separator, password = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
    except ValueError:  # no base64, not even ASCII, or no text
        return False
    # Both are compared, so that the time taken does not tell which one was wrong.
    user_right = _equals_one(user, (credentials.username,))
    password_right = _equals_one(password, (credentials.password, *credentials.former_passwords))
    return bool(separator) and user_right and password_right


def _equals_one(given: str, accepted: Iterable[str]) -> bool:
    """Whether a secret is one of those accepted. All are compared, each in a time that tells nothing of where it
    differs."""
    shown = given.encode("utf-8", "surrogateescape")
    equal = [hmac.compare_digest(shown, one.encode("utf-8")) for one in accepted]
    return any(equal)


class BodyLimit:
    """ASGI middleware that refuses a request body over `limit` bytes, announced or not, with 413.

    `refused` hears the path of each such request to `/predict` or `/webhook`, so that what Label Studio sent there is
    at least known to be missing. It hears of no other: anybody may send those, and their paths may hold secrets.
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
        announced = dict(scope["headers"]).get(b"content-length", b"0").lstrip(b"0") or b"0"
        # By its length first: a number of thousands of digits is not even turned into one.
        if announced.isdigit() and (len(announced) > _MOST_DIGITS or int(announced) > self._limit):
            await self._tell(scope["path"])
            refusal = JSONResponse({"detail": self._reason}, status_code=413)
            await refusal(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                await self._tell(scope["path"])
                raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, self._reason)
            return message

        await self._app(scope, counted, send)

    async def _tell(self, path: str) -> None:
        if path in _NEVER_SILENT:
            await anyio.to_thread.run_sync(self._refused, path)

    @property
    def _reason(self) -> str:
        return f"the request is larger than {self._limit} bytes (INSPECTION_MAX_REQUEST_BYTES)"
