"""Settings of the desk: environment variables `INSPECTION_*`, each with a default that is safe on one machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

DEFAULT_DATA_DIR = Path.home() / ".local" / "share" / "inspection"


class Settings(BaseSettings):
    """What the desk needs to know about its surroundings.

    Every secret can also come from a file: `INSPECTION_PASSWORD_FILE=/run/secrets/password` sets `password`. Where both
    are given the variable counts, and the file is not kept here. Password, token and map key hold one value a line,
    see `backend.credentials`.
    """

    model_config = SettingsConfigDict(
        env_prefix="INSPECTION_", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    data_dir: Path = Field(default=DEFAULT_DATA_DIR, description="Folder for the embedded database and credentials.")
    database_url: SecretStr | None = Field(default=None, description="SQLAlchemy URL; SQLite in `data_dir` if unset.")
    database_url_file: Path | None = None
    model: Path | None = Field(default=None, description="Model directory; `data_dir/model` if unset.")

    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?|mps)$", description="Where the model computes.")
    threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        description="Threads of a forward pass; recorded, as another number gives other bits.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=9090, ge=1, le=65535)
    public_url: str | None = Field(
        default=None, description="This desk as inspectors' browsers reach it; `http://host:port` if unset."
    )
    username: str = Field(default="inspection", min_length=1, description="Basic-auth user for Label Studio's calls.")
    password: SecretStr | None = Field(default=None, description="Basic-auth password; made and kept if unset.")
    password_file: Path | None = None
    webhook_token: SecretStr | None = Field(default=None, description="Token in the webhook's header; made if unset.")
    webhook_token_file: Path | None = None
    map_key: SecretStr | None = Field(default=None, description="Key of the addresses of maps; made if unset.")
    map_key_file: Path | None = None

    label_studio_url: str = "http://127.0.0.1:8080"
    label_studio_api_key: SecretStr | None = Field(
        default=None, description="Personal access token or legacy token of Label Studio."
    )
    label_studio_api_key_file: Path | None = None
    allowed_image_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Hosts besides Label Studio's own that images may be fetched from, comma separated."
    )
    max_image_bytes: int = Field(default=100_000_000, ge=1024)
    max_image_pixels: int = Field(default=100_000_000, ge=1)
    max_request_bytes: int = Field(default=64_000_000, ge=1024, description="Largest request body accepted.")
    reconcile_seconds: int = Field(
        default=600, ge=0, description="How often reviews are compared with Label Studio's annotations; 0 for never."
    )
    held_out: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Folders of photographs that nothing is learned from, comma separated; by those of the first, the "
        "gate compares a version that learned from reviews with the one in use.",
    )
    training_options: str = Field(
        default="", description="Further options of `inspection train` for what Label Studio's button starts."
    )
    label_mapping: dict[str, str | list[str]] = Field(
        default_factory=dict,
        description='Class to label or labels, as JSON: {"scratches": ["reject", "Kratzer"]}, where names differ.',
    )

    @field_validator("allowed_image_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(host.strip() for host in value.split(",") if host.strip())
        return value

    @field_validator("held_out", mode="before")
    @classmethod
    def _split_folders(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(Path(folder.strip()) for folder in value.split(",") if folder.strip())
        return value

    @field_validator("label_studio_url", "public_url")
    @classmethod
    def _without_trailing_slash(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://, for example http://127.0.0.1:8080")
        return value.rstrip("/")

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in ("database_url", "password", "webhook_token", "map_key", "label_studio_api_key"):
            file = values.get(f"{name}_file")
            if values.get(name):
                values.pop(f"{name}_file", None)
                continue
            if not file:
                continue
            try:
                values[name] = Path(file).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise ValueError(
                    f"INSPECTION_{name.upper()}_FILE names {file}, which cannot be read ({error.strerror})"
                ) from error
            if not values[name]:
                raise ValueError(f"INSPECTION_{name.upper()}_FILE names {file}, which is empty")
        return values

    @property
    def resolved_database_url(self) -> str:
        """The database's URL; SQLite in the data directory unless one is set."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'inspection.db'}"

    @property
    def resolved_model(self) -> Path:
        """The model's directory."""
        return self.model if self.model is not None else self.data_dir / "model"
