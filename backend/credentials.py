"""The desk's own credentials: what Label Studio must show to be let in."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from backend.settings import Settings

WEBHOOK_HEADER = "X-Inspection-Token"


class CredentialsError(RuntimeError):
    """The credentials file cannot be read or written."""


@dataclass(frozen=True)
class Credentials:
    """User and password of Label Studio's calls, and the token of its webhooks."""

    username: str
    password: str = field(repr=False)
    webhook_token: str = field(repr=False)


def load_credentials(settings: Settings) -> Credentials:
    """Credentials from the settings; what they leave open is made at random once and kept in the data directory.

    Raises:
        CredentialsError: the file in the data directory is damaged or cannot be written.
    """
    kept = _read(settings.data_dir / "credentials.json")
    made = Credentials(
        username=settings.username,
        password=_secret(settings.password) or kept.get("password") or secrets.token_urlsafe(24),
        webhook_token=_secret(settings.webhook_token) or kept.get("webhook_token") or secrets.token_urlsafe(24),
    )
    needs_keeping = (settings.password is None and "password" not in kept) or (
        settings.webhook_token is None and "webhook_token" not in kept
    )
    if needs_keeping:
        _write(settings.data_dir / "credentials.json", made)
    return made


def _secret(value: object) -> str | None:
    reveal = getattr(value, "get_secret_value", None)
    return str(reveal()) if reveal is not None else None


def _read(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CredentialsError(f"cannot read {path} ({error.strerror}); check its owner and mode") from error
    try:
        kept = json.loads(text)
        return {name: str(kept[name]) for name in ("password", "webhook_token") if name in kept}
    except (ValueError, TypeError) as error:
        raise CredentialsError(
            f"{path} is damaged; delete it, start again, and run `inspection connect` to tell Label Studio the new ones"
        ) from error


def _write(path: Path, credentials: Credentials) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(credentials), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CredentialsError(
            f"cannot write {path} ({error.strerror}); set INSPECTION_DATA_DIR to a folder that can be written"
        ) from error
