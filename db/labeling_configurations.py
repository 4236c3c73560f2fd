"""Labeling configurations that predictions were made for, each kept once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.inserting import insert_once
from db.schema import LabelingConfigurationRow
from db.types import utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def register(session: Session, sha256: str, content: str) -> None:
    """Keep a configuration unless it is known.

    Args:
        sha256: of the configuration as Label Studio has it, by which predictions name it.
        content: its XML, without what must not be kept.
    """
    if session.get(LabelingConfigurationRow, sha256) is None:
        values = {"sha256": sha256, "content": content, "created_at": utc_now()}
        insert_once(session, LabelingConfigurationRow, values)


def find(session: Session, sha256: str) -> str | None:
    """A configuration's XML by its hash; None where it was not kept."""
    row = session.get(LabelingConfigurationRow, sha256)
    return None if row is None else row.content
