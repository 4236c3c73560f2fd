"""What a figure was measured on."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from inspection_models.environment import environment

_PEERS = ("grad-cam", "torchcam", "captum", "timm", "scikit-learn")


def described(device: str = "cpu") -> dict[str, Any]:
    """Processor, cores, threads and the versions of what ran."""
    surroundings = environment(device)
    packages = {name: found for name, found in surroundings["packages"].items() if found} | {
        name: found for name in _PEERS if (found := _version(name))
    }
    return {
        "cpu": surroundings["cpu"]["model"],
        "cores": os.cpu_count(),
        "threads": surroundings["torch_threads"],
        "python": surroundings["python"],
        "accelerator": surroundings["accelerator"],
        "packages": packages,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
