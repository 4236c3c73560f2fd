"""The program `inspection`: one command a module, heavy imports inside the command that needs them."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 failed, 2 wrong use."""
    # Read when torch is imported, so it must be set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from backend.cli.program import run  # noqa: PLC0415

    sys.exit(run(sys.argv[1:]))
