"""Task images, read as Label Studio stores them, and from nowhere a task's author could not be trusted to send us.

A task's image is an upload (`/data/upload/…`), a file Label Studio serves (`/data/local-files/…`), an object in a
bucket (`s3://…`, which Label Studio resolves) or a URL. Only Label Studio itself and listed hosts are asked; addresses
inside a private network only where that network is listed; every redirect is judged anew; the API key goes to Label
Studio alone.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import unquote

import httpx
from typing_extensions import Self

from backend.label_studio.connection import without_cookies
from backend.label_studio.deadline import Deadline
from backend.label_studio.errors import LabelStudioError, message
from backend.label_studio.hosts import AllowedHosts, HostRefusedError, origin
from backend.label_studio.image_addresses import is_in_bucket
from backend.label_studio.tokens import Authorization

_MAX_HOPS = 5
_LONGEST_ADDRESS = 8192
_LONGEST_REFUSAL = 4096
_CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
TOTAL_SECONDS = 120.0
_MOST_DIGITS = 18
_MOST_DECODINGS = 4
_CODINGS = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"})
_SERVED_PATHS = ("data", "storage-data", "static")
_RESOLVED_PATHS = ("tasks", "projects")


class ImageSourceError(RuntimeError):
    """A task's image could not be read; `retryable` where a later attempt may succeed."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class ImageAddressError(ImageSourceError):
    """The address is none, or points where images must not be read from."""


class ImageTooLargeError(ImageSourceError):
    """The file has more bytes than are read."""


class ImageTimeoutError(ImageSourceError):
    """The server took too long."""


class ImageUnauthorisedError(ImageSourceError):
    """The server does not let us read the image."""


class ImageLoginError(ImageUnauthorisedError):
    """Label Studio itself does not let us read: a matter of the key or of its settings, not of one image."""


class ImageMissingError(ImageSourceError):
    """The server has no such file."""


class ImageUnavailableError(ImageSourceError):
    """The server cannot be reached or failed."""


@dataclass(frozen=True)
class FetchedImage:
    """The bytes as they came, their SHA-256 in hex, and the address without what is secret in it."""

    data: bytes = field(repr=False)
    sha256: str
    uri: str


def redacted(address: str) -> str:
    """The address without user, password, query and fragment, where presigned URLs keep their secrets.

    Characters that would not show, such as line breaks, which would forge lines of a log, are escaped.
    """
    kept = address.partition("#")[0].partition("?")[0]
    text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in kept)
    scheme, mark, rest = text.partition("://")
    if not mark:
        return text
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


