"""Addresses as they may be kept: without what would let a reader in."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from sqlalchemy import URL

# Query fields that name the file itself where storage is served through one path.
_NAMES_THE_FILE = frozenset({"d", "fileuri"})
# What of a database URL's options says where the server is; among the others there are passwords.
_NAMES_THE_SERVER = frozenset({"host", "port"})


def redact_database_url(url: URL) -> str:
    """A database URL without its password and without options that could hold another."""
    options = {name: value for name, value in url.query.items() if name in _NAMES_THE_SERVER}
    return url.set(query=options).render_as_string(hide_password=True)


def redact_uri(uri: str) -> str:
    """A URI without user, password and fragment, and with only such query values as name the file.

    Signatures and tokens of presigned links go, their field names stay. Of a `data:` URI its media type stays.
    """
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        if ":" in host:
            host = f"[{host}]"
        network = host if parts.port is None else f"{host}:{parts.port}"
        fields = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return "(unreadable address)"
    if parts.scheme == "data":
        return f"data:{parts.path.partition(',')[0].partition(';')[0]}"
    query = "&".join(
        f"{quote(name)}={quote(value, safe='/') if name in _NAMES_THE_FILE else '***'}" for name, value in fields
    )
    return urlunsplit((parts.scheme, network, parts.path, query, ""))
