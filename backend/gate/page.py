"""The gate's report as one HTML file: no script, nothing from elsewhere, fit for printing and signing."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from backend.gate.figures import rates_svg, reliability_svg
from inspection_models.gate.bounds import Bounds
from inspection_models.gate.changes import KINDS, WORSE
from inspection_models.gate.comparison import VERDICTS
from inspection_models.gate.explanations import FIGURES
from inspection_models.gate.resampling import FEWEST_GROUPS, RESAMPLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.gate.run import GateResult
    from inspection_models.gate import Answer, ComparedModel, GoldenImage
    from inspection_models.gate.comparison import PairedRate

_PACKAGES = ("inspection", "torch", "torchvision", "onnxruntime", "numpy", "opencv-python", "pillow")


def render_page(result: GateResult, report: str) -> str:
    """The page of a report whose JSON twin is `report`."""
    environment = Environment(
        loader=PackageLoader("backend.gate"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"share": _share, "number": _number, "difference": _difference, "data_uri": _data_uri}
    comparison, golden = result.comparison, result.golden
    return environment.get_template("gate.html").render(
        result=result,
        comparison=comparison,
        golden=golden,
        verdict=result.verdict,
        rules=result.request.rules,
        sides=(
            ("candidate", result.candidate, comparison.candidate),
            ("in service", result.service, comparison.service),
        ),
        groups=len({image.group for image in golden.images}),
        counts=sorted(Counter(label for image in golden.images for label in image.labels).items()),
        rates=_rates(result),
        verdicts=VERDICTS,
        outcomes_of=_verdict_counts,
        confusion_of=_confusion,
        figures=FIGURES,
        kinds=KINDS,
        worse=WORSE,
        changed=Counter(change.kind for change in comparison.changed),
        hidden=Counter(change.kind for change in comparison.changed[len(result.pictures) :]),
        rates_svg=rates_svg(comparison, result.request.rules),
        reliability_svg=reliability_svg,
        packages=[(name, result.software["packages"].get(name)) for name in _PACKAGES],
        report_sha256=hashlib.sha256(report.encode()).hexdigest(),
        resamples=RESAMPLES,
        fewest_groups=FEWEST_GROUPS,
    )


def _rates(result: GateResult) -> list[tuple[str, str, PairedRate]]:
    comparison = result.comparison
    rows = (
        ("escapes", "defects passed as good, of all defects", comparison.escapes),
        ("overkill", "good parts called defective, of all good parts", comparison.overkill),
        ("sent to review", "images left to a person, of all", comparison.review),
        ("right", "images whose classes were decided exactly, of those whose classes both know", comparison.right),
    )
    return [(name, what, rate) for name, what, rate in rows if rate is not None]


def _verdict_counts(answers: Sequence[Answer], images: Sequence[GoldenImage]) -> dict[bool, Counter[str]]:
    """Numbers of images by verdict, of sound (False) and defective (True) parts."""
    counts: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    for answer, image in zip(answers, images, strict=True):
        counts[image.defective][answer.verdict] += 1
    return counts


def _confusion(model: ComparedModel, images: Sequence[GoldenImage]) -> tuple[list[str], list[tuple[str, list[int]]]]:
    """Columns (decided) and rows (true) with numbers of images; an image of several classes counts for each pair."""
    counted = Counter(
        (true, decided)
        for answer, image in zip(model.answers, images, strict=True)
        for true in image.labels
        for decided in answer.labels
    )
    columns = list(model.classes)
    rows = sorted({label for image in images for label in image.labels})
    return columns, [(true, [counted[true, decided] for decided in columns]) for true in rows]


def _share(value: float | Bounds) -> str:
    if isinstance(value, Bounds):
        return f"{100 * value.value:.2f} % [{100 * value.low:.2f}, {100 * value.high:.2f}]"
    return f"{100 * value:.4g} %"


def _difference(value: Bounds) -> str:
    # No figure is "-0.00".
    parts = [f"{100 * one + 0.0:+.2f}" for one in (value.value, value.low, value.high)]
    return f"{parts[0]} [{parts[1]}, {parts[2]}]"


def _number(value: Any) -> str:
    if isinstance(value, Bounds):
        return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _data_uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
