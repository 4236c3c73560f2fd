"""The set-up: the right Python, each environment built once, never a half-built one, one clear line for what fails."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"

DRIVER = """
import sys
import environments
from environments import ROOT, Environment, Step

def environment(name, folder, **more):
    install = Step("installing", (f"{name}.py",))
    prove = Step("proving", ("-c", "import sys; sys.exit('broken' in open('proof').read())"))
    return Environment(name, folder, ("constraints.txt",), (install,), (prove,), megabytes=1, **more)

ATTACH = "from pathlib import Path; Path('attached').write_text(Path('.venv').resolve().name)"
environments.ENVIRONMENTS = (
    environment("product", ".venv", attach=Step("attaching", ("-c", ATTACH))),
    environment("label-studio", ".venv-label-studio"),
)
import setup_environments
setup_environments.HEARTBEAT_SECONDS = 0.5
sys.exit(setup_environments.main())
"""
# Leaves a mark in the environment at each installation.
INSTALL = "import sys; open(sys.prefix + '/installed', 'a').write('x')"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return {name: importlib.import_module(name) for name in ("environments", "pip_output", "setup_environments")}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose environments install nothing but a mark."""
    folder = tmp_path / "checkout"
    shutil.copytree(SCRIPTS, folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "scripts" / "driver.py").write_text(DRIVER)
    (folder / "constraints.txt").write_text("one==1\n")
    (folder / "proof").write_text("holds")
    for name in ("product", "label-studio"):
        (folder / f"{name}.py").write_text(INSTALL)
    return folder


def command(checkout: Path, *names: str) -> list[str]:
    return [sys.executable, str(checkout / "scripts" / "driver.py"), *names]


def variables(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "INSPECTION_CACHE"}
    return {**inherited, **more}


def set_up(checkout: Path, *names: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(checkout, *names), capture_output=True, text=True, env=variables(**more), check=False)


