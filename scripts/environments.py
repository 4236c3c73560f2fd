"""The virtual environments of this checkout: what they are built from, where they live, whether they are complete."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAMP = ".setup-complete"
UNUSED_DAYS = 30
PIP = ("-m", "pip", "--no-input", "--disable-pip-version-check")
# Sections of pyproject.toml that change no installed file.
TOOL_SECTIONS = ("tool.ruff", "tool.mypy", "tool.pytest")

# Two packages own the folder cv2/: only the same release of both works, and removing one empties it.
PRODUCT_PROOF = """
import importlib.metadata, importlib.util, cv2, torch
assert hasattr(cv2, "imencode"), "cv2 is an empty folder"
releases = {importlib.metadata.version(name) for name in ("opencv-python", "opencv-python-headless")}
assert len(releases) == 1, f"two releases of OpenCV share one folder: {sorted(releases)}"
for package in ("backend", "db", "inspection_models"):
    assert importlib.util.find_spec(package), f"{package} is not installed"
"""
LABEL_STUDIO_PROOF = """
import importlib.metadata, django, label_studio
assert importlib.metadata.version("label-studio") == "1.23.2"
"""


class SetupError(Exception):
    """One line that says what is wrong and what to do."""


@dataclass(frozen=True)
class Step:
    """One command of the environment's own Python."""

    title: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Environment:
    """One virtual environment: where it goes, what it is built from, and how."""

    name: str
    folder: str
    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    proofs: tuple[Step, ...]
    megabytes: int
    attach: Step | None = None

    @property
    def link(self) -> Path:
        """Where the checkout expects the environment."""
        return ROOT / self.folder


ENVIRONMENTS = (
    Environment(
        name="product",
        folder=".venv",
        inputs=("pyproject.toml", "constraints.txt"),
        steps=(
            Step("installing the build tools", (*PIP, "install", "setuptools>=77")),
            Step("installing the product", (*PIP, "install", "-c", "constraints.txt", "-e", ".[test]")),
        ),
        proofs=(
            Step("checking that the packages agree", (*PIP, "check")),
            Step("checking that the packages work", ("-c", PRODUCT_PROOF)),
        ),
        megabytes=3500,
        attach=Step(
            "pointing it at this checkout", (*PIP, "install", "--no-deps", "--no-build-isolation", "-q", "-e", ".")
        ),
    ),
    Environment(
        name="label-studio",
        folder=".venv-label-studio",
        inputs=("constraints-label-studio.txt",),
        steps=(
            Step(
                "installing Label Studio",
                (*PIP, "install", "-c", "constraints-label-studio.txt", "label-studio==1.23.2"),
            ),
        ),
        proofs=(
            Step("checking that the packages agree", (*PIP, "check")),
            Step("checking that the packages work", ("-c", LABEL_STUDIO_PROOF)),
        ),
        megabytes=2000,
    ),
)


def recipe(environment: Environment, root: Path = ROOT) -> str:
    """Hash of everything that decides what the environment contains."""
    digest = hashlib.sha256(f"{platform.python_version()} {sys.platform} {platform.machine()}".encode())
    for step in environment.steps:
        digest.update(repr(step.arguments).encode())
    for name in environment.inputs:
        text = (root / name).read_text(encoding="utf-8")
        digest.update((without_tool_sections(text) if name == "pyproject.toml" else text).encode())
    return digest.hexdigest()


def without_tool_sections(pyproject: str) -> str:
    """The text of a pyproject.toml without the sections that configure linters and tests."""
    kept, keep = [], True
    for line in pyproject.splitlines():
        if header := re.match(r"\[+([\w.\-]+)\]", line):
            keep = not header[1].startswith(TOOL_SECTIONS)
        if keep:
            kept.append(line)
    return "\n".join(kept)


def home_of(environment: Environment) -> Path:
    """Where the environment really lives: in the checkout, or under its hash in INSPECTION_CACHE."""
    cache = os.environ.get("INSPECTION_CACHE")
    if not cache:
        return environment.link
    return Path(cache).expanduser().resolve() / f"{environment.folder.lstrip('.')}-{recipe(environment)[:16]}"


def is_complete(environment: Environment, home: Path) -> bool:
    """Whether a finished build of exactly this recipe is there and its Python runs."""
    if home.is_symlink():
        return False
    stamp = home / STAMP
    if not stamp.is_file() or stamp.read_text(encoding="utf-8").strip() != recipe(environment):
        return False
    return runs(home / "bin" / "python", "pass")


def is_updatable(home: Path) -> bool:
    """Whether a finished build of an older recipe, with this very Python, can be brought up to date in place."""
    same_python = f"import sys; sys.exit(sys.version_info[:3] != {tuple(sys.version_info[:3])})"
    return not home.is_symlink() and (home / STAMP).is_file() and runs(home / "bin" / "python", same_python)


def runs(python: Path, code: str) -> bool:
    """Whether a Python exists and ends `code` well."""
    with contextlib.suppress(OSError):
        return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
    return False


def write_stamp(environment: Environment, home: Path) -> None:
    """Declare the build finished: the last thing that happens to it."""
    temporary = home / f"{STAMP}.tmp"
    temporary.write_text(recipe(environment) + "\n", encoding="utf-8")
    temporary.replace(home / STAMP)


def link_to(environment: Environment, home: Path) -> None:
    """Let the checkout's folder be a link to the environment in the cache."""
    link = environment.link
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        shutil.rmtree(link)
    link.symlink_to(home)


def unlink(environment: Environment) -> None:
    """Drop the link into a cache that an earlier set-up left in the checkout, lest a build write through it."""
    if environment.link.is_symlink():
        environment.link.unlink()


def prune(cache: Path, keep: set[Path]) -> None:
    """Remove environments from the cache that nothing has used for a month."""
    for stamp in cache.glob(f"venv*/{STAMP}"):
        if stamp.parent not in keep and time.time() - stamp.stat().st_mtime > UNUSED_DAYS * 86400:
            shutil.rmtree(stamp.parent, ignore_errors=True)


def require_space(folder: Path, megabytes: int) -> None:
    """Raise unless the disk that will hold `folder` has room."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free // 1_000_000
    if free < megabytes:
        raise SetupError(f"{free} MB are free under {existing}, {megabytes} MB are needed; make room and run again")
