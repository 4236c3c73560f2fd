"""`inspection evaluate`: how well a model decides or explains, and whether it may replace another."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from backend.cli.gate import GateOptions, run_command
from backend.cli.progress import counting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inspection_models.metrics import ExplanationReport
    from inspection_models.training import Evaluation

# Wide enough for the tables where the output goes to a file.
_WIDTH_OF_A_FILE = 120


def _print_default_rules(wanted: bool) -> None:
    if wanted:
        from inspection_models.gate import default_rules  # noqa: PLC0415

        typer.echo(default_rules(), nl=False)
        raise typer.Exit


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("evaluate")(evaluate_model)


def evaluate_model(
    model: Annotated[Path, typer.Argument(help="Model directory (weights.safetensors and model.json).")],
    data: Annotated[Path, typer.Option("--data", help="Folder with the labelled photographs.")],
    explanations: Annotated[
        bool, typer.Option("--explanations", help="Measure explanations; needs masks or boxes of the defects.")
    ] = False,
    methods: Annotated[
        str | None, typer.Option("--methods", help="Methods and controls, separated by commas; all if left out.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Explain at most so many images, evenly over the classes.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Model in service: compare with it and say whether to release.")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option("--rules", help="Rules of release (TOML); the product's own if left out.")
    ] = None,
    pictures: Annotated[
        int | None, typer.Option("--pictures", min=0, help="Draw at most so many images that changed sides.")
    ] = None,
    default_rules: Annotated[  # noqa: ARG001
        bool,
        typer.Option(
            "--default-rules", is_eager=True, callback=_print_default_rules, help="Print the product's rules and exit."
        ),
    ] = False,
    part: Annotated[
        Literal["test", "validation", "train", "all"] | None,
        typer.Option(
            "--part",
            help="Part of the data, split as for the model's training: test if left out; with --against what neither "
            "model has seen, or all.",
        ),
    ] = None,
    layout: Annotated[
        str | None, typer.Option("--layout", help="csv, coco, yolo, … (docs/data-sets.md); told by itself if left out.")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of drawing images, of the order of tied pixels and of the intervals.")
    ] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON report instead of tables.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the JSON report to this file, too; with --against the folder of the report."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a gate's report that is in --out.")] = False,
) -> int:
    """Measure a model on a data set: its decisions or, with --explanations, its explanations by every method.

    Explained are the rightly decided images whose defect is marked, each for its true class. The JSON report holds the
    figures of every image, so that others can take their own intervals.

    With --against two versions are compared and judged by the rules: gate.html, gate.json and rules.toml are written,
    and the exit status is 0 for release, 1 for not.
    """
    if against is not None:
        _check_pair(part, one_model=explanations or methods is not None)
        given = GateOptions(model, against, data, rules, out, layout, limit, pictures, seed, device)
        return run_command(given, with_seen=part == "all", as_json=as_json, overwrite=overwrite)
    _check_alone({"--rules": rules is not None, "--pictures": pictures is not None, "--overwrite": overwrite})
    part = part or "test"
    from backend.cli.evaluation_tables import print_decisions, print_explanations  # noqa: PLC0415
    from inspection_models import DefectClassifier  # noqa: PLC0415
    from inspection_models.data import load_dataset  # noqa: PLC0415
    from inspection_models.environment import environment  # noqa: PLC0415
    from inspection_models.metrics import (  # noqa: PLC0415
        EvaluationSettings,
        ExplanationReport,
        choose_part,
        evaluate_explanations,
    )
    from inspection_models.training import evaluate  # noqa: PLC0415

    if not explanations and (methods is not None or limit is not None):
        raise typer.BadParameter("--methods and --limit are about explanations: give --explanations with them")
    settings = EvaluationSettings(methods=_checked(methods), limit=limit, seed=seed)
    classifier = DefectClassifier.load(model, device=device)
    # Which class is good is the model's to say, not the data set's.
    dataset = load_dataset(data, layout=layout, good_class="")
    chosen = choose_part(classifier.card, dataset, part)
    result: Evaluation | ExplanationReport
    with counting("starting") as tell:
        if explanations:
            result = evaluate_explanations(classifier, chosen.samples, settings, progress=tell)
        else:
            result = evaluate(classifier, chosen.samples, partial(tell, "deciding"))
    report = {
        "part": part,
        "notes": list(chosen.notes),
        "data_sha256": dataset.sha256,
        "environment": environment(device),
        **result.to_dict(),
    }
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    if as_json:
        typer.echo(text, nl=False)
        return 0
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)
    for note in chosen.notes:
        console.print(f"note: {note}", style="yellow", highlight=False)
    if isinstance(result, ExplanationReport):
        print_explanations(result, part, console)
    else:
        print_decisions(result, part, console)
    return 0


def _check_pair(part: str | None, *, one_model: bool) -> None:
    if one_model:
        raise typer.BadParameter("--explanations and --methods are about one model: leave --against out")
    if part not in (None, "all"):
        raise typer.BadParameter("with --against give --part all, or leave it out for what neither model has seen")


def _check_alone(given: Mapping[str, bool]) -> None:
    for name, is_given in given.items():
        if is_given:
            raise typer.BadParameter(f"{name} is about a comparison: give --against with it")


def _checked(methods: str | None) -> tuple[str, ...] | None:
    from inspection_models.metrics import method_names  # noqa: PLC0415

    if methods is None:
        return None
    names = tuple(name.strip() for name in methods.split(",") if name.strip())
    if unknown := [name for name in names if name not in method_names()]:
        raise typer.BadParameter(f"there is no method {unknown[0]!r}; there are {', '.join(method_names())}")
    if not names or len(set(names)) < len(names):
        raise typer.BadParameter("--methods takes names separated by commas, each once")
    return names
