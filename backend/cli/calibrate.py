"""`inspection calibrate`: from fresh photographs to a new version of a model, with lines that keep a stated risk."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from backend.cli.progress import counting
from backend.cli.risks import USUAL_CONFIDENCE, Confidence, Errors, Escapes, Overkill, stated_risks

if TYPE_CHECKING:
    from inspection_models.training import CalibrationReport

_WIDTH_OF_A_FILE = 120


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("calibrate")(calibrate_model)


def calibrate_model(
    model: Annotated[Path, typer.Argument(help="Model directory to calibrate; it stays as it is.")],
    data: Annotated[Path, typer.Option("--data", help="Folder with labelled photographs that it has not seen.")],
    out: Annotated[Path, typer.Option("--out", help="Model directory to write.")],
    part: Annotated[
        Literal["test", "validation", "train", "all"] | None,
        typer.Option("--part", help="Part of the data; the test part of the model's own, all of others if left out."),
    ] = None,
    escapes: Escapes = None,
    overkill: Overkill = None,
    errors: Errors = None,
    confidence: Confidence = USUAL_CONFIDENCE,
    layout: Annotated[
        str | None, typer.Option("--layout", help="Of the data; told by itself if left out, see `train`.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON report.")] = False,
) -> int:
    """Make a new version of a model that keeps a stated risk, shown on photographs that it has not seen.

    What the data cannot show is refused, with what would be needed. With no risk stated, the probabilities are
    calibrated anew and the usual lines drawn.
    """
    from inspection_models.training import CalibrationRequest, calibrate  # noqa: PLC0415

    request = CalibrationRequest(
        model=model,
        data=data,
        output=out,
        part=part,
        layout=layout,
        risks=stated_risks(escapes, overkill, errors, confidence),
        overwrite=overwrite,
        device=device,
    )
    with counting("deciding") as tell:
        report = calibrate(request, partial(tell, "deciding"))
    if as_json:
        typer.echo(json.dumps(_summary(report), indent=2, ensure_ascii=False))
    else:
        _print(report, request.risks.confidence, Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE))
    return 0


def _summary(report: CalibrationReport) -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415

    return {
        "model": str(report.output),
        "version": asdict(report.classifier.version),
        "from": asdict(report.before.version),
        "thresholds": asdict(report.classifier.thresholds),
        "origins": [asdict(origin) for origin in report.classifier.card.origins],
        "before": report.figures_before.to_dict(),
        "after": report.figures.to_dict(),
        "offers": [
            {
                "rate": offer.rate,
                "refused": offer.refused,
                "evaluation": None if offer.evaluation is None else offer.evaluation.to_dict(),
            }
            for offer in report.offers
        ],
        "notes": list(report.notes),
    }


def _print(report: CalibrationReport, confidence: float, console: Console) -> None:
    from backend.cli.evaluation_tables import print_decisions, print_lines, print_offers  # noqa: PLC0415

    for note in report.notes:
        console.print(f"note: {note}", style="yellow", highlight=False)
    print_lines(report.classifier.card, console)
    print_decisions(report.figures, "calibration", console)
    print_offers(report.offers, confidence, console)
    before, now = report.figures_before.alone.review, report.figures.alone.review
    console.print(
        f"sent to review: {now.count} of {now.of}, by the former version {before.count}; "
        f"{report.before.version} became {report.classifier.version}, written to {report.output}",
        highlight=False,
        soft_wrap=True,
    )
