"""Calls to Label Studio's API: with the key, bounded in time, repeated where that is safe, and checked."""

from __future__ import annotations

import time
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar

import httpx

from backend.label_studio import errors
from backend.label_studio.tokens import Authorization, authorization

Json = dict[str, Any]
_Answer = TypeVar("_Answer", Json, list[Json])

_ATTEMPTS = 3
_LONGEST_WAIT_SECONDS = 30.0


def without_cookies() -> CookieJar:
    """A jar that keeps nothing. Cookies ignore ports, so one of Label Studio's could reach another server beside it."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


class Connection:
    """The API at `url`, which may have a path; see LabelStudioClient for the parameters."""

    def __init__(
        self, url: str, api_key: str, *, timeout: float, pause: float, transport: httpx.BaseTransport | None
    ) -> None:
        self.url = url.rstrip("/")
        self._pause = pause
        self._http = httpx.Client(
            base_url=self.url, timeout=timeout, transport=transport, trust_env=False, cookies=without_cookies()
        )
        self.authorization: Authorization = authorization(api_key, self._http)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def object(self, method: str, path: str, doing: str, **options: Any) -> Json:
        """Call and give the JSON object that came back; `doing` says in an error what was asked."""
        return _as(dict, self.call(method, path, doing, **options), self.url)

    def list(self, path: str, doing: str, **params: Any) -> list[Json]:
        """GET and give the JSON list that came back."""
        return _as(list, self.call("GET", path, doing, params=params), self.url)

    def call(
        self, method: str, path: str, doing: str, *, repeat: bool = False, again_when_slow: bool = True, **options: Any
    ) -> httpx.Response:
        """Call, and again where that is safe: any GET, and with `repeat` what never arrived or failed inside.

        What took too long is asked again only with `again_when_slow`.

        Raises a LabelStudioError for every answer that is no success.
        """
        attempts = _ATTEMPTS if repeat or method == "GET" else 1
        for attempt in range(1, attempts):
            wait = self._pause * attempt
            try:
                response = self.send(method, path, **options)
            except errors.LabelStudioUnreachableError as error:
                if not again_when_slow and isinstance(error, errors.LabelStudioSlowError):
                    raise
                if method != "GET" and not isinstance(error.__cause__, httpx.ConnectError):
                    raise
            else:
                if not (response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS):
                    errors.check(response, doing)
                    return response
                wait = max(wait, _asked_to_wait(response))
            time.sleep(wait)
        response = self.send(method, path, **options)
        errors.check(response, doing)
        return response

    def send(self, method: str, path: str, *, with_key: bool = True, **options: Any) -> httpx.Response:
        """One call; where the token was refused and can be renewed, once more."""
        response = self._send_once(method, path, with_key=with_key, **options)
        refused = with_key and response.status_code == httpx.codes.UNAUTHORIZED
        if refused and self.authorization.forget():
            response = self._send_once(method, path, with_key=True, **options)
        return response

    def _send_once(self, method: str, path: str, *, with_key: bool, **options: Any) -> httpx.Response:
        headers = {"Authorization": self.authorization()} if with_key else {}
        try:
            return self._http.request(method, path, headers=headers, **options)
        except httpx.HTTPError as error:
            raise errors.unreachable(self.url, error) from error


def _asked_to_wait(response: httpx.Response) -> float:
    """Seconds that a busy Label Studio, or what stands before it, asks to be left alone."""
    asked = response.headers.get("retry-after", "")
    return min(float(asked), _LONGEST_WAIT_SECONDS) if asked.isascii() and asked.isdigit() else 0.0


def _as(kind: type[_Answer], response: httpx.Response, url: str) -> _Answer:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, kind):
        raise errors.LabelStudioUnreachableError(
            f"what answers at {url} does not speak Label Studio's API; correct the address", response.status_code
        )
    return body
