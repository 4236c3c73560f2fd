"""The `Authorization` header for Label Studio, from either kind of API key.

A legacy token is sent as it is. A personal access token is a JWT refresh token that Label Studio accepts nowhere but at
`/api/token/refresh/`, where it is exchanged for an access token of a few minutes.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

import httpx

from backend.label_studio import errors

_SPARE_SECONDS = 60.0
_SHORTEST_LIFETIME = 30.0
_ASSUMED_LIFETIME = 240.0
_DOTS_IN_JWT = 2


class Authorization(Protocol):
    """Gives the value of the `Authorization` header, made anew where it has run out."""

    def __call__(self) -> str:
        """The header's value. Raises LabelStudioError where none can be had."""

    def forget(self) -> bool:
        """Drop what is cached, as it was refused; True where a new attempt may do better."""


def authorization(api_key: str, http: httpx.Client) -> Authorization:
    """The authorization for an API key: a personal access token (a JWT) or a legacy token.

    `http` reaches Label Studio by paths relative to its address. Raises LabelStudioUnauthorisedError for a key that
    cannot be a header's value.
    """
    key = api_key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise errors.LabelStudioUnauthorisedError(
            "the Label Studio API key is empty or has characters no key has; copy it anew from Account & Settings"
        )
    return _PersonalAccessToken(key, http) if key.count(".") == _DOTS_IN_JWT else _LegacyToken(key)


class _LegacyToken:
    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self) -> str:
        return f"Token {self._key}"

    def forget(self) -> bool:
        return False


class _PersonalAccessToken:
    def __init__(self, key: str, http: httpx.Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = key
        self._http = http
        self._clock = clock
        self._turn = threading.Lock()
        self._access: str | None = None
        self._until = 0.0

    def __call__(self) -> str:
        with self._turn:
            if self._access is None or self._clock() >= self._until:
                self._access = self._refresh()
                self._until = self._clock() + max(_lifetime(self._access) - _SPARE_SECONDS, _SHORTEST_LIFETIME)
            return f"Bearer {self._access}"

    def forget(self) -> bool:
        with self._turn:
            self._access = None
        return True

    def _refresh(self) -> str:
        try:
            response = self._http.post("api/token/refresh/", json={"refresh": self._key})
        except httpx.HTTPError as error:
            raise errors.unreachable(str(self._http.base_url), error) from error
        errors.check(response, "exchange the personal access token")
        try:
            access = response.json()["access"]
        except (ValueError, KeyError, TypeError):
            access = None
        if not isinstance(access, str) or not access:
            raise errors.LabelStudioUnreachableError(
                f"what answers at {self._http.base_url} is not Label Studio: it gave no access token",
                response.status_code,
            )
        return access


def _lifetime(token: str) -> float:
    """Seconds between a JWT's own two times: right even where the two machines' clocks disagree."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        seconds = float(claims["exp"]) - float(claims["iat"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return _ASSUMED_LIFETIME
    return seconds if math.isfinite(seconds) else _ASSUMED_LIFETIME
