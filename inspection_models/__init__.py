"""The eye: networks, training, attribution, regions, metrics and data sets.

Knows torch; knows no HTTP, SQL or Label Studio.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# OpenMP threads that spin while they wait slow a shared two-core machine down by an order of magnitude; read when torch
# is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from inspection_models.classifier import DefectClassifier

__all__ = ["DefectClassifier"]


def __getattr__(name: str) -> Any:
    """Import the classifier, and torch with it, only when it is asked for."""
    if name == "DefectClassifier":
        from inspection_models.classifier import DefectClassifier  # noqa: PLC0415

        return DefectClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
