"""Label Studio's empty database, migrated once and copied ever after: a minute saved at each first start."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from backend.demo.processes import POLL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

DATABASE_NAME = "label_studio.sqlite3"
MIGRATION_TIMEOUT_SECONDS = 1800.0
REQUIRED_BYTES = 300_000_000
# Label Studio reads settings from bare names such as HOST, PORT, DEBUG or SECRET_KEY, and its calls to the backend
# would follow a proxy: only these reach it from the user's own environment.
INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


class LabelStudioError(RuntimeError):
    """Label Studio cannot be prepared, started or logged in to."""


def prepare_template(executable: Path, cache_dir: Path, *, progress: Callable[[float], None] | None = None) -> Path:
    """An empty, migrated Label Studio database, made once for each set of installed packages.

    The template holds no user, no token and no secret key, so that installations made from it share nothing.

    Args:
        executable: the `label-studio` program of a virtual environment.
        cache_dir: where templates are kept.
        progress: hears the seconds passed while the database is being made (about a minute).

    Returns:
        The template's folder.

    Raises:
        LabelStudioError: Label Studio cannot be run, or there is no room.
    """
    template = cache_dir / f"label-studio-template-{_installation_key(executable)}"
    if (template / DATABASE_NAME).is_file():
        return template
    require_disk_space(cache_dir)
    with tempfile.TemporaryDirectory(prefix="label-studio-template-", dir=cache_dir) as building:
        workplace = Path(building) / "workplace"
        workplace.mkdir()
        _migrate(executable, workplace, progress)
        finished = Path(building) / "template"
        finished.mkdir()
        shutil.copyfile(workplace / DATABASE_NAME, finished / DATABASE_NAME)
        try:
            finished.rename(template)
        except OSError as error:
            # Another process may have finished the same template first; its result is as good.
            if not (template / DATABASE_NAME).is_file():
                raise LabelStudioError(f"cannot write {template} ({error.strerror})") from error
    return template


def loopback_environment(base_dir: Path) -> dict[str, str]:
    """Variables under which Label Studio stays on this machine and may call a backend on loopback."""
    inherited = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
    return {
        **inherited,
        "LABEL_STUDIO_BASE_DATA_DIR": str(base_dir),
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "DJANGO_DB": "sqlite",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        "ML_TIMEOUT_PREDICT": "100",
        "PYTHONUNBUFFERED": "1",
    }


def _migrate(executable: Path, base_dir: Path, progress: Callable[[float], None] | None) -> None:
    """Have Label Studio make its database: every command migrates first, and `version` does nothing after that."""
    log_file = base_dir / "migration.log"
    started = time.monotonic()
    try:
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [executable, "version"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                cwd=base_dir, env=loopback_environment(base_dir),
            )  # fmt: skip
    except OSError as error:
        raise LabelStudioError(f"cannot run {executable} ({error.strerror}); `make demo` installs it") from error
    try:
        while process.poll() is None:
            elapsed = time.monotonic() - started
            if elapsed > MIGRATION_TIMEOUT_SECONDS:
                raise LabelStudioError(f"Label Studio did not finish its database within {elapsed:.0f} s")
            if progress is not None:
                progress(elapsed)
            time.sleep(POLL_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0 or not _has_migrations(base_dir / DATABASE_NAME):
        tail = "\n".join(log_file.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-12:])
        raise LabelStudioError(f"Label Studio could not make its database (exit {process.returncode}):\n{tail}")


def _has_migrations(database: Path) -> bool:
    if not database.is_file():
        return False
    with closing(sqlite3.connect(database)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return {"django_migrations", "htx_user", "ml_mlbackend"} <= tables


def _installation_key(executable: Path) -> str:
    """Names one set of installed packages: Label Studio's version and a hash over all distributions beside it."""
    distributions = sorted(path.name for path in executable.parent.parent.glob("lib/python*/site-packages/*.dist-info"))
    label_studio = next((name for name in distributions if name.startswith("label_studio-")), None)
    if label_studio is None:
        raise LabelStudioError(f"there is no Label Studio installed beside {executable}; `make demo` installs it")
    version = label_studio.removeprefix("label_studio-").removesuffix(".dist-info")
    digest = hashlib.sha256("\n".join(distributions).encode()).hexdigest()
    return f"{version}-{digest[:12]}"


def require_disk_space(folder: Path) -> None:
    """Make sure that `folder` exists and has room.

    Raises:
        LabelStudioError: it cannot be made, or there is less than `REQUIRED_BYTES` free.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise LabelStudioError(f"cannot use the folder {folder} ({error.strerror}); choose another") from error
    if free < REQUIRED_BYTES:
        raise LabelStudioError(
            f"only {free / 1e6:.0f} MB are free for {folder}, {REQUIRED_BYTES / 1e6:.0f} MB are needed; make room or "
            "choose another folder"
        )