def one_line(answer: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr of a set-up that failed."""
    assert answer.returncode == 1, answer
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1, answer.stderr
    assert lines[0].startswith("setup: ")
    return lines[0]


@pytest.mark.slow
def test_both_are_built_once_then_updated_in_place_and_begun_anew_when_cut_short(checkout: Path) -> None:
    first = set_up(checkout)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("ready") == 2
    product = checkout / ".venv"
    assert (product / "installed").read_text() == "x"
    assert (checkout / ".venv-label-studio" / "installed").read_text() == "x"

    assert set_up(checkout).stdout == ""
    assert (product / "installed").read_text() == "x"

    (checkout / "constraints.txt").write_text("one==2\n")
    updated = set_up(checkout, "product")
    assert "up to date" in updated.stdout
    assert (product / "installed").read_text() == "xx"

    (product / ".setup-complete").unlink()
    assert "creating" in set_up(checkout, "product").stdout
    assert (product / "installed").read_text() == "x"
    assert not (checkout / "attached").exists()


@pytest.mark.slow
def test_a_cache_is_shared_by_checkouts_and_each_is_attached(checkout: Path, tmp_path: Path) -> None:
    cache = {"INSPECTION_CACHE": str(tmp_path / "cache")}
    assert set_up(checkout, "product", **cache).returncode == 0
    home = (checkout / ".venv").resolve()
    assert home.parent == tmp_path / "cache"
    assert (checkout / "attached").read_text() == home.name

    second = tmp_path / "second"
    shutil.copytree(checkout, second, ignore=shutil.ignore_patterns(".venv", ".inspection", "attached"))
    (second / ".venv").mkdir()
    assert set_up(second, "product", **cache).stdout == ""
    assert (second / ".venv").resolve() == home
    assert (second / "attached").exists()
    assert (home / "installed").read_text() == "x"

    # Half-built: what a killed set-up leaves.
    (home / ".setup-complete").unlink()
    (home / "installed").write_text("half")
    assert set_up(second, "product", **cache).returncode == 0
    assert (home / "installed").read_text() == "x"

    # Without the cache the checkout gets a folder of its own, and the cache is left alone.
    assert set_up(second, "product").returncode == 0
    assert not (second / ".venv").is_symlink()
    assert (home / "installed").read_text() == "x"


@pytest.mark.slow
def test_a_failure_is_one_line_stops_the_other_and_leaves_no_stamp(checkout: Path) -> None:
    (checkout / "product.py").write_text("print('ERROR: [Errno 28] No space left on device'); raise SystemExit(1)")
    (checkout / "label-studio.py").write_text("import time; time.sleep(600)")
    line = one_line(set_up(checkout))
    assert "product: the disk is full" in line
    assert "product.log" in line
    assert not list(checkout.glob(".venv*/.setup-complete"))


@pytest.mark.slow
def test_an_update_that_does_not_hold_together_is_begun_anew_and_a_broken_build_is_refused(checkout: Path) -> None:
    assert set_up(checkout, "product").returncode == 0
    (checkout / "constraints.txt").write_text("one==2\n")
    (checkout / "proof").write_text("broken")
    answer = set_up(checkout, "product")
    assert "beginning anew" in answer.stdout
    one_line(answer)
    (checkout / "proof").write_text("holds")
    assert set_up(checkout, "product").returncode == 0
    assert (checkout / ".venv" / "installed").read_text() == "x"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_no_process_and_says_so(checkout: Path, number: signal.Signals) -> None:
    (checkout / "product.py").write_text("import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)")
    child = subprocess.Popen(command(checkout, "product"), stderr=subprocess.PIPE, text=True, env=variables())
    deadline = time.monotonic() + 60
    while not ((checkout / "pid").exists() and (checkout / "pid").read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    child.send_signal(number)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert errors == "setup: stopped; run it again to start over\n"
    installer = (checkout / "pid").read_text()
    state = subprocess.run(["ps", "-o", "stat=", "-p", installer], capture_output=True, text=True, check=False).stdout
    assert not state.strip() or state.startswith("Z"), "the installer still runs"


def test_an_unwritable_checkout_is_told_in_one_line(checkout: Path) -> None:
    (checkout / ".inspection").write_text("a file where a folder should be")
    assert ".inspection" in one_line(set_up(checkout, "product"))


def test_too_small_a_disk_is_told_before_anything_is_built(checkout: Path) -> None:
    driver = checkout / "scripts" / "driver.py"
    driver.write_text(driver.read_text().replace("megabytes=1,", "megabytes=10**12,"))
    assert "make room and run again" in one_line(set_up(checkout, "product"))
    assert not (checkout / ".venv").exists()


def fake_python(folder: Path, name: str, version: str) -> Path:
    """A program that answers as a Python of `version` would: well to the check where that fits, else badly."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    inside = (3, 10) <= tuple(int(part) for part in version.split(".")) <= (3, 13)
    program.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit {0 if inside else 1}\necho "{name} $*"\n')
    program.chmod(0o755)
    return program


def choose(**more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    line = ["/bin/sh", str(SCRIPTS / "setup.sh"), "product"]
    return subprocess.run(line, capture_output=True, text=True, env={**environment, **more}, check=False)


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        ({"python3.10": "3.10", "python3.11": "3.11", "python3.12": "3.12"}, "python3.11"),
        ({"python3.10": "3.10", "python3.12": "3.12"}, "python3.12"),
        ({"python3.11": "3.9", "python3": "3.13"}, "python3"),
    ],
)
def test_the_first_python_that_runs_and_fits_is_chosen(present: dict[str, str], chosen: str, tmp_path: Path) -> None:
    for name in ("python3", "python3.10", "python3.11", "python3.12", "python3.13"):
        fake_python(tmp_path / "bin", name, present.get(name, "3.8"))
    answer = choose(PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert answer.stdout == f"{chosen} {SCRIPTS / 'setup_environments.py'} product\n"


def test_a_wrong_python_is_told_in_one_line(tmp_path: Path) -> None:
    old = fake_python(tmp_path / "bin", "python3.9", "3.9")
    assert "is not a Python 3.10 to 3.13" in one_line(choose(PYTHON=str(old)))
    assert "is not a Python 3.10 to 3.13" in one_line(choose(PYTHON="/no/such/python"))
    for name in ("python3", "python3.10", "python3.11", "python3.12", "python3.13"):
        fake_python(tmp_path / "none", name, "3.14")
    assert "no Python 3.10 to 3.13 found" in one_line(choose(PATH=f"{tmp_path / 'none'}:/usr/bin:/bin"))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)': /simple/x/\n"
            "ERROR: Could not find a version that satisfies the requirement x (from versions: none)\n"
            "ERROR: No matching distribution found for x",
            "the package index cannot be reached",
        ),
        ("The virtual environment was not created successfully because ensurepip is not available.", "apt-get install"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/x'",
            "cannot be written",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement torch==9\n"
            "ERROR: No matching distribution found for torch==9",
            "failed: No matching distribution found for torch==9",
        ),
        ("Traceback (most recent call last):\nAssertionError: cv2 is an empty folder", "cv2 is an empty folder"),
        ("inexplicable", "see the log"),
    ],
)
def test_what_pip_says_on_failing_becomes_one_line(
    scripts: dict[str, Any], output: str, words: str, tmp_path: Path
) -> None:
    line = scripts["pip_output"].explain(output, tmp_path)
    assert words in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (
            "Collecting torch<2.14\n  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (192.0 MB)",
            "downloading torch-2.13.0 (192.0 MB)",
        ),
        ("  Downloading attr-0.3.1.tar.gz (1.7 kB)", "downloading attr-0.3.1 (1.7 kB)"),
        ("  Using cached label_studio-1.23.2-py3-none-any.whl (60 MB)\nCollecting Django<6", "looking up Django"),
        ("Building wheels for: attr\n  Building wheel for attr (setup.py): started", "building attr"),
        ("Installing collected packages: a, b, c", "unpacking 3 packages"),
        ("WARNING: Retrying (Retry(total=2)) after connection broken", "waiting for the network"),
        ("", "working"),
    ],
)
def test_what_pip_is_doing_is_said_in_words(scripts: dict[str, Any], output: str, words: str) -> None:
    assert scripts["pip_output"].activity(output).startswith(words)


