"""The review that stands of each annotation, counted by the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, select

from db.schema import ReviewRow

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, Subquery
    from sqlalchemy.orm import InstrumentedAttribute


def standing_reviews(
    instance: str, *columns: ColumnElement[Any] | InstrumentedAttribute[Any], until: datetime | None = None
) -> Subquery:
    """These columns of a Label Studio's reviews that stand, as in db.reviews.latest_for_annotation; none of a deleted
    annotation. With `until`, those that stood for all that had been received by then."""
    place = func.row_number().over(
        partition_by=ReviewRow.annotation_id,
        order_by=(
            case((ReviewRow.action == "deleted", 0), else_=1),
            ReviewRow.annotation_updated_at.desc().nulls_last(),
            ReviewRow.received_at.desc(),
            ReviewRow.review_id.desc(),
        ),
    )
    ranked = (
        select(*columns, ReviewRow.action.label("last_action"), place.label("place"))
        .where(ReviewRow.instance == instance, *([ReviewRow.received_at <= until] if until is not None else []))
        .subquery()
    )
    wanted = (column for column in ranked.c if column.name not in ("place", "last_action"))
    return select(*wanted).where(ranked.c.place == 1, ranked.c.last_action != "deleted").subquery()
