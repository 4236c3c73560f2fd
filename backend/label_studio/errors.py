"""What can go wrong between the backend and Label Studio's API, told so that a person knows what to do next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import httpx

_LONGEST_MESSAGE = 600
_HTML_TAG = re.compile(r"<[^>]{1,200}>")
_SPACES = re.compile(r"\s+")


class LabelStudioError(RuntimeError):
    """Label Studio did not do what was asked; `status` is its HTTP status, None where there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class LabelStudioUnreachableError(LabelStudioError):
    """No usable answer: nothing listens, the name is unknown, it took too long, or something else answers there."""


class LabelStudioSlowError(LabelStudioUnreachableError):
    """It was reached, and its answer took too long."""


class LabelStudioUnauthorisedError(LabelStudioError):
    """The API key or login is missing, wrong, of a kind that is switched off, or lacks the right."""


class LabelStudioAddressError(LabelStudioError):
    """Label Studio's protection against internal addresses refuses the backend's address."""


class LabelStudioRefusedError(LabelStudioError):
    """Label Studio understood and refused (any other 4xx); the message holds its own words."""


class LabelStudioMissingError(LabelStudioRefusedError):
    """Label Studio itself says that it has no such thing. A 404 of whatever stands before it is none of these."""


class LabelStudioFailedError(LabelStudioError):
    """Label Studio failed inside (5xx)."""


class LabelStudioBackendAwayError(LabelStudioFailedError):
    """Label Studio does not reach its ML backend, or is not answered by it; of itself it tells success."""


def unreachable(url: str, error: httpx.HTTPError) -> LabelStudioUnreachableError:
    """The error for a call to `url` that brought no answer."""
    if isinstance(error, httpx.TimeoutException):
        kind = LabelStudioUnreachableError if isinstance(error, httpx.ConnectTimeout) else LabelStudioSlowError
        return kind(f"Label Studio at {url} did not answer in time; is it still starting?")
    return LabelStudioUnreachableError(f"nothing answers at {url} ({error}); start Label Studio or correct the address")


def check(response: httpx.Response, doing: str) -> None:
    """Raise the fitting LabelStudioError for an answer that is no success; `doing` says what was asked of it."""
    status = response.status_code
    if response.is_success:
        return
    if response.is_redirect:
        target = response.headers.get("location", "?").partition("?")[0]
        raise LabelStudioUnreachableError(
            f"{doing}: the address answers with a redirect to {target}; give the address Label Studio itself has",
            status,
        )
    said = message(response)
    if status == httpx.codes.FORBIDDEN and "reserved network address" in said:
        raise LabelStudioAddressError(
            f"{doing}: Label Studio refuses the backend's address ({said}); start Label Studio with "
            "ML_BLOCK_LOCAL_IP=false (for the ML backend) and SSRF_PROTECTION_ENABLED=false (for its webhook), "
            "or give the backend a public address",
            status,
        )
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise LabelStudioUnauthorisedError(f"{doing}: {_key_advice(status, said)} (Label Studio says: {said})", status)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise LabelStudioFailedError(
            f"{doing}: Label Studio failed with status {status} ({said}); its own log says why", status
        )
    kind = LabelStudioMissingError if _says_missing(response) else LabelStudioRefusedError
    raise kind(f"{doing}: {said}", status)


def _says_missing(response: httpx.Response) -> bool:
    try:
        body = response.json()
    except ValueError:
        return False
    own = isinstance(body, Mapping) and "version" in body
    return own and response.status_code == body.get("status_code") == httpx.codes.NOT_FOUND


def _key_advice(status: int, said: str) -> str:
    if "legacy token" in said:
        return (
            "legacy tokens are switched off in this Label Studio; make a personal access token under Account & "
            "Settings, or allow legacy tokens in the organization's API token settings"
        )
    if status == httpx.codes.FORBIDDEN:
        return "the API key's user lacks the right; use a key of a member of this project's organization"
    if "not provided" in said:
        return "no valid API key was sent; make a personal access token in Label Studio under Account & Settings"
    return "the API key is not valid (any more); make a new one in Label Studio under Account & Settings"


def message(response: httpx.Response) -> str:
    """Label Studio's own words in an answer, in one short line without HTML."""
    try:
        body = response.json()
    except ValueError:
        body = response.text
    text = "; ".join(dict.fromkeys(_sentences(body))) or f"status {response.status_code} without a message"
    return _SPACES.sub(" ", _HTML_TAG.sub("", text)).strip()[:_LONGEST_MESSAGE]


def _sentences(body: object, field: str = "") -> Iterator[str]:
    """An answer's sentences: its `validation_errors` where there are any, else `detail`, else all its text."""
    if isinstance(body, str):
        unnamed = field in ("", "detail", "non_field_errors", "validation_errors")
        yield body if unnamed else f"{field}: {body}"
    elif isinstance(body, Mapping):
        told = {name: body[name] for name in ("validation_errors", "detail") if body.get(name)}
        if "validation_errors" in told:
            told.pop("detail", None)
        for name, value in (told or body).items():
            yield from _sentences(value, str(name))
    elif isinstance(body, list):
        for value in body:
            yield from _sentences(value, field)
