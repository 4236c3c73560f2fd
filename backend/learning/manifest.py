"""Which reviews a model learned from: a table that stands beside it, and whose hash its card names."""

from __future__ import annotations

import csv
import hashlib
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backend.learning.verdicts import Verdict

MANIFEST_FILE = "reviews.csv"
_HEADER = ("image_sha256", "label", "review_id", "project_id")


def manifest_csv(verdicts: Iterable[Verdict]) -> bytes:
    """A line for each image, class and review that says so, sorted."""
    lines = sorted(
        (verdict.image.sha256, label, str(review.review_id), str(review.project_id))
        for verdict in verdicts
        for label in verdict.labels
        for review in verdict.reviews
    )
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows(lines)
    return text.getvalue().encode()


def manifest_sha256(manifest: bytes) -> str:
    """What the card says of a manifest."""
    return hashlib.sha256(manifest).hexdigest()
