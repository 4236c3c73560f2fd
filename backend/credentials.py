"""The desk's own secrets: what Label Studio and readers of maps must show to be let in, and how they are changed."""

from __future__ import annotations

import json
import logging
import os
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pydantic import SecretStr

    from backend.settings import Settings

logger = logging.getLogger(__name__)

WEBHOOK_HEADER = "X-Inspection-Token"
_FILE = "credentials.json"
_LOCK = "credentials.lock"
_SECRETS = ("password", "webhook_token", "map_key")
# Who has one signed address can try keys on it for as long as he likes.
_SHORTEST_MAP_KEY = 32


class CredentialsError(RuntimeError):
    """The credentials cannot be read, written or changed."""


@dataclass(frozen=True)
class Credentials:
    """User and password of Label Studio's calls, the token of its webhooks, and the key of the maps' addresses.

    The former ones are let in as well, until Label Studio has been told the new ones everywhere.
    """

    username: str
    password: str = field(repr=False)
    webhook_token: str = field(repr=False)
    map_key: str = field(repr=False)
    former_passwords: tuple[str, ...] = field(default=(), repr=False)
    former_webhook_tokens: tuple[str, ...] = field(default=(), repr=False)
    former_map_keys: tuple[str, ...] = field(default=(), repr=False)

    @property
    def map_keys(self) -> tuple[str, ...]:
        """All keys whose addresses are answered, the current one first."""
        return (self.map_key, *self.former_map_keys)


