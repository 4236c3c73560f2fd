"""`inspection credentials`: change what Label Studio shows the desk, without turning anyone away meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from backend.settings import Settings

commands = typer.Typer(
    help="The desk's own password, webhook token and key of the maps: change them.", no_args_is_help=True
)

_NAMES = {"password": "password", "webhook_token": "webhook token", "map_key": "key of the maps"}


@commands.command("rotate")
def rotate() -> int:
    """Make a new password, webhook token and key of the maps, and let the former ones in beside them until `forget`.

    A running desk takes them at once. Then run `inspection connect --project NUMBER` for each project, which tells
    Label Studio the new ones, and `inspection credentials forget` last.
    """
    from backend import credentials  # noqa: PLC0415
    from backend.settings import Settings  # noqa: PLC0415

    made = credentials.rotate(Settings())
    typer.echo(f"made a new {_named(made)}; the former is still let in")
    typer.echo("now run `inspection connect --project NUMBER` for each project, then `inspection credentials forget`")
    _tell_what_settings_hold(made)
    return 0


@commands.command("forget")
def forget() -> int:
    """Let the former password, webhook token and key of the maps in no more; a running desk refuses them at once.

    Refused where webhooks in Label Studio still carry a former token; without an API key that is not looked up.
    """
    from backend import credentials  # noqa: PLC0415
    from backend.settings import Settings  # noqa: PLC0415

    settings = Settings()
    if settings.label_studio_api_key is None:
        typer.echo("no INSPECTION_LABEL_STUDIO_API_KEY is set, so it is not known who still shows them", err=True)
    elif left := _projects_with_former_tokens(settings):
        numbers = ", ".join(map(str, left))
        typer.echo(
            f"error: the webhooks of these projects still carry a former token and would be turned away: {numbers}; "
            "run `inspection connect --project NUMBER` for each, then this again. Nothing was changed",
            err=True,
        )
        return 1
    forgotten = credentials.forget_former(settings)
    typer.echo(f"the former {_named(forgotten)} is let in no more" if forgotten else "there were no former ones")
    return 0


def _projects_with_former_tokens(settings: Settings) -> list[int]:
    from backend.connection import connected_projects  # noqa: PLC0415
    from backend.credentials import load_credentials  # noqa: PLC0415
    from backend.label_studio.client import LabelStudioClient  # noqa: PLC0415

    assert settings.label_studio_api_key is not None  # noqa: S101 - asked for by the caller
    former = load_credentials(settings).former_webhook_tokens
    if not former:
        return []
    with LabelStudioClient(settings.label_studio_url, settings.label_studio_api_key.get_secret_value()) as client:
        return sorted({number for token in former for number in connected_projects(client, token)})


def _named(names: tuple[str, ...]) -> str:
    first, *others = (_NAMES[name] for name in reversed(names))
    return f"{', '.join(reversed(others))} and {first}" if others else first


def _tell_what_settings_hold(made: tuple[str, ...]) -> None:
    for name in _NAMES.keys() - set(made):
        typer.echo(f"the {_NAMES[name]} comes from INSPECTION_{name.upper()}; it stays as it is", err=True)
