"""`python -m benchmarks [NAME …]`: run benchmarks by name; without a name, all of them."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

BENCHMARKS = {
    "desk-on-magnetic-tile": "benchmarks.desk_on_magnetic_tile",
    "convolutional-blocks": "benchmarks.convolutional_blocks",
}


def main() -> int:
    """Run them and write one JSON report each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--out", type=Path, default=Path(".inspection/benchmarks"), help="folder for reports")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    for name in arguments.names or BENCHMARKS:
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        report = importlib.import_module(BENCHMARKS[name]).run(folder)
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(json.dumps(report, indent=2))
    return 0


sys.exit(main())
