"""Credentials made once, kept for their owner, and never guessed over a damaged file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from backend.credentials import CredentialsError, load_credentials
from backend.settings import Settings


def test_made_once_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "new" / "folder")
    first = load_credentials(settings)
    assert load_credentials(settings) == first
    assert len(first.password) >= 24
    assert first.password != first.webhook_token
    file = settings.data_dir / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert first.password not in repr(first)


def test_settings_come_first_and_leave_no_file(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, password=SecretStr("a"), webhook_token=SecretStr("b"))
    credentials = load_credentials(settings)
    assert (credentials.password, credentials.webhook_token) == ("a", "b")
    assert not (tmp_path / "credentials.json").exists()


def test_a_damaged_file_is_told_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("{")
    with pytest.raises(CredentialsError, match="inspection connect"):
        load_credentials(Settings(data_dir=tmp_path))
    assert (tmp_path / "credentials.json").read_text() == "{"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CredentialsError, match=r"cannot (read|write)"):
        load_credentials(Settings(data_dir=tmp_path / "file"))


def test_secrets_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("from a file\n")
    monkeypatch.setenv("INSPECTION_PASSWORD_FILE", str(tmp_path / "password"))
    settings = Settings()
    assert settings.password is not None
    assert settings.password.get_secret_value() == "from a file"
    assert "from a file" not in repr(settings)
    monkeypatch.setenv("INSPECTION_PASSWORD_FILE", str(tmp_path / "gone"))
    with pytest.raises(ValidationError, match="INSPECTION_PASSWORD_FILE names"):
        Settings()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("allowed_image_hosts", "a.example, 10.0.0.0/8 ,", ("a.example", "10.0.0.0/8")),
        ("label_studio_url", "http://x:1/", "http://x:1"),
        ("label_mapping", '{"crack": ["reject", "Riss"]}', {"crack": ["reject", "Riss"]}),
    ],
)
def test_settings_as_an_operator_writes_them(
    name: str, value: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"INSPECTION_{name.upper()}", value)
    assert getattr(Settings(), name) == expected
