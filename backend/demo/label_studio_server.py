"""A Label Studio server of one's own on loopback: prepared once, started in seconds, stopped without a trace."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from backend.demo.label_studio_template import (
    DATABASE_NAME,
    LabelStudioError,
    loopback_environment,
    prepare_template,
    require_disk_space,
)
from backend.demo.processes import ManagedProcess, require_free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

__all__ = [
    "LABEL_STUDIO_VERSION",
    "LabelStudioCredentials",
    "LabelStudioError",
    "LabelStudioServer",
    "prepare_template",
]

LABEL_STUDIO_VERSION = "1.23.2"
DEFAULT_EMAIL = "inspector@example.com"
START_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class LabelStudioCredentials:
    """The administrator of one Label Studio installation."""

    email: str
    password: str = field(repr=False)
    legacy_token: str = field(repr=False)
    personal_access_token: str | None = field(default=None, repr=False)


class LabelStudioServer:
    """Label Studio on 127.0.0.1 with SQLite, without analytics, sign-up or any call to the outside.

    `data_dir` holds `administrator.json` (its owner alone may read it), `label-studio.log` and `data/` (database,
    uploads, secret key). Everything in it lasts over restarts.
    """

    def __init__(
        self,
        executable: Path,
        data_dir: Path,
        *,
        port: int = 8080,
        email: str = DEFAULT_EMAIL,
        template: Path | None = None,
    ) -> None:
        self.executable = executable
        self.data_dir = data_dir
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log_file = data_dir / "label-studio.log"
        self._email = email
        self._template = template
        self._credentials: LabelStudioCredentials | None = None
        self._process: ManagedProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def credentials(self) -> LabelStudioCredentials:
        """The administrator's credentials, known after `start`.

        Raises:
            LabelStudioError: the server was never started.
        """
        if self._credentials is None:
            raise LabelStudioError("Label Studio was not started yet, so it has no credentials")
        return self._credentials

    @property
    def is_running(self) -> bool:
        """Whether the server process is alive."""
        return self._process is not None and self._process.is_running

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while it is stopped."""
        return self._process.pid if self._process is not None else None

    def start(
        self,
        *,
        timeout: float = START_TIMEOUT_SECONDS,
        progress: Callable[[float], None] | None = None,
        port_option: str = "--label-studio-port",
    ) -> float:
        """Start the server, wait until it is healthy and log in; returns the seconds until it was healthy.

        Raises:
            PortInUseError: another program listens on the port; `port_option` names the way out.
            ProcessError: Label Studio ended or did not answer within `timeout` seconds.
            LabelStudioError: no program, no room, damaged or missing credentials, or the login failed.
        """
        if not self.executable.is_file():
            raise LabelStudioError(f"there is no Label Studio at {self.executable}; `make demo` installs it")
        require_free_port(self.port, port_option)
        require_disk_space(self.data_dir)
        credentials = self._load_credentials()
        self._lay_out_data()
        process = ManagedProcess(
            "Label Studio",
            [
                self.executable, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(self.port),
            ],
            log_file=self.log_file,
            environment={
                **loopback_environment(self._base_dir),
                "LABEL_STUDIO_HOST": self.url,
                "LABEL_STUDIO_USERNAME": credentials.email,
                "LABEL_STUDIO_PASSWORD": credentials.password,
                "LABEL_STUDIO_USER_TOKEN": credentials.legacy_token,
            },
            working_directory=self.data_dir,
        )  # fmt: skip
        process.start()
        self._process = process
        try:
            seconds = process.wait_until_healthy(f"{self.url}/health", timeout=timeout, progress=progress)
            self._credentials = self._log_in(credentials)
        except BaseException:
            self.stop()
            raise
        return seconds

    def stop(self) -> None:
        """Stop the server and all that it started. Safe to repeat."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    @property
    def _base_dir(self) -> Path:
        return self.data_dir / "data"

    @property
    def _credentials_file(self) -> Path:
        return self.data_dir / "administrator.json"

    def _load_credentials(self) -> LabelStudioCredentials:
        try:
            kept = json.loads(self._credentials_file.read_text(encoding="utf-8"))
            return LabelStudioCredentials(**kept)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError) as error:
            raise LabelStudioError(
                f"{self._credentials_file} cannot be read; restore it, or move {self.data_dir} away to begin anew"
            ) from error
        if (self._base_dir / DATABASE_NAME).exists():
            raise LabelStudioError(
                f"{self._credentials_file} is missing, but {self._base_dir} has Label Studio's data; restore the file, "
                f"or move {self.data_dir} away to begin anew"
            )
        made = LabelStudioCredentials(self._email, secrets.token_urlsafe(12), secrets.token_hex(20))
        self._keep_credentials(made)
        return made

    def _keep_credentials(self, credentials: LabelStudioCredentials) -> None:
        write_private(self._credentials_file, json.dumps(asdict(credentials), indent=2) + "\n")

    def _lay_out_data(self) -> None:
        """Make the data folder, a new one with the template's database; Label Studio adds a secret key of its own."""
        self._base_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = self._base_dir / DATABASE_NAME
        if self._template is None or database.exists():
            return
        copying = database.with_suffix(".copying")
        try:
            shutil.copyfile(self._template / DATABASE_NAME, copying)
            copying.replace(database)
        except OSError as error:
            raise LabelStudioError(f"cannot copy {self._template} to {self._base_dir} ({error.strerror})") from error

    def _log_in(self, credentials: LabelStudioCredentials) -> LabelStudioCredentials:
        """Check the tokens, and mint a personal access token where none is kept.

        The administrator may have switched legacy tokens off; then the personal access token alone has to do.
        """
        headers = {"Authorization": f"Token {credentials.legacy_token}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=30.0, trust_env=False) as client:
            try:
                answer = client.get("/api/current-user/whoami")
                if credentials.personal_access_token is not None:
                    if answer.is_error:
                        _check_personal_access_token(self.url, credentials.personal_access_token)
                    return credentials
                answer.raise_for_status()
                token = _mint_personal_access_token(client)
            except httpx.HTTPError as error:
                raise LabelStudioError(
                    f"Label Studio runs but refuses the credentials in {self._credentials_file} ({error}); move "
                    f"{self.data_dir} away to begin anew"
                ) from error
        complete = replace(credentials, personal_access_token=token)
        self._keep_credentials(complete)
        return complete


def _check_personal_access_token(url: str, token: str) -> None:
    # Without the legacy token's header: Label Studio refuses a call for a bad one even where none is needed.
    httpx.post(f"{url}/api/token/refresh/", json={"refresh": token}, timeout=30.0, trust_env=False).raise_for_status()


def _mint_personal_access_token(client: httpx.Client) -> str:
    """A new personal access token. A user has one at a time, and a lost one cannot be read again: it is revoked."""
    answer = client.post("/api/token/")
    if answer.status_code == httpx.codes.CONFLICT:
        for lost in client.get("/api/token/").raise_for_status().json():
            client.post("/api/token/blacklist/", json={"refresh": lost["token"]}).raise_for_status()
        answer = client.post("/api/token/")
    return str(answer.raise_for_status().json()["token"])


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner's eyes, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise LabelStudioError(f"cannot write {path} ({error.strerror})") from error
