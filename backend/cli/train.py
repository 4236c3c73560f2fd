"""`inspection train`: from a folder of labelled photographs to a calibrated, measured model directory."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from rich.console import Console

from backend.cli.progress import counting
from backend.cli.risks import USUAL_CONFIDENCE, Confidence, Errors, Escapes, Overkill, stated_risks

if TYPE_CHECKING:
    from backend.learning.lesson_set import LessonRequest
    from inspection_models.data import Dataset
    from inspection_models.training import TrainingReport, TrainingRequest


# Wide enough for the tables where the output goes to a file.
_WIDTH_OF_A_FILE = 120


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("train")(train_model)


def train_model(
    data: Annotated[Path | None, typer.Option("--data", help="Folder with the labelled photographs.")] = None,
    from_reviews: Annotated[
        bool, typer.Option("--from-reviews", help="Learn from what inspectors said, beside --data or without it.")
    ] = False,
    projects: Annotated[
        list[int] | None, typer.Option("--project", help="With --from-reviews: of these Label Studio projects alone.")
    ] = None,
    hold_out: Annotated[
        list[Path] | None,
        typer.Option("--hold-out", help="With --from-reviews: a folder of photographs that nothing is learned from."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="With --from-reviews: train though no review is new since the last time.")
    ] = False,
    training: Annotated[str | None, typer.Option("--training", hidden=True)] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Model directory to write.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be read, and train nothing; needs no --out.")
    ] = False,
    layout: Annotated[
        str | None,
        typer.Option("--layout", help="csv, coco, yolo, … (docs/data-sets.md); told by itself if left out."),
    ] = None,
    good_class: Annotated[
        str | None, typer.Option("--good-class", help="Class without a defect; told by its name if left out.")
    ] = None,
    network: Annotated[
        str, typer.Option("--network", help="efficientnet-lite0, or a torchvision network by its name.")
    ] = "efficientnet-lite0",
    weights: Annotated[Path | None, typer.Option("--weights", help="Local weights to start from.")] = None,
    weights_are: Annotated[
        str,
        typer.Option(
            "--weights-are", help="imagenet: --weights learned from many photographs; other: all layers learn."
        ),
    ] = "imagenet",
    size: Annotated[int, typer.Option("--size", min=32, help="Side of the network's input, in pixels.")] = 224,
    letterbox: Annotated[
        bool, typer.Option("--letterbox/--resize", help="Keep the image's proportions, or stretch it.")
    ] = True,
    tiling: Annotated[
        str,
        typer.Option(
            "--tiling",
            help="Look at large images in tiles: auto, off, or the tiles' longer side in image pixels.",
            metavar="auto|off|PIXELS",
        ),
    ] = "auto",
    flips: Annotated[
        bool, typer.Option("--flips/--no-flips", help="Whether a mirrored image may show the same part.")
    ] = True,
    explanation: Annotated[
        str, typer.Option("--explanation", help="Attribution method for the model's decisions: quorum, sise, …")
    ] = "quorum",
    marks: Annotated[
        bool, typer.Option("--marks/--no-marks", help="Learn from masks and boxes, too, where the data has them.")
    ] = True,
    epochs: Annotated[int, typer.Option("--epochs", min=0, help="Passes over the training part at most.")] = 12,
    whole_epochs: Annotated[
        int, typer.Option("--whole-epochs", min=0, help="So many of them, the last, in which all layers learn.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of split, weights, augmentation and order.")] = 0,
    escapes: Escapes = None,
    overkill: Overkill = None,
    errors: Errors = None,
    confidence: Confidence = USUAL_CONFIDENCE,
    name: Annotated[str, typer.Option("--name", help="Of the model; the directory's name if left out.")] = "",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")] = "cpu",
    precision: Annotated[
        str, typer.Option("--precision", help="auto, float32, bfloat16 or float16; auto is mixed on a GPU.")
    ] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is in --out.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away the checkpoint of a broken training with the same --out.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> int:
    """Train, calibrate and measure a classifier."""
    if data is None and not from_reviews:
        raise typer.BadParameter("--data is missing: say where labelled photographs are, or give --from-reviews")
    if not from_reviews and (projects or hold_out or again):
        raise typer.BadParameter("--project, --hold-out and --again are for --from-reviews")
    if out is None and not dry_run:
        raise typer.BadParameter("--out is missing: say where the model is to be written, or give --dry-run")
    reviewed = None
    if from_reviews:
        from backend.learning.lesson_set import LessonRequest  # noqa: PLC0415

        chosen = tuple(projects) if projects else None
        reviewed = LessonRequest(chosen, data, layout, good_class, tuple(hold_out or ()))
    if dry_run:
        if reviewed is not None:
            from backend.cli.train_from_reviews import show_lessons  # noqa: PLC0415

            return show_lessons(reviewed, seed, as_json=as_json)
        assert data is not None  # noqa: S101 - as there are no reviews
        return _show_data(data, layout, good_class, seed, as_json=as_json)
    assert out is not None  # noqa: S101 - as this is no dry run
    from inspection_models.networks import network_names  # noqa: PLC0415
    from inspection_models.training import TrainingRequest  # noqa: PLC0415

    request = TrainingRequest(
        data=data or Path(),
        output=out,
        name=name,
        layout=layout,
        good_class=good_class,
        architecture=network,
        weights=weights,
        weights_are=cast("Any", weights_are),
        size=(size, size),
        mode="letterbox" if letterbox else "resize",
        tiling=_tiling(tiling),
        flips=flips,
        explanation=explanation,
        marks=marks,
        epochs=epochs,
        whole_epochs=whole_epochs,
        seed=seed,
        risks=stated_risks(escapes, overkill, errors, confidence),
        overwrite=overwrite,
        restart=restart,
        device=device,
        precision=cast("Any", precision),
    )
    if request.begins_at_random and network in network_names():
        Console(stderr=True).print(
            f"{network} begins at random, which a few hundred photographs do not make up for; "
            "give --weights, ImageNet's for example, if you have them",
            style="yellow",
            highlight=False,
        )
    report = _train(request, reviewed, training, again=again)
    if as_json:
        typer.echo(json.dumps(_summary(report), indent=2))
    else:
        _print(report, Console())
        if reviewed is not None:
            typer.echo("it waits at the gate: `inspection models activate` puts it in use")
    return 0


def _train(
    request: TrainingRequest, reviewed: LessonRequest | None, training: str | None, *, again: bool
) -> TrainingReport:
    from backend.training_progress import describe  # noqa: PLC0415

    if reviewed is not None:
        from backend.cli.train_from_reviews import train_from_reviews  # noqa: PLC0415

        return train_from_reviews(request, reviewed, training, again=again)
    from inspection_models.training import train  # noqa: PLC0415

    with counting("starting", stays=True) as tell:
        return train(request, progress=lambda event: tell(describe(event), event.done, event.total))


def _show_data(data: Path, layout: str | None, good_class: str | None, seed: int, *, as_json: bool) -> int:
    """Show what a training would read; 1 where it could not be split."""
    from inspection_models.data import load_dataset  # noqa: PLC0415

    with counting("looking at photographs") as tell:
        dataset = load_dataset(
            data,
            layout=layout,
            good_class=good_class,
            progress=partial(tell, "looking at photographs"),
        )
    return show_dataset(dataset, seed, as_json=as_json)


def show_dataset(
    dataset: Dataset,
    seed: int,
    *,
    as_json: bool,
    held: frozenset[str] = frozenset(),
    more: dict[str, Any] | None = None,
) -> int:
    """Show what a training would learn from, with `more` of it in JSON; 1 where it could not be split."""
    from backend.cli.data_tables import print_data  # noqa: PLC0415
    from inspection_models.data import DatasetError, split_dataset, summarise  # noqa: PLC0415

    split, problem = None, ""
    try:
        split = split_dataset(dataset, seed=seed, held=held)
    except DatasetError as error:
        problem = str(error)
    summary = {**summarise(dataset, split), "problem": problem or None, **(more or {})}
    if as_json:
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        print_data(summary, Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE))
    if problem:
        typer.echo(f"error: {problem}", err=True)
    return 1 if problem else 0


def _tiling(asked: str) -> Literal["auto", "off"] | int:
    if asked == "auto":
        return "auto"
    if asked == "off":
        return "off"
    if not asked.isdecimal():
        raise typer.BadParameter(f"--tiling is {asked!r}; it takes auto, off or a number of pixels")
    return int(asked)


def _summary(report: TrainingReport) -> dict[str, Any]:
    version = report.classifier.version
    return {
        "model": str(report.output),
        "name": version.name,
        "version": version.version,
        "classes": list(report.classifier.classes),
        "good_class": report.classifier.good_class,
        "counts": report.counts,
        "origins": [asdict(origin) for origin in report.classifier.card.origins],
        "test": report.test.to_dict(),
        "validation": report.validation.to_dict(),
        "notes": list(report.notes),
        "tiling": report.tiling.to_dict(),
        "seconds": round(report.seconds, 1),
    }


def _print(report: TrainingReport, console: Console) -> None:
    from backend.cli.evaluation_tables import print_decisions, print_lines  # noqa: PLC0415

    for epoch in report.continued_after:
        console.print(f"went on after epoch {epoch}, where the training had been broken off", highlight=False)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, markup=False, style="yellow")
    for line in report.ignored:
        console.print(f"left out: {line}", highlight=False, style="yellow")
    console.print(report.tiling.reason, highlight=False)
    print_lines(report.classifier.card, console)
    print_decisions(report.test, "test", console)
    console.print(
        f"model {report.classifier.version} written to {report.output} in {report.seconds:.0f} s", highlight=False
    )