class ImageSource:
    """Reads task images; safe to share between threads.

    `authorization` is `LabelStudioClient.authorization`, None where no key is set. `allowed_hosts` lists names
    (`images.plant.example`, with `:port` to narrow it) and networks (`10.20.0.0/16`) that images may come from besides
    Label Studio; a listed name may lead into a private network only where that is listed too. `max_bytes` bounds a
    file, `read_seconds` each wait for bytes, `total_seconds` the whole.
    """

    def __init__(
        self,
        label_studio_url: str,
        authorization: Authorization | None,
        *,
        allowed_hosts: Iterable[str] = (),
        max_bytes: int = 100_000_000,
        connect_seconds: float = _CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._base = httpx.URL(label_studio_url.rstrip("/") + "/")
        self._authorization = authorization
        self._allowed = AllowedHosts(allowed_hosts)
        self._max_bytes = max_bytes
        self._total_seconds = total_seconds
        timeout = httpx.Timeout(read_seconds, connect=connect_seconds)
        # No proxy from the environment: it would reach the hosts that are refused here.
        self._http = httpx.Client(
            timeout=timeout,
            trust_env=False,
            verify=httpx.create_ssl_context(),
            cookies=without_cookies(),
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def fetch(self, address: str, *, task_id: int | None = None) -> FetchedImage:
        """Read the image at a task's address; an address in a bucket needs the task's number.

        Raises an ImageSourceError of the kind that fits; its message names the address without its secrets.
        """
        uri = redacted(address)
        url = self._locate(address, task_id)
        fresh_token = False
        with Deadline(self._total_seconds) as deadline:
            for _ in range(_MAX_HOPS + 1):
                try:
                    found = self._read(url, uri, deadline)
                except ImageUnauthorisedError:
                    if fresh_token or self._authorization is None or not self._authorization.forget():
                        raise
                    fresh_token = True
                    continue
                if isinstance(found, bytes):
                    return FetchedImage(found, hashlib.sha256(found).hexdigest(), uri)
                url = found
        raise ImageAddressError(f"{uri} is redirected more than {_MAX_HOPS} times")

    def _locate(self, address: str, task_id: int | None) -> httpx.URL:
        if len(address) > _LONGEST_ADDRESS:
            raise ImageAddressError(f"the image's address has {len(address)} characters, more than {_LONGEST_ADDRESS}")
        scheme = address.partition("://")[0].lower() if "://" in address else ""
        try:
            if is_in_bucket(address):
                if task_id is None:
                    raise ImageAddressError(
                        f"{redacted(address)} lies in a bucket, which Label Studio opens for a task only"
                    )
                code = base64.urlsafe_b64encode(address.encode()).decode()
                return self._base.join(f"tasks/{task_id}/resolve/").copy_with(params={"fileuri": code})
            if scheme:
                return httpx.URL(address)
            if not address.startswith("/") or address.startswith("//"):
                raise ImageAddressError(
                    f"{redacted(address)} is no address of an image: neither a URL nor a path of Label Studio"
                )
            inside = (
                address
                if self._base.path == "/" or address.startswith(self._base.path)
                else self._base.path + address[1:]
            )
            return self._base.join(inside)
        except (httpx.InvalidURL, ValueError) as error:
            raise ImageAddressError(f"{redacted(address)} is no address of an image: {error}") from error

    def _read(self, url: httpx.URL, uri: str, deadline: Deadline) -> bytes | httpx.URL:
        """The bytes at `url`, or where it redirects to."""
        own = origin(url) == origin(self._base)
        request = self._own_request(url, uri) if own else self._foreign_request(url, uri)
        request.extensions = {**request.extensions, "trace": deadline.trace}
        try:
            response = self._http.send(request, stream=True)
            try:
                if response.is_redirect:
                    return self._next(url, response, uri)
                self._check(response, uri, own=own)
                return self._body(response, uri, deadline)
            finally:
                response.close()
        except httpx.TimeoutException as error:
            raise ImageTimeoutError(f"the server of {uri} did not answer in time", retryable=True) from error
        except httpx.HTTPError as error:
            if deadline.has_passed:
                raise _late(uri, deadline) from error
            raise ImageUnavailableError(
                f"{uri} cannot be read: {error or type(error).__name__}", retryable=True
            ) from error

    def _own_request(self, url: httpx.URL, uri: str) -> httpx.Request:
        """A request to Label Studio with the API key, for the paths it serves files at and no others."""
        inside = unquote(url.path).removeprefix(self._base.path).split("/")
        served = inside[0] in _SERVED_PATHS or (
            inside[0] in _RESOLVED_PATHS and len(inside) > 2 and inside[2] in ("resolve", "presign")
        )
        if not served or _climbs(url.path) or any(_climbs(value) for _, value in url.params.multi_items()):
            if inside[:2] == ["user", "login"]:
                raise ImageLoginError(f"Label Studio asks for a login instead of giving {uri}; {_KEY_ADVICE}")
            raise ImageAddressError(f"{uri} leads to {url.path} of Label Studio, where no images are")
        headers = {"Accept-Encoding": "identity"}
        if self._authorization is not None:
            try:
                headers["Authorization"] = self._authorization()
            except LabelStudioError as error:
                raise ImageLoginError(f"{uri} cannot be read: {error}", retryable=error.status is None) from error
        return self._http.build_request("GET", url.copy_with(username=None, password=None), headers=headers)

    def _foreign_request(self, url: httpx.URL, uri: str) -> httpx.Request:
        """A request to a listed host, without the key, to the very network address that was judged."""
        try:
            address = self._allowed.resolve(url)
        except HostRefusedError as error:
            raise ImageAddressError(f"{uri} is not read: {error}", retryable=error.retryable) from error
        headers = {"Accept-Encoding": "identity", "Host": url.netloc.decode("ascii")}
        pinned = url.copy_with(host=address, username=None, password=None)
        return self._http.build_request("GET", pinned, headers=headers, extensions={"sni_hostname": url.host})

    def _next(self, url: httpx.URL, response: httpx.Response, uri: str) -> httpx.URL:
        try:
            target = url.join(response.headers["location"])
        except (KeyError, httpx.InvalidURL, ValueError) as error:
            raise ImageAddressError(f"{uri} is redirected to no address") from error
        if url.scheme == "https" and target.scheme != "https":
            raise ImageAddressError(f"{uri} is redirected from https to {target.scheme}, which is not followed")
        return target

    def _check(self, response: httpx.Response, uri: str, *, own: bool) -> None:
        status = response.status_code
        if status == httpx.codes.OK:
            length = response.headers.get("content-length", "")
            if length.isdigit() and int(length[:_MOST_DIGITS]) > self._max_bytes:
                raise self._too_large(uri)
            if coding := _coding(response):
                raise ImageUnavailableError(
                    f"{uri} comes compressed ({coding}), though it was not asked for so; store and serve it as it is"
                )
            return
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            advice = "the host wants a login of its own, or the link has run out"
            if own:
                advice = f"Label Studio says: {_words(response)}"
            if own and status == httpx.codes.UNAUTHORIZED:
                advice += f"; {_KEY_ADVICE}"
            kind = ImageLoginError if own else ImageUnauthorisedError
            raise kind(f"status {status} for {uri}: {advice}")
        if status in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
            raise ImageMissingError(f"{uri} does not exist (status {status}); was the file or its storage removed?")
        raise ImageUnavailableError(
            f"status {status} for {uri}" + ("; Label Studio answers so for uploads it does not have" if own else ""),
            retryable=status >= httpx.codes.INTERNAL_SERVER_ERROR or status == httpx.codes.TOO_MANY_REQUESTS,
        )

    def _body(self, response: httpx.Response, uri: str, deadline: Deadline) -> bytes:
        data = bytearray()
        # As it comes over the line: decoding could make gigabytes of it before they were counted.
        for chunk in response.iter_raw():
            data += chunk
            if len(data) > self._max_bytes:
                raise self._too_large(uri)
        # A file whose length was not announced ends like one that was cut off.
        if deadline.has_passed:
            raise _late(uri, deadline)
        if not data:
            raise ImageMissingError(f"{uri} is empty")
        return bytes(data)

    def _too_large(self, uri: str) -> ImageTooLargeError:
        return ImageTooLargeError(
            f"{uri} has more than {self._max_bytes} bytes; make the image smaller or raise INSPECTION_MAX_IMAGE_BYTES"
        )


def _late(uri: str, deadline: Deadline) -> ImageTimeoutError:
    return ImageTimeoutError(f"{uri} did not arrive within {deadline.seconds:g} s", retryable=True)


def _coding(response: httpx.Response) -> str:
    """How the body is packed on its way; empty where it is not."""
    named = (coding.strip().lower() for coding in response.headers.get("content-encoding", "").split(","))
    return ", ".join(coding for coding in named if coding in _CODINGS)[:80]


def _climbs(path: str) -> bool:
    """Whether some reader could take a path for one that leads out of its folder: by decoding once more than others, by
    backslashes, or by stopping at a NUL."""
    for _ in range(_MOST_DECODINGS):
        decoded = unquote(path)
        if decoded == path:
            return ".." in re.split(r"[/\\]", path) or any(ord(character) < ord(" ") for character in path)
        path = decoded
    return True


def _words(response: httpx.Response) -> str:
    """What Label Studio says to a refusal."""
    start = b"" if _coding(response) else next(response.iter_raw(_LONGEST_REFUSAL), b"")
    return message(httpx.Response(response.status_code, content=start))


_KEY_ADVICE = (
    "the token is missing, wrong or of a kind that is switched off; "
    "set INSPECTION_LABEL_STUDIO_API_KEY to a personal access token of Label Studio"
)
