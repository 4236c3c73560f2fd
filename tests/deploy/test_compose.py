from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
ENTRYPOINT = "/label-studio/deploy/docker-entrypoint.sh"


def settings_named_in(text: str) -> set[str]:
    return {name.lower() for name in re.findall(r"INSPECTION_([A-Z_]+)", text)}


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_the_compose_files_follow_their_schema(name: str) -> None:
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(DEPLOY / name)]
    answer = subprocess.run(checker, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("linter", "files"),
    [
        (["yamllint", "--strict", "-c", str(DEPLOY / ".yamllint")], sorted(DEPLOY.rglob("*.yaml"))),
        (
            ["shellcheck"],
            [*DEPLOY.rglob("*.sh"), *(DEPLOY.parent / "scripts").glob("*.sh"), DEPLOY.parent / ".ci" / "run"],
        ),
    ],
    ids=["yamllint", "shellcheck"],
)
def test_linters_find_nothing(linter: list[str], files: list[Path]) -> None:
    if shutil.which(linter[0]) is None:
        reason = f"no {linter[0]} found; install it, e.g. apt-get install {linter[0]}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    answer = subprocess.run([*linter, *map(str, files)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml", "Dockerfile", ".env.example"])
def test_every_setting_that_is_named_exists(name: str) -> None:
    named = settings_named_in((DEPLOY / name).read_text(encoding="utf-8"))
    assert named
    assert named <= set(Settings.model_fields)


@pytest.mark.slow
def test_the_commands_of_the_services_exist(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if not service["image"].startswith("inspection:"):
            continue
        line = [sys.executable, "-m", "backend.cli", *service["command"], "--help"]
        answer = subprocess.run(line, capture_output=True, text=True, cwd=DEPLOY.parent, check=False)
        assert answer.returncode == 0, f"{name}: {answer.stderr}"


def test_every_variable_is_explained_in_the_example_and_no_other(compose: dict[str, Any]) -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text(encoding="utf-8")))
    used |= {name for name, value in compose["services"]["backend"]["environment"].items() if value is None}
    example = (DEPLOY / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE)) == used


def test_no_setting_is_given_empty(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if variable.startswith("INSPECTION_") and value is not None:
                assert re.sub(r"\$\{\w+(:-)?\}", "", value), f"{name}: {variable}"
    example = (DEPLOY / ".env.example").read_text(encoding="utf-8")
    assert not re.search(r"^INSPECTION_\w+=\s*$", example, re.MULTILINE)


def test_the_gpu_goes_to_the_service_that_is_told_to_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text(encoding="utf-8"))
    assert set(loaded["services"]) == {"backend"}
    backend = loaded["services"]["backend"]
    assert backend["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    for name, value in backend["environment"].items():
        monkeypatch.setenv(name, value)
    assert Settings().device == "cuda"


def test_every_service_is_confined(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped"), name
        if name != "migrate":
            assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"]), name
        for port in service.get("ports", []):
            assert port.startswith("${BIND_ADDRESS:-127.0.0.1}:"), name
        if service["image"].startswith(("inspection:", "postgres:")):
            assert service["read_only"] is True, name
            assert service["tmpfs"], name


def test_the_database_is_reached_by_its_clients_only(compose: dict[str, Any]) -> None:
    assert compose["networks"]["database"]["internal"] is True
    assert compose["services"]["postgres"]["networks"] == ["database"]
    assert "ports" not in compose["services"]["postgres"]
    members = {name for name, service in compose["services"].items() if "database" in service["networks"]}
    assert members == {"postgres", "label-studio", "migrate", "backend", "worker"}


def test_no_secret_stands_in_a_variable_and_each_one_is_made(compose: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "make-secrets.sh", tmp_path)
    subprocess.run([tmp_path / "make-secrets.sh"], check=True, capture_output=True)
    made = {path.name for path in (tmp_path / "secrets").iterdir()}
    assert {Path(secret["file"]).name for secret in compose["secrets"].values()} == made == set(compose["secrets"])
    used: set[str] = set()
    for name, service in compose["services"].items():
        granted = set(service.get("secrets", []))
        used |= granted
        text = str(service.get("environment", "")) + str(service.get("entrypoint", ""))
        assert set(re.findall(r"/run/secrets/(\w+)", text)) == granted, name
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN$|API_KEY|MAP_KEY|SECRET|DATABASE_URL", variable):
                assert variable.endswith("_FILE") or variable == "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN", value
    assert used == made


def test_secrets_are_made_once_and_shut_away(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "make-secrets.sh", tmp_path)
    subprocess.run([tmp_path / "make-secrets.sh"], check=True, capture_output=True)
    folder = tmp_path / "secrets"
    first = {path.name: path.read_text() for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}
    assert len(set(first.values())) == len(first)
    assert all(len(value) >= 24 and value == value.strip() for value in first.values())
    assert re.fullmatch(r"[0-9a-f]{40}", first["label_studio_token"])
    assert f":{first['desk_database_password']}@postgres:5432/inspection" in first["desk_database_url"]

    (folder / "desk_password").unlink()
    again = subprocess.run([tmp_path / "make-secrets.sh"], check=True, capture_output=True, text=True).stdout
    second = {path.name: path.read_text() for path in folder.iterdir()}
    assert {name for name in first if first[name] != second[name]} == {"desk_password"}
    assert again.count("kept") == len(first) - 1


def test_label_studio_gets_its_passwords_from_the_files(compose: dict[str, Any], tmp_path: Path) -> None:
    service = compose["services"]["label-studio"]
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in service["secrets"]:
        (secrets / name).write_text(f"a 'quoted' $value of {name}\n")
    image_entrypoint = tmp_path / "docker-entrypoint.sh"
    image_entrypoint.write_text('#!/bin/sh\necho "$1"\nenv\n')
    image_entrypoint.chmod(0o755)
    parts = [part.replace("$$", "$") for part in service["entrypoint"]]
    script = parts[2].replace("/run/secrets", str(secrets)).replace(ENTRYPOINT, str(image_entrypoint))
    answer = subprocess.run(
        [parts[0], parts[1], script, *parts[3:], *service["command"]], capture_output=True, text=True, check=True
    ).stdout
    assert answer.startswith("label-studio-uwsgi\n")
    for variable, name in {
        "POSTGRE_PASSWORD": "label_studio_database_password",
        "LABEL_STUDIO_PASSWORD": "label_studio_password",
        "LABEL_STUDIO_USER_TOKEN": "label_studio_token",
        "SECRET_KEY": "label_studio_secret_key",
    }.items():
        assert f"{variable}=a 'quoted' $value of {name}\n" in answer
    (secrets / "label_studio_token").unlink()
    broken = subprocess.run([parts[0], parts[1], script, *parts[3:]], capture_output=True, check=False)
    assert broken.returncode != 0
