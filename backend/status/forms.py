"""What lets a form of ours change something: a token that only our page shows, and the page's own origin.

A browser sends user and password along by itself, whoever made the form. What another site cannot do is read our page,
where the token stands, nor claim to be it.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LIFETIME_SECONDS = 12 * 3600


class FormTokens:
    """Makes tokens for one purpose out of the first of the desk's passwords, and takes those of the others as well.

    All processes with a password know each other's.
    """

    def __init__(self, passwords: Sequence[str], purpose: str, *, clock: Callable[[], float] = time.time) -> None:
        made_for = f"form token: {purpose}".encode()
        self._keys = [hmac.digest(password.encode(), made_for, hashlib.sha256) for password in passwords]
        self._clock = clock

    def new(self) -> str:
        """A token, good for twelve hours."""
        made_at = str(int(self._clock()))
        return f"{made_at}.{_sign(self._keys[0], made_at)}"

    def is_good(self, token: str) -> bool:
        """Whether this is a token of ours that has not run out."""
        made_at, _, signature = token.partition(".")
        signs = [hmac.compare_digest(signature.encode(), _sign(key, made_at).encode()) for key in self._keys]
        return any(signs) and 0 <= self._clock() - int(made_at) <= _LIFETIME_SECONDS


def is_from_here(headers: Mapping[str, str], public_url: str | None) -> bool:
    """Whether a browser says that a form was sent from a page of this very host and port, or of the desk's own address
    as browsers reach it."""
    origin = headers.get("origin", "")
    if not origin or origin == "null":
        return False
    # The scheme is left out: behind a proxy that ends TLS it is another one here.
    return urlsplit(origin).netloc == headers.get("host", "") or (
        public_url is not None and origin.lower() == _origin(public_url)
    )


def _sign(key: bytes, made_at: str) -> str:
    return hmac.new(key, made_at.encode(), hashlib.sha256).hexdigest()


def _origin(url: str) -> str:
    """Of an address what a browser tells as its origin: without the scheme's own port."""
    parts = urlsplit(url.lower())
    own_port = {"http": 80, "https": 443}.get(parts.scheme)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, own_port) else "")
