"""`inspection serve` and `inspection worker`: the HTTP service, and the queue's worker beside or inside it."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from backend.map_addresses import MAPS_PATH


def register(application: typer.Typer) -> None:
    """Add the commands."""
    application.command("serve")(serve)
    application.command("worker")(worker)


def serve(
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Work off the queue in this process too (one machine).")
    ] = True,
) -> int:
    """Serve Label Studio and people until stopped. Address, database and model come from INSPECTION_* settings."""
    import uvicorn  # noqa: PLC0415

    from backend.app import create_app  # noqa: PLC0415
    from backend.demo.processes import require_free_port  # noqa: PLC0415
    from backend.desk import Desk  # noqa: PLC0415
    from backend.settings import Settings  # noqa: PLC0415

    settings = Settings()
    # Said before the model is loaded and the database touched, which the desk that listens there may be using.
    require_free_port(settings.port, "INSPECTION_PORT", settings.host)
    _log_to_stderr()
    desk = Desk.open(settings, work_off_queue=worker)
    uvicorn.run(create_app(desk), host=settings.host, port=settings.port, log_config=None, timeout_graceful_shutdown=20)
    return 0


def worker() -> int:
    """Work off the webhook queue until stopped, in a process of its own."""
    from backend.settings import Settings  # noqa: PLC0415
    from backend.worker import run_until_stopped  # noqa: PLC0415

    _log_to_stderr()
    run_until_stopped(Settings())
    return 0


class WithoutMapAddresses(logging.Filter):
    """Cuts what lets a reader in off the access lines of maps."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every line through, those of maps without their address."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                f"{MAPS_PATH}…" if isinstance(part, str) and part.startswith(MAPS_PATH) else part
                for part in record.args
            )
        return True


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    # Its access lines hold the addresses of task images and of callers, which are nobody's business in a log.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").addFilter(WithoutMapAddresses())
