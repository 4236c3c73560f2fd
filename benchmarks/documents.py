"""Which tables stand in which document, by the name of the report that each is made from."""

from __future__ import annotations

from pathlib import Path

from benchmarks.explanation_tables import parts_table, sanity_table
from benchmarks.gate_tables import gate_table
from benchmarks.quality_tables import everything, summary
from benchmarks.region_tables import region_table
from benchmarks.speed_tables import speed_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
MEASURED = ROOT / "docs" / "benchmarks.md"
EXPLANATIONS = ROOT / "docs" / "explanations.md"
REGIONS = ROOT / "docs" / "regions.md"
RELEASE = ROOT / "docs" / "release.md"

TABLES = {
    README: {"attribution-speed": speed_table, "explanation-quality": summary},
    MEASURED: {"explanation-quality": everything},
    EXPLANATIONS: {"quorum-parts": parts_table, "explanation-sanity": sanity_table},
    REGIONS: {"region-overlap": region_table},
    RELEASE: {"release-gate": gate_table},
}
PUBLISHED = frozenset(name for tables in TABLES.values() for name in tables)
