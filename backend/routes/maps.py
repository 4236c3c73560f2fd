"""The picture beside a photograph in Label Studio's labeling page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from fastapi import APIRouter, HTTPException, Request, Response, status

from backend.map_addresses import allowed_project

if TYPE_CHECKING:
    from backend.desk import Desk

router = APIRouter(tags=["maps"])

# Each holds a photograph in memory; more than the cores would only wait for each other.
_THREADS = 2
_MOST_WAITING = 16
_RETRY_SECONDS = 5
_HEADERS = {
    # The page reads the picture from another origin; it carries no cookies, and the address is its permission.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@router.get("/maps/{project_id}/{name}", response_class=Response)
async def evidence(request: Request) -> Response:
    """The maps of the photograph at `image`, which is all of the query that follows it, as the page wrote it.

    Answered with 200 also where there is nothing to show but a reason: Label Studio shows no other picture. Who comes
    while too many wait is sent away with 503; for who has gone meanwhile nothing is drawn.
    """
    desk: Desk = request.app.state.desk
    project_id = allowed_project(request.url.path, desk.credentials().map_keys)
    _, named, address = request.url.query.partition("image=")
    if project_id is None or not named:
        raise HTTPException(status.HTTP_404_NOT_FOUND)
    limiter = _limiter(request)
    if limiter.statistics().tasks_waiting >= _MOST_WAITING:
        raise HTTPException(
            status.HTTP_503_SERVICE_UNAVAILABLE,
            "too many maps are being drawn; reload the page",
            headers={"Retry-After": str(_RETRY_SECONDS)},
        )
    async with limiter:
        if await request.is_disconnected():
            return Response(status_code=status.HTTP_503_SERVICE_UNAVAILABLE)
        picture = await anyio.to_thread.run_sync(desk.map_pictures.picture, project_id, address)
    return Response(picture, media_type="image/jpeg", headers=_HEADERS)


def _limiter(request: Request) -> anyio.CapacityLimiter:
    limiter: anyio.CapacityLimiter | None = getattr(request.app.state, "map_limiter", None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(_THREADS)
        request.app.state.map_limiter = limiter
    return limiter
