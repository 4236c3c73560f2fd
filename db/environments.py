"""Environments that decisions were computed in, each kept once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.inserting import insert_once
from db.keys import canonical_sha256
from db.schema import EnvironmentRow
from db.types import utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.records import JsonObject


def register(session: Session, content: JsonObject) -> str:
    """Keep an environment unless it is known, and answer with the hash it is known by.

    Raises:
        CanonicalJsonError: the content is no JSON.
    """
    sha256 = canonical_sha256(content)
    if session.get(EnvironmentRow, sha256) is None:
        insert_once(session, EnvironmentRow, {"sha256": sha256, "content": content, "created_at": utc_now()})
    return sha256
