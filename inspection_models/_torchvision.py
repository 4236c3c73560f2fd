"""The one door through which torchvision comes in.

Beside a CPU build of torch, the PyPI build of torchvision cannot load its native operators (they link against CUDA)
and its first import then fails for want of the operators' declarations. This module declares them in that case, before
that first import; where the native operators load it changes nothing. Networks and transforms work either way; calling
such an operator without its native kernel still raises torchvision's own error.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _native_operators_load() -> bool:
    """Whether torchvision's extension can be loaded here. Loading it twice, here and in torchvision, does no harm."""
    if sys.platform == "win32":  # its libraries are found only after torchvision has prepared the search path
        return True
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ImportError("torchvision is not installed: install the project with its dependencies")
    library = Path(spec.origin).with_name("_C.so")
    try:
        torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return True


def _declare_operators() -> torch.library.Library:
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _OPERATORS:
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


NATIVE_OPERATORS = _native_operators_load()
# The declarations last as long as this object does.
_DECLARATIONS = None if NATIVE_OPERATORS or "torchvision" in sys.modules else _declare_operators()

import torchvision  # noqa: E402
from torchvision import models  # noqa: E402

__all__ = ["NATIVE_OPERATORS", "models", "torchvision"]
