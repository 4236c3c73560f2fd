"""How forward passes are computed: settings of the process that change a result's bits."""

from __future__ import annotations

import torch


def use_threads(threads: int) -> None:
    """Compute with this many threads from now on: sums are split by threads, so another number gives other bits."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
