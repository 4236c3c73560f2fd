"""`python -m benchmarks [NAME …]`: run benchmarks by name; without a name, all of them."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

from benchmarks.documents import PUBLISHED, RESULTS, TABLES
from benchmarks.tables import write_tables

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

BENCHMARKS = {
    "desk-on-magnetic-tile": "benchmarks.desk_on_magnetic_tile",
    "training-accuracy": "benchmarks.training_accuracy",
    "convolutional-blocks": "benchmarks.convolutional_blocks",
    "attribution-speed": "benchmarks.attribution_speed",
    "explanation-quality": "benchmarks.explanation_quality",
    "explanation-figures": "benchmarks.explanation_figures",
    "explanation-sanity": "benchmarks.explanation_sanity",
    "quorum-parts": "benchmarks.quorum_parts",
    "large-images": "benchmarks.large_images",
    "defect-size": "benchmarks.defect_size",
    "region-overlap": "benchmarks.region_overlap",
    "release-gate": "benchmarks.release_gate",
    "predicting-in-bulk": "benchmarks.predicting_in_bulk",
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
        content = json.dumps(report, indent=2) + "\n"
        (folder / "report.json").write_text(content, encoding="utf-8")
        print(content)
        if name in PUBLISHED and not report.get("narrowed"):
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{name}.json").write_text(content, encoding="utf-8")
            for document, tables in TABLES.items():
                write_tables(document, RESULTS, tables)
    return 0


sys.exit(main())
