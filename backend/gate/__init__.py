"""The gate before release as a user meets it: two model directories in, a report with a verdict out."""

from backend.gate.page import render_page
from backend.gate.report import report_json
from backend.gate.run import GateRequest, GateResult, run_gate

__all__ = ["GateRequest", "GateResult", "render_page", "report_json", "run_gate"]
