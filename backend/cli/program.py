"""The command tree, and what a person reads when a command fails."""

from __future__ import annotations

import errno
import logging
import sys
import traceback
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import typer
from pydantic import ValidationError
from typer.exceptions import TyperException

from backend.cli import (
    calibrate,
    connect,
    credentials,
    database,
    demo,
    doctor,
    evaluate,
    explain,
    failures,
    models,
    predict,
    reconcile,
    regions,
    serve,
    train,
)
from backend.settings import DEFAULT_DATA_DIR

if TYPE_CHECKING:
    from collections.abc import Sequence

application = typer.Typer(
    name="inspection",
    help="Label Studio as an industrial inspection desk: explained defect decisions, verdicts, and both in SQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for module in (
    demo, train, calibrate, regions, evaluate, explain, serve, connect, predict, reconcile, failures, doctor,
):  # fmt: skip
    module.register(application)
application.add_typer(credentials.commands, name="credentials")
application.add_typer(database.commands, name="db")
application.add_typer(models.commands, name="models")


@runtime_checkable
class _Shown(Protocol):
    """An error of wrong use, which knows its command and shows how that is used."""

    def show(self) -> None:
        """Print to standard error."""


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; whatever goes wrong becomes one clear line on standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        outcome = application(args=list(arguments), standalone_mode=False)
    except TyperException as error:
        error.show() if isinstance(error, _Shown) else _say(f"error: {error.format_message()}")
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        _say("stopped")
        return 130
    except ValidationError as error:
        for problem in error.errors():
            name = "INSPECTION_" + "_".join(str(part) for part in problem["loc"]).upper()
            _say(f"error: setting {name}: {problem['msg']}")
        return 2
    except OSError as error:
        _say(f"error: {_operating_system_error(error)}")
        return 1
    except (ValueError, RuntimeError) as error:
        if type(error) in (ValueError, RuntimeError):
            return _unexpected(error)
        _say(f"error: {error}")
        return 1
    except Exception as error:  # noqa: BLE001 - the last door before a person: a traceback helps nobody there
        return _unexpected(error)
    return outcome if isinstance(outcome, int) else 0


def _operating_system_error(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk is full{f' ({error.filename})' if error.filename else ''}; free some room and start again"
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _unexpected(error: BaseException) -> int:
    """Keep the traceback in a file, where a report of the fault can take it from, and say where it lies."""
    log = DEFAULT_DATA_DIR / "errors.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"--- {datetime.now(timezone.utc).isoformat()} {' '.join(sys.argv)}\n")
            file.writelines(traceback.format_exception(error))
        where = f"; details are in {log}"
    except OSError:
        where = ""
    _say(f"error: {type(error).__name__}: {error}{where}")
    return 1


def _say(line: str) -> None:
    typer.echo(line, err=True)
