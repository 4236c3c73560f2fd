"""`inspection evaluate A --against B`: the gate before release, on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backend.cli.progress import counting

if TYPE_CHECKING:
    from backend.gate import GateResult
    from inspection_models.gate import RuleOutcome

_PAGE, _REPORT, _RULES = "gate.html", "gate.json", "rules.toml"
_STYLES = {"pass": "green", "fail": "bold red", "cannot tell": "yellow", "not asked": "dim"}


@dataclass(frozen=True)
class GateOptions:
    """What the command was given; None where it was left out."""

    candidate: Path
    service: Path
    data: Path
    rules: Path | None
    out: Path | None
    layout: str | None
    limit: int | None
    pictures: int | None
    seed: int
    device: str


def run_command(given: GateOptions, *, with_seen: bool, as_json: bool, overwrite: bool) -> int:
    """Compare, write the report and print it: 0 for release, 1 for not.

    Raises:
        BadParameter: the rules cannot be read, or a report is in the way.
        GateError, ModelError, DatasetError, ImageError: see `run_gate`; nothing is written then.
    """
    from backend.gate import GateRequest, render_page, report_json, run_gate  # noqa: PLC0415
    from inspection_models.gate import RulesError, default_rules, parse_rules, read_rules  # noqa: PLC0415

    try:
        rules = parse_rules(default_rules(), _RULES) if given.rules is None else read_rules(given.rules)
    except RulesError as error:
        raise typer.BadParameter(str(error)) from error
    out = given.out or _own_folder(given)
    _check(out, overwrite=overwrite)
    with counting("reading") as tell:
        result = run_gate(
            GateRequest(
                candidate=given.candidate,
                service=given.service,
                data=given.data,
                rules=rules,
                layout=given.layout,
                with_seen=with_seen,
                seed=given.seed,
                device=given.device,
                **{name: value for name in ("limit", "pictures") if (value := getattr(given, name)) is not None},
            ),
            tell,
        )
    report = report_json(result)
    page = render_page(result, report)
    out.mkdir(parents=True, exist_ok=True)
    # The JSON report last: where it is, the others are.
    for name, text in ((_RULES, rules.text), (_PAGE, page), (_REPORT, report)):
        (out / name).write_text(text, encoding="utf-8")
    if as_json:
        typer.echo(report, nl=False)
    else:
        _print(result, out)
    return 0 if result.verdict.release else 1


def _own_folder(given: GateOptions) -> Path:
    names = [re.sub(r"[^\w.-]+", "-", path.resolve().name) for path in (given.candidate, given.service)]
    return Path(f"gate-{names[0]}-against-{names[1]}")


def _check(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"--out {out} is a file; with --against it is the folder of the report")
    if not overwrite and (found := [name for name in (_PAGE, _REPORT, _RULES) if (out / name).exists()]):
        raise typer.BadParameter(f"{out / found[0]} is there already; choose another --out, or give --overwrite")


def _print(result: GateResult, out: Path) -> None:
    console = Console(width=None if Console().is_terminal else 140)
    for note in result.golden.notes:
        console.print(f"note: {note}", style="yellow", highlight=False, markup=False)
    table = Table(
        title=f"{result.candidate.model_version} against {result.service.model_version} in service, "
        f"{len(result.golden.images)} images",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("rule", "outcome", "found", "figure [bounds], %", "further parts"):
        table.add_column(heading, justify="right" if heading == "further parts" else "left")
    for one in result.verdict.outcomes:
        # As texts, for a class may be called what Rich takes for a style.
        table.add_row(
            Text(one.says),
            Text(one.outcome, style=_STYLES[one.outcome]),
            Text(one.because),
            Text(_figure(one)),
            Text(str(one.further_parts or "")),
        )
    console.print(table)
    word = result.verdict.words.upper()
    console.print(word, style="bold green" if result.verdict.release else "bold red", highlight=False)
    console.print(f"report: {out / _PAGE}, {out / _REPORT}", highlight=False, soft_wrap=True, markup=False)


def _figure(one: RuleOutcome) -> str:
    if one.measured is None:
        return ""
    sign = "+" if one.rule.endswith("not_worse_by") else ""
    value, low, high = (
        f"{100 * side + 0.0:{sign}.2f}" for side in (one.measured.value, one.measured.low, one.measured.high)
    )
    return f"{value} [{low}, {high}]"
