"""Stated risks as people write them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from inspection_models.line_drawing import StatedRisks

Escapes = Annotated[str | None, typer.Option("--escapes", help="Share of defective parts passed at most, as 0.5%.")]
Overkill = Annotated[str | None, typer.Option("--overkill", help="Share of good parts called defective at most.")]
Errors = Annotated[str | None, typer.Option("--errors", help="Share of wrong classes at most, where no class is good.")]
Confidence = Annotated[str, typer.Option("--confidence", help="With which each stated share is to be shown.")]
USUAL_CONFIDENCE = "95%"


def stated_risks(escapes: str | None, overkill: str | None, errors: str | None, confidence: str) -> StatedRisks:
    """What the options state.

    Raises:
        typer.BadParameter: one of them is no share.
    """
    from inspection_models.line_drawing import StatedRisks  # noqa: PLC0415

    return StatedRisks(
        escapes=None if escapes is None else share(escapes, "--escapes"),
        overkill=None if overkill is None else share(overkill, "--overkill"),
        errors=None if errors is None else share(errors, "--errors"),
        confidence=share(confidence, "--confidence"),
    )


def share(text: str, option: str) -> float:
    """A share between 0 and 1 from "0.5%", "0.5 %" or "0.005".

    Raises:
        typer.BadParameter: it is none; a 5 without a sign might be meant as 5 %.
    """
    stripped = text.strip()
    try:
        value = float(stripped.removesuffix("%")) / (100 if stripped.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise typer.BadParameter(f"{option} {text!r} is no share between 0 and 1; write 0.5% or 0.005")
    return value