class CredentialsInUse:
    """The credentials of a running desk, read again whenever one of their files changes.

    A change that cannot be read is told in the log, and what was read last stays in force.

    Raises:
        CredentialsError: as `load_credentials`, when it is made.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        own = settings.data_dir / _FILE
        given = (settings.password_file, settings.webhook_token_file, settings.map_key_file)
        self._files = [own, *(file for file in given if file)]
        # Before they are read: what changes meanwhile is then read again.
        self._seen = self._stamps()
        self._current = load_credentials(settings)

    def __call__(self) -> Credentials:
        """The credentials as they are now."""
        # A look at four files' dates costs microseconds; a thread of the pool may be waiting behind predictions.
        stamps = self._stamps()
        if stamps != self._seen:
            self._seen = stamps
            try:
                self._current = _complete(self._settings, _found(self._settings))
                logger.info("the credentials were read again, as their files have changed")
            except CredentialsError as error:
                logger.error("the credentials have changed and cannot be read, the former ones stay: %s", error)  # noqa: TRY400 - its message says it all
        return self._current

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(file) for file in self._files]


def load_credentials(settings: Settings) -> Credentials:
    """Credentials from the settings; what they leave open is made at random once and kept in the data directory.

    A setting or its file holds one secret a line: the first is what Label Studio is told, the others are let in.
    Processes that start at once on one data directory get the same.

    Raises:
        CredentialsError: a file is damaged, empty, or cannot be read or written, or a map key is too short.
    """
    found = _found(settings)
    if not all(found.values()):
        with _alone(settings):
            # Another process may have made them meanwhile.
            found = _found(settings)
            made = {name: (secrets.token_urlsafe(24),) for name in _SECRETS if not found[name]}
            if made:
                found |= made
                _keep(settings, found)
    return _complete(settings, found)


def rotate(settings: Settings) -> tuple[str, ...]:
    """Make new secrets in the data directory and let the former ones in beside them; gives the names of the new ones.

    Raises:
        CredentialsError: both secrets come from the settings, or a file cannot be read or written.
    """
    own = _own(settings)
    with _alone(settings):
        found = _found(settings)
        _keep(settings, found | {name: (secrets.token_urlsafe(24), *found[name]) for name in own})
    return own


def forget_former(settings: Settings) -> tuple[str, ...]:
    """Let the former secrets of the data directory in no more; gives the names of those that had any.

    Raises:
        CredentialsError: both secrets come from the settings, or a file cannot be read or written.
    """
    own = _own(settings)
    with _alone(settings):
        found = _found(settings)
        _keep(settings, found | {name: found[name][:1] for name in own})
    return tuple(name for name in own if len(found[name]) > 1)


def _own(settings: Settings) -> tuple[str, ...]:
    """The secrets that are not given by settings."""
    own = tuple(name for name in _SECRETS if not _is_given(settings, name))
    if not own:
        raise CredentialsError(
            "all of them come from the INSPECTION_PASSWORD, INSPECTION_WEBHOOK_TOKEN and INSPECTION_MAP_KEY settings: "
            "write the new one there in a line above the former, run `inspection connect` for each project, then "
            "remove the former"
        )
    return own


def _complete(settings: Settings, found: Mapping[str, tuple[str, ...]]) -> Credentials:
    lost = [name for name in _SECRETS if not found[name]]
    if lost:
        raise CredentialsError(f"{settings.data_dir / _FILE} has lost its {' and '.join(lost)}; restart the desk")
    return Credentials(
        username=settings.username,
        password=found["password"][0],
        webhook_token=found["webhook_token"][0],
        map_key=found["map_key"][0],
        former_passwords=found["password"][1:],
        former_webhook_tokens=found["webhook_token"][1:],
        former_map_keys=found["map_key"][1:],
    )


def _found(settings: Settings) -> dict[str, tuple[str, ...]]:
    """The accepted values of each secret, the current one first; empty where none was made yet."""
    kept = _read(settings.data_dir / _FILE)
    return {name: _given(settings, name) if _is_given(settings, name) else kept.get(name, ()) for name in _SECRETS}


def _is_given(settings: Settings, name: str) -> bool:
    return getattr(settings, name) is not None


def _given(settings: Settings, name: str) -> tuple[str, ...]:
    variable = f"INSPECTION_{name.upper()}"
    secret: SecretStr = getattr(settings, name)
    text = secret.get_secret_value()
    file: Path | None = getattr(settings, f"{name}_file")
    if file is not None:
        variable += "_FILE"
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialsError(f"{variable} names {file}, which cannot be read ({error})") from error
    lines = tuple(line.strip() for line in text.split("\n") if line.strip())
    if not lines:
        raise CredentialsError(f"{variable} holds nothing but blanks; write one secret a line, the current one first")
    if name == "map_key" and any(len(line) < _SHORTEST_MAP_KEY for line in lines):
        raise CredentialsError(
            f"{variable} is too short to stay secret; give {_SHORTEST_MAP_KEY} random characters or more a line"
        )
    return lines


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CredentialsError(f"cannot read {path} ({error.strerror}); check its owner and mode") from error
    try:
        kept = json.loads(text)
        return {
            name: (str(kept[name]), *(str(former) for former in kept.get(f"former_{name}", ())))
            for name in _SECRETS
            if name in kept
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise CredentialsError(
            f"{path} is damaged; delete it, start again, and run `inspection connect` to tell Label Studio the new ones"
        ) from error


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """No other process changes the secrets of the data directory meanwhile.

    Raises:
        CredentialsError: the data directory cannot be written.
    """
    path = settings.data_dir / _LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CredentialsError(_cannot_write(path, error)) from error
    try:
        _hold(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _hold(descriptor: int, path: Path) -> None:
    try:
        import fcntl  # noqa: PLC0415 - where there is none, the last process to write wins, and the others read it
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        raise CredentialsError(_cannot_write(path, error)) from error


def _keep(settings: Settings, found: Mapping[str, tuple[str, ...]]) -> None:
    """Write the secrets down that are not given by settings."""
    content: dict[str, object] = {}
    for name in _SECRETS:
        if not _is_given(settings, name):
            content |= {name: found[name][0], f"former_{name}": found[name][1:]}
    _write(settings.data_dir / _FILE, content)


def _write(path: Path, content: Mapping[str, object]) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CredentialsError(_cannot_write(path, error)) from error


def _cannot_write(path: Path, error: OSError) -> str:
    return f"cannot write {path} ({error.strerror}); set INSPECTION_DATA_DIR to a folder that can be written"
