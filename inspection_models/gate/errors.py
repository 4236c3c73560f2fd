"""What can go wrong when two models are compared."""

from __future__ import annotations


class GateError(ValueError):
    """The comparison cannot be made, or its rules cannot be read; the message says why and what to change."""
