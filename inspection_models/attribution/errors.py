"""What can go wrong when a decision is explained."""

from __future__ import annotations


class AttributionError(ValueError):
    """The explanation asked for cannot be made; the message says why and what to change."""


class NetworkError(AttributionError):
    """The network, or the input it was given, does not allow an explanation."""
