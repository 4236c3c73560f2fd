"""Column types: instants in UTC, JSON in its canonical form, identifiers that sort by time."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import uuid6
from sqlalchemy import DateTime, Text
from sqlalchemy.types import TypeDecorator

from db.keys import canonical_json, read_canonical_json

if TYPE_CHECKING:
    from sqlalchemy import Dialect


def utc_now() -> datetime:
    """This instant, in UTC, to the microsecond."""
    return datetime.now(timezone.utc)


def new_id() -> uuid.UUID:
    """A fresh identifier that sorts by its time of making (UUID version 7, RFC 9562)."""
    return uuid.UUID(int=uuid6.uuid7().int)


class UtcDateTime(TypeDecorator[datetime]):
    """An instant with microseconds, UTC going in and out. SQLite keeps it as text without a zone.

    Raises:
        ValueError: an instant without a time zone is bound.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; without the zone where the database keeps none."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"instant {value.isoformat()} has no time zone; give it in UTC")
        utc = value.astimezone(timezone.utc)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To an aware instant in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if dialect.name == "sqlite" else value.astimezone(timezone.utc)


class CanonicalJson(TypeDecorator[Any]):
    """A JSON value kept as RFC 8785 canonical text, so that its hash can be taken again from what is stored.

    None is NULL, not JSON's null. For what becomes of numbers see db.keys.read_canonical_json.

    Raises:
        CanonicalJsonError: the value has no canonical form.
    """

    impl = Text()
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """To canonical text."""
        return None if value is None else canonical_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """To Python objects."""
        return None if value is None else read_canonical_json(value)


class FreeText(TypeDecorator[str]):
    """Text from outside, for people to read. What PostgreSQL or UTF-8 cannot hold becomes a replacement character."""

    impl = Text()
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """To text without NUL and lone surrogates."""
        return None if value is None else value.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
