"""The environment fingerprint: what besides image, model and settings could change a decision's bits."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "inspection",
    "torch",
    "torchvision",
    "onnxruntime",
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "pillow",
)
# Instruction sets that the numerical kernels choose their code path by.
_RELEVANT_CPU_FLAGS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")


def environment(device: str = "cpu") -> dict[str, Any]:
    """Versions, processor and numerical settings of this process, as a JSON-able mapping with stable keys.

    Args:
        device: torch's name of where the model computes.
    """
    import torch  # noqa: PLC0415
    from PIL import features  # noqa: PLC0415

    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": _processor(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "torch_build": torch.__version__,
        "jpeg_decoder": str(features.version("libjpeg_turbo") or features.version("jpg")),
        "zlib": str(features.version("zlib")),
        "torch_threads": torch.get_num_threads(),
        "device": device,
        "accelerator": _accelerator(device),
    }


def _accelerator(device: str) -> dict[str, Any] | None:
    import torch  # noqa: PLC0415

    if not device.startswith("cuda"):
        return None
    return {
        "name": torch.cuda.get_device_name(device),
        "cuda": torch.version.cuda,
        "cudnn": str(getattr(torch.backends.cudnn, "version", lambda: None)()),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {"model": platform.processor(), "flags": []}
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return {
        "model": fields.get("model name", platform.machine()),
        "flags": [f for f in _RELEVANT_CPU_FLAGS if f in flags],
    }
