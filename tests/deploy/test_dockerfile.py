"""The Dockerfile's own commands, run in a clean folder: an image cannot be built where the tests run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage as (keyword, rest), comments gone and continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found: list[list[tuple[str, str]]] = []
    for line in filter(None, text.splitlines()):
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            found.append([])
        if found:
            found[-1].append((keyword, rest.strip()))
    return found


def commands(stage: list[tuple[str, str]]) -> list[str]:
    """The shell commands of a stage, without the build engine's own options."""
    return [re.sub(r"--mount=\S+\s+", "", rest) for keyword, rest in stage if keyword == "RUN"]


def run(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": os.environ.get("HOME", "/"), **variables}
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=folder, env={**kept, **environment}, capture_output=True, text=True, check=False
    )


def test_the_image_runs_without_root_and_is_asked_for_its_health() -> None:
    last = stages()[-1]
    assert [rest for keyword, rest in last if keyword == "USER"] == ["10001:10001"]
    assert ("ENTRYPOINT", '["inspection"]') in last
    health = next(rest for keyword, rest in last if keyword == "HEALTHCHECK")
    assert "127.0.0.1:9090/readyz" in health
    from backend.routes.health import router

    assert "/readyz" in {getattr(route, "path", "") for route in router.routes}


@pytest.mark.slow
def test_the_image_takes_cpu_or_cuda_and_nothing_else(tmp_path: Path) -> None:
    install = commands(stages()[1])[0]
    (tmp_path / "bin").mkdir()
    for name in ("python", "pip"):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho "{name} $@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    outputs = {
        accelerator: subprocess.run(
            ["/bin/sh", "-c", install],
            env={
                "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "VENV": str(tmp_path), "ACCELERATOR": accelerator,
                "TORCH_CPU_INDEX": "the-index",
            },
            capture_output=True, text=True, check=False,
        )
        for accelerator in ("cpu", "cuda", "rocm")
    }  # fmt: skip
    assert "--index-url the-index torch torchvision" in outputs["cpu"].stdout
    assert "the-index" not in outputs["cuda"].stdout
    assert "torch torchvision" in outputs["cuda"].stdout
    assert outputs["rocm"].returncode != 0
    assert "cpu or cuda, not rocm" in outputs["rocm"].stderr


@pytest.mark.slow
def test_what_is_copied_suffices_to_build_install_and_start(tmp_path: Path) -> None:
    wheel_stage, environment_stage = stages()[:2]
    source = tmp_path / "source"
    source.mkdir()
    for keyword, rest in wheel_stage:
        if keyword != "COPY":
            continue
        *names, destination = rest.split()
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / destination, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source / destination)
    dist = tmp_path / "dist"
    for command in commands(wheel_stage):
        answer = run(command, source, DIST=str(dist))
        assert answer.returncode == 0, answer.stderr
    (wheel,) = dist.iterdir()

    # Whatever is versioned in the packages, code or not, has to travel in the wheel.
    packages = ("backend/", "db/", "inspection_models/")
    tracked = subprocess.run(["git", "ls-files", *packages], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(tracked.stdout.split()) <= set(zipfile.ZipFile(wheel).namelist())

    # The same command that the image runs, less the gigabyte of dependencies: those are this environment's own.
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    install = commands(environment_stage)[1].replace("install ", "install --no-deps ").partition("&&")[0]
    answer = run(install, tmp_path, DIST=str(dist), VENV=str(venv))
    assert answer.returncode == 0, answer.stderr
    (site_packages,) = (venv / "lib").glob("python*/site-packages")
    dependencies = Path(pytest.__file__).parents[1]
    (site_packages / "dependencies.pth").write_text(f"{dependencies}\n")
    where = run(
        '"$VENV/bin/python" -c "import backend, db, inspection_models; print(backend.__file__)"',
        tmp_path,
        VENV=str(venv),
    )
    assert where.stdout.startswith(str(site_packages)), where.stderr
    help_text = run('"$VENV/bin/inspection" --help', tmp_path, VENV=str(venv))
    assert help_text.returncode == 0, help_text.stderr
    assert "serve" in help_text.stdout
    data = {"INSPECTION_DATA_DIR": str(tmp_path / "data"), "VENV": str(venv)}
    upgraded = run('"$VENV/bin/inspection" db upgrade', tmp_path, **data)
    assert upgraded.returncode == 0, upgraded.stderr
    assert run('"$VENV/bin/inspection" db check', tmp_path, **data).returncode == 0
