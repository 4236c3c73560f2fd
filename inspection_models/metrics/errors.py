"""What can go wrong when an explanation is measured."""

from __future__ import annotations


class MetricError(ValueError):
    """The figure asked for cannot be computed; the message says why and what to change."""
