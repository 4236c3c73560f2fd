"""`inspection demo`: the whole desk on one machine, with nothing to set up."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from backend.settings import DEFAULT_DATA_DIR

if TYPE_CHECKING:
    from backend.demo.session import DemoSession


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("demo")(demo)


def demo(
    check: Annotated[
        bool, typer.Option("--check", help="Run unattended, verify every step, print a JSON summary, and stop.")
    ] = False,
    images: Annotated[Path | None, typer.Option("--images", help="Folder of your own photographs.")] = None,
    model: Annotated[Path | None, typer.Option("--model", help="Model directory to judge them with.")] = None,
    directory: Annotated[Path, typer.Option("--directory", help="Where the demo keeps its data.")] = DEFAULT_DATA_DIR
    / "demo",
    label_studio: Annotated[
        Path | None, typer.Option("--label-studio", help="Label Studio's program, if not in .venv-label-studio.")
    ] = None,
    label_studio_port: Annotated[int, typer.Option("--label-studio-port", min=1, max=65535)] = 8080,
    backend_port: Annotated[int, typer.Option("--backend-port", min=1, max=65535)] = 9090,
) -> int:
    """Start Label Studio and the desk with a trained model and judged images, and print one address and one login.

    Data is kept: the next start goes on where this one stopped. Ctrl-C stops all that was started.
    """
    from backend.demo.progress import DemoProgress  # noqa: PLC0415
    from backend.demo.session import DemoOptions, DemoSession  # noqa: PLC0415

    options = DemoOptions(
        directory=directory.resolve(),
        label_studio=label_studio or _installed_label_studio(),
        label_studio_port=label_studio_port,
        backend_port=backend_port,
        images=images,
        model=model.resolve() if model is not None else None,
    )
    # A supervisor's SIGTERM must stop the children just as Ctrl-C does; and a shell that starts this in the background
    # hands it an ignored SIGINT, which Python would leave ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    console = Console(stderr=True)
    session = DemoSession(options, DemoProgress(console))
    if check:
        return _check(session)
    with session:
        _invite(session, console)
        try:
            session.watch()
        except KeyboardInterrupt:
            console.print("stopping …")
    return 0


def _check(session: DemoSession) -> int:
    """Whatever happens, standard output gets one JSON object."""
    from backend.demo.check import check_demo  # noqa: PLC0415

    try:
        with session:
            summary = check_demo(session)
    except Exception as error:
        typer.echo(json.dumps({"ok": False, "error": str(error)}, indent=2))
        raise
    typer.echo(json.dumps(summary, indent=2))
    return 0 if summary["ok"] else 1


def _invite(session: DemoSession, console: Console) -> None:
    credentials = session.server.credentials
    for sentence in session.project.unbound:
        console.print(f"not bound: {sentence}", style="yellow", highlight=False)
    if session.predicted.failed:
        console.print(
            f"{len(session.predicted.failed)} images could not be judged; the reasons are in the table `failure`",
            style="yellow",
        )
    console.print()
    console.print(f"  Open      [bold]{session.project.url}[/bold]", highlight=False, soft_wrap=True)
    console.print(
        f"  Login     [bold]{credentials.email}[/bold]   password [bold]{credentials.password}[/bold]", highlight=False
    )
    console.print("  Press “Label All Tasks”; Ctrl+Enter accepts what you see. Verdicts land in", highlight=False)
    console.print(f"  {session.settings.data_dir / 'inspection.db'}  (table `review`)", highlight=False, soft_wrap=True)
    console.print("  Ctrl-C stops everything; nothing is lost.")
    console.print()


def _installed_label_studio() -> Path:
    """Label Studio in its own environment beside the product's."""
    checkout = Path(sys.prefix).parent
    beside = checkout / ".venv-label-studio" / "bin" / "label-studio"
    here = Path.cwd() / ".venv-label-studio" / "bin" / "label-studio"
    return beside if beside.is_file() else here
