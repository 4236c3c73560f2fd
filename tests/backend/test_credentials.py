"""Credentials made once, kept for their owner, and never guessed over a damaged file."""

from __future__ import annotations

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from backend.cli.program import run
from backend.credentials import Credentials, CredentialsError, CredentialsInUse, forget_former, load_credentials, rotate
from backend.label_studio import client as client_module
from backend.settings import Settings
from tests.backend.label_studio_fake import KEY, FakeLabelStudio

MAP_KEY = "0123456789abcdef0123456789abcdef"


def test_made_once_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "new" / "folder")
    first = load_credentials(settings)
    assert load_credentials(settings) == first
    assert len(first.password) >= 24
    assert len({first.password, first.webhook_token, first.map_key}) == 3
    file = settings.data_dir / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for secret in (first.password, first.webhook_token, first.map_key):
        assert secret not in repr(first)


@pytest.mark.parametrize("kept", ["", '{"password": "a", "former_password": [], "webhook_token": "b"}'])
def test_all_who_start_at_once_get_the_same(tmp_path: Path, kept: str) -> None:
    """Also where a former release has made some of them."""
    if kept:
        (tmp_path / "credentials.json").write_text(kept)
    begin = threading.Barrier(8)

    def start() -> Credentials:
        begin.wait()
        return load_credentials(Settings(data_dir=tmp_path))

    with ThreadPoolExecutor(8) as pool:
        found = {pool.submit(start) for _ in range(8)}
    assert {one.result() for one in found} == {load_credentials(Settings(data_dir=tmp_path))}


def test_several_desks_share_a_map_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{MAP_KEY}\n{MAP_KEY[::-1]}\n")
    desks = [
        load_credentials(Settings(data_dir=tmp_path / "one", map_key=SecretStr(f"{MAP_KEY}\n{MAP_KEY[::-1]}"))),
        load_credentials(Settings(data_dir=tmp_path / "two", map_key_file=tmp_path / "key")),
    ]
    assert [desk.map_keys for desk in desks] == [(MAP_KEY, MAP_KEY[::-1])] * 2
    assert MAP_KEY not in (tmp_path / "one" / "credentials.json").read_text()


def test_a_map_key_that_could_be_guessed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=r"INSPECTION_MAP_KEY is too short.*32"):
        load_credentials(Settings(data_dir=tmp_path, map_key=SecretStr(f"{MAP_KEY}\n{MAP_KEY[:31]}")))


def test_settings_come_first_and_leave_no_file(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, password=SecretStr("a"), webhook_token=SecretStr("b"), map_key=SecretStr(MAP_KEY)
    )
    credentials = load_credentials(settings)
    assert (credentials.password, credentials.webhook_token, credentials.map_key) == ("a", "b", MAP_KEY)
    assert list(tmp_path.iterdir()) == []


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
        ("public_url", "https://desk.example/", "https://desk.example"),
        ("label_mapping", '{"crack": ["reject", "Riss"]}', {"crack": ["reject", "Riss"]}),
    ],
)
def test_settings_as_an_operator_writes_them(
    name: str, value: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"INSPECTION_{name.upper()}", value)
    assert getattr(Settings(), name) == expected


def test_a_variable_outweighs_its_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file")
    settings = Settings(data_dir=tmp_path, password=SecretStr("a"), password_file=tmp_path / "password")
    assert load_credentials(settings).password == "a"


def test_of_several_lines_the_first_is_told_and_the_others_are_let_in(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("new token\r\n\n  old token \n")
    settings = Settings(data_dir=tmp_path, password=SecretStr("new\nold\nolder"), webhook_token_file=tmp_path / "token")
    credentials = load_credentials(settings)
    assert (credentials.password, credentials.former_passwords) == ("new", ("old", "older"))
    assert (credentials.webhook_token, credentials.former_webhook_tokens) == ("new token", ("old token",))
    assert "old" not in repr(credentials)


def test_a_secret_of_blanks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="INSPECTION_PASSWORD holds nothing"):
        load_credentials(Settings(data_dir=tmp_path, password=SecretStr(" \n ")))
    assert not (tmp_path / "credentials.json").exists()


def test_a_secret_of_the_settings_is_not_written_beside_a_made_one(tmp_path: Path) -> None:
    load_credentials(Settings(data_dir=tmp_path, password=SecretStr("from the settings")))
    assert "from the settings" not in (tmp_path / "credentials.json").read_text()


