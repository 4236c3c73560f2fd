"""When two addresses name the same image: as a task's data has it, and as Label Studio's pages write it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from urllib.parse import parse_qs, unquote, unquote_to_bytes

BUCKET_SCHEMES = ("s3", "gs", "azure-blob", "azure_spi", "dbfs")
_OPENED = re.compile(r"(?:https?://[^/?#]*)?(?:/[^?#]*)?/(?:tasks|projects)/[0-9]+/(?:resolve|presign)/?\?([^#]*)")


def is_in_bucket(address: str) -> bool:
    """Whether an address names an object in a bucket, which Label Studio opens."""
    scheme, mark, _ = address.partition("://")
    return bool(mark) and scheme.lower() in BUCKET_SCHEMES


def as_in_task(address: str) -> str:
    """The address in a bucket that a page's link to Label Studio stands for; any other address as it is."""
    opened = _OPENED.fullmatch(address.strip())
    code = parse_qs(opened[1]).get("fileuri", [""])[0] if opened is not None else ""
    try:
        named = base64.urlsafe_b64decode(code.encode()).decode()
    except (binascii.Error, ValueError):
        named = unquote(code)
    return named if is_in_bucket(named) else address.strip()


def address_sha256(address: str) -> str:
    """SHA-256 in hex of what of an address names the image, the same however browsers write it.

    User, password and fragment do not count, so that nobody can try passwords against what is kept; the query does, as
    servers tell files apart by it. What signs a link is too long to be found from a hash.
    """
    named = as_in_task(address)
    if is_in_bucket(named):
        return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()
    scheme, mark, rest = named.partition("#")[0].strip().partition("://")
    if mark and "/" not in scheme and "?" not in scheme:
        host = re.match(r"[^/?]*", rest)
        assert host is not None  # noqa: S101 - matches anything
        named = f"{scheme.lower()}://{host[0].rpartition('@')[2].lower()}{rest[host.end() :]}"
    else:
        named = named.partition("#")[0]
    # Browsers write some letters of a query as percent signs and digits.
    return hashlib.sha256(unquote_to_bytes(named.encode("utf-8", "surrogatepass")).strip()).hexdigest()
