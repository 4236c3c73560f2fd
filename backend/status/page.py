"""The status as one page: no script, nothing from elsewhere, fit for a phone and for printing."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from backend.status.report import AGREEMENT_MEANS, JUDGED

if TYPE_CHECKING:
    from datetime import datetime

    from backend.status.report import Status

_OUTCOMES = (*JUDGED, "decided", "skipped")


def render_page(status: Status, *, token: str, retried: int | None) -> str:
    """The page.

    Args:
        token: what its form shows again when it is sent.
        retried: how many jobs its form has just let start over; None where it was not sent.
    """
    return (
        _environment()
        .get_template("status.html")
        .render(status=status, token=token, retried=retried, outcomes=_OUTCOMES, agreement_means=AGREEMENT_MEANS)
    )


@cache
def content_security_policy() -> str:
    """What a browser may load for the page: its own style, known by its hash, and nothing else."""
    style = _environment().get_template("status.css").render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("backend.status"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"moment": _moment, "percent": _percent}
    return environment


def _moment(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