def test_rotated_secrets_are_new_and_the_former_ones_stay_until_they_are_forgotten(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    first = load_credentials(settings)
    desk = CredentialsInUse(settings)
    assert desk() == first
    assert rotate(settings) == ("password", "webhook_token", "map_key")
    second = desk()
    assert second == load_credentials(settings)
    assert second.password != first.password and second.webhook_token != first.webhook_token
    assert (second.former_passwords, second.former_webhook_tokens) == ((first.password,), (first.webhook_token,))
    assert second.map_keys == (second.map_key, first.map_key)
    assert second.map_key != first.map_key
    rotate(settings)
    assert desk().former_passwords == (second.password, first.password)
    assert forget_former(settings) == ("password", "webhook_token", "map_key")
    assert (desk().former_passwords, desk().former_webhook_tokens, desk().former_map_keys) == ((), (), ())
    assert forget_former(settings) == ()
    assert stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode) == 0o600


def test_what_the_settings_hold_is_not_rotated(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, password=SecretStr("a"))
    token = load_credentials(settings).webhook_token
    assert rotate(settings) == ("webhook_token", "map_key")
    assert load_credentials(settings).former_webhook_tokens == (token,)
    given = {"password": SecretStr("a"), "webhook_token": SecretStr("b"), "map_key": SecretStr(MAP_KEY)}
    for change in (rotate, forget_former):
        with pytest.raises(CredentialsError, match="in a line above the former"):
            change(Settings(data_dir=tmp_path, **given))


def test_a_running_desk_takes_a_changed_file_and_keeps_what_it_has_when_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first")
    desk = CredentialsInUse(Settings(data_dir=tmp_path, password_file=file))
    token = desk().webhook_token
    file.write_text("second\nfirst")
    assert (desk().password, desk().former_passwords) == ("second", ("first",))
    file.write_text("")
    assert desk().password == "second"
    file.unlink()
    assert desk().password == "second"
    file.write_text("third")
    assert (desk().password, desk().former_passwords) == ("third", ())
    # What was made is not made anew while the desk works: nobody would know it.
    (tmp_path / "credentials.json").unlink()
    assert desk().webhook_token == token
    assert not (tmp_path / "credentials.json").exists()


def test_the_program_rotates_and_forgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INSPECTION_DATA_DIR", str(tmp_path))
    first = load_credentials(Settings())
    assert run(["credentials", "rotate"]) == 0
    assert "inspection connect" in (said := capsys.readouterr().out)
    made = load_credentials(Settings())
    assert made.former_passwords == (first.password,)
    assert not any(secret in said for secret in (made.password, made.webhook_token, made.map_key))
    assert run(["credentials", "forget"]) == 0
    assert load_credentials(Settings()).former_passwords == ()
    monkeypatch.setenv("INSPECTION_PASSWORD", "a")
    assert run(["credentials", "rotate"]) == 0
    assert "INSPECTION_PASSWORD" in capsys.readouterr().err
    monkeypatch.setenv("INSPECTION_WEBHOOK_TOKEN", "b")
    monkeypatch.setenv("INSPECTION_MAP_KEY", MAP_KEY)
    assert run(["credentials", "rotate"]) == 1
    assert "line above" in capsys.readouterr().err


def test_former_tokens_are_not_forgotten_while_a_webhook_carries_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    studio = FakeLabelStudio("http://studio.example", "<View/>")

    class Client(client_module.LabelStudioClient):
        def __init__(self, url: str, api_key: str) -> None:
            super().__init__(url, api_key, pause=0, transport=httpx.MockTransport(studio))

    monkeypatch.setattr(client_module, "LabelStudioClient", Client)
    for name, value in {"DATA_DIR": str(tmp_path), "LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": KEY}.items():
        monkeypatch.setenv(f"INSPECTION_{name}", value)
    first = load_credentials(Settings())
    assert run(["credentials", "rotate"]) == 0
    second = load_credentials(Settings())
    tokens = {4: first.webhook_token, 5: second.webhook_token, 6: "another desk's"}
    studio.webhooks = [{"project": n, "headers": {"x-inspection-token": one}} for n, one in tokens.items()]
    capsys.readouterr()
    assert run(["credentials", "forget"]) == 1
    said = capsys.readouterr().err
    assert "turned away: 4;" in said and "inspection connect" in said
    assert first.webhook_token not in said
    assert load_credentials(Settings()) == second
    # A Label Studio that cannot be asked is no leave to forget either.
    studio.fault = lambda _: httpx.Response(503, text="busy")
    assert run(["credentials", "forget"]) == 1
    assert load_credentials(Settings()) == second
    studio.fault = lambda _: None
    studio.webhooks[0]["headers"] = {"X-Inspection-Token": second.webhook_token}
    assert run(["credentials", "forget"]) == 0
    assert load_credentials(Settings()).former_webhook_tokens == ()
