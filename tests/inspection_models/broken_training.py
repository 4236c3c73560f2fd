"""A training in a process of its own that ends itself, as a kill would, in the middle of an epoch."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

import torch

from inspection_models.training import TrainingEvent, TrainingRequest, train


def request_of(data: Path, output: Path, architecture: str, precision: str) -> TrainingRequest:
    return TrainingRequest(
        data=data,
        output=output,
        name="shades",
        architecture=architecture,
        size=(48, 48),
        epochs=3,
        batch_size=8,
        seed=7,
        precision=precision,  # type: ignore[arg-type]
    )


def main(data: str, output: str, architecture: str, precision: str, how: str) -> None:
    torch.set_num_threads(1)

    def watch(event: TrainingEvent) -> None:
        if event.phase == "epoch" and event.epoch == 2 and 0 < event.done < event.total:
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            # From here on no file may grow beyond this, as on a full disk.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    train(request_of(Path(data), Path(output), architecture, precision), watch)


if __name__ == "__main__":
    main(*sys.argv[1:])
