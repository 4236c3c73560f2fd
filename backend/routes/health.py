"""Is the desk alive, and is it ready: for process supervisors, load balancers and Label Studio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio.to_thread
from fastapi import APIRouter, Request, Response, status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.desk import Desk

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(request: Request, response: Response) -> dict[str, Any]:
    """Model loaded, database reachable, migrated and guarded: 200, else 503 with what is missing.

    "degraded", with 200, where it works but another model version answers than the one that was activated. The reasons,
    which name files and hosts, are told to callers with credentials only.
    """
    desk: Desk = request.app.state.desk
    problems = await anyio.to_thread.run_sync(desk.problems)
    if problems:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return _told(request, "not ready", problems)
    warnings = await anyio.to_thread.run_sync(desk.warnings)
    return _told(request, "degraded", warnings) if warnings else {"status": "ready"}


def _told(request: Request, state: str, problems: Sequence[str]) -> dict[str, Any]:
    return {"status": state, "problems": list(problems)} if request.state.is_known else {"status": state}