def test_only_what_changes_the_packages_changes_the_recipe(scripts: dict[str, Any], tmp_path: Path) -> None:
    environments = scripts["environments"]
    product = environments.ENVIRONMENTS[0]
    for name in product.inputs:
        shutil.copy(ROOT / name, tmp_path / name)
    pyproject = tmp_path / "pyproject.toml"
    text = pyproject.read_text()
    before = environments.recipe(product, tmp_path)
    assert before == environments.recipe(product, ROOT)

    pyproject.write_text(text.replace("line-length = 120", "line-length = 100"))
    assert environments.recipe(product, tmp_path) == before
    for changed in (text.replace('"rich>=13"', '"rich>=14"'), text.replace("setuptools>=77", "setuptools>=78")):
        assert changed != text
        pyproject.write_text(changed)
        assert environments.recipe(product, tmp_path) != before
    pyproject.write_text(text)
    (tmp_path / "constraints.txt").write_text("torch==2.12.0\n")
    assert environments.recipe(product, tmp_path) != before


def test_environments_unused_for_a_month_are_removed_from_the_cache(scripts: dict[str, Any], tmp_path: Path) -> None:
    environments = scripts["environments"]
    for name in ("venv-old", "venv-kept", "venv-new", "venv-label-studio-old", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / environments.STAMP).touch()
        if not name.endswith("new"):
            os.utime(tmp_path / name / environments.STAMP, (0, 0))
    environments.prune(tmp_path, {tmp_path / "venv-kept"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "venv-kept", "venv-new"]


def test_the_pinned_sets_agree_with_what_the_product_names() -> None:
    lines = (ROOT / "constraints-label-studio.txt").read_text().splitlines()
    pins = dict(line.partition(";")[0].strip().split("==") for line in lines if not line.startswith("#"))
    from backend.demo.label_studio_server import LABEL_STUDIO_VERSION

    assert pins["label-studio"] == LABEL_STUDIO_VERSION
    assert f"label-studio=={LABEL_STUDIO_VERSION}" in (SCRIPTS / "environments.py").read_text()
    product = (ROOT / "constraints.txt").read_text()
    assert "opencv-python==4.12.0.88" in product
    assert "opencv-python-headless==4.12.0.88" in product


@pytest.mark.parametrize(
    ("constraints", "folder"),
    [("constraints.txt", ".venv"), ("constraints-label-studio.txt", ".venv-label-studio")],
)
def test_no_pin_shuts_out_a_python_that_is_supported(constraints: str, folder: str) -> None:
    site_packages = [str(path) for path in (ROOT / folder).glob("lib/python*/site-packages")]
    if not site_packages:
        reason = f"{folder} is not built: run `make environments`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    needed = {
        (canonicalize_name(found.metadata["Name"]), Version(found.version).public): found.metadata["Requires-Python"]
        for found in importlib.metadata.distributions(path=site_packages)
    }
    lines = (ROOT / constraints).read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    compared = 0
    for pin in pins:
        (release,) = pin.specifier
        key = (canonicalize_name(pin.name), release.version)
        compared += key in needed
        for python in ("3.10", "3.11", "3.12", "3.13"):
            applies = pin.marker is None or pin.marker.evaluate({"python_version": python})
            if applies:
                assert SpecifierSet(needed.get(key) or "").contains(f"{python}.99"), f"{pin} on Python {python}"
    # An environment of an older Python holds other releases of some.
    assert compared > len(pins) / 2


def test_help_is_what_make_says_first() -> None:
    answer = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    for target in ("install", "demo", "test", "test-fast", "lint", "bench", "clean"):
        assert f"make {target} " in answer


def test_system_needs_are_named_with_the_way_to_get_them(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "uname", "ls", "grep"):
        (tools / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    script = str(SCRIPTS / "system_needs.sh")
    environment = {"PATH": str(tools)}
    answer = subprocess.run(["/bin/sh", script], capture_output=True, text=True, env=environment, check=False)
    assert answer.returncode == 1
    assert "chromium" in answer.stderr
    assert "apt-get install -y chromium" in answer.stderr
    names = subprocess.run(
        ["/bin/sh", script, "--packages"], capture_output=True, text=True, env=environment, check=True
    )
    assert "chromium" in names.stdout.split()
