"""How the desk stands, as a page for a supervisor and as JSON for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qs

import anyio.to_thread
from fastapi import APIRouter, HTTPException, Query, Request, status
from fastapi.responses import HTMLResponse, RedirectResponse

from backend.reviews import WEBHOOK_JOB
from backend.status.forms import FormTokens, is_from_here
from backend.status.gathering import gather
from backend.status.page import content_security_policy, render_page
from backend.status.report import Status
from db import jobs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.desk import Desk

router = APIRouter(tags=["status"])

_LONGEST_FORM = 4096
_LONGEST_NAMED = 200
_OLD = "this form is not the status page's, or it is older than 12 hours; open /status and press again"


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _tokens(desk: Desk) -> FormTokens:
    accepted = desk.credentials()
    return FormTokens((accepted.password, *accepted.former_passwords), "start failed jobs over")


@router.get("/api/v1/status")
def status_as_json(request: Request) -> Status:
    """Queue, failures, models, and each project's backlog, outcomes, agreement and reviews a day."""
    return gather(_desk(request))


@router.get("/status", response_class=HTMLResponse)
def status_page(request: Request, retried: Annotated[int | None, Query(ge=0)] = None) -> HTMLResponse:
    """The same as a page."""
    desk = _desk(request)
    page = render_page(gather(desk), token=_tokens(desk).new(), retried=retried)
    headers = {
        "Content-Security-Policy": content_security_policy(),
        "Cache-Control": "no-store",
        # Not "no-referrer", under which a browser does not tell where a form was sent from.
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(page, headers=headers)


@router.post("/status/retry", response_class=RedirectResponse, status_code=status.HTTP_303_SEE_OTHER)
async def retry(request: Request) -> RedirectResponse:
    """Let all failed webhooks start over; only for the form of the status page."""
    desk = _desk(request)
    if not is_from_here(request.headers, desk.settings.public_url):
        raise HTTPException(status.HTTP_403_FORBIDDEN, _from_elsewhere(request.headers))
    if not _tokens(desk).is_good(await _token(request)):
        raise HTTPException(status.HTTP_403_FORBIDDEN, _OLD)
    retried = await anyio.to_thread.run_sync(_requeue_all, desk)
    return RedirectResponse(f"/status?retried={retried}", status_code=status.HTTP_303_SEE_OTHER)


async def _token(request: Request) -> str:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, _OLD)
    return parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]


def _from_elsewhere(headers: Mapping[str, str]) -> str:
    origin, host = (headers.get(name, "")[:_LONGEST_NAMED] for name in ("origin", "host"))
    return (
        f"this form was sent from a page of {origin or 'no known origin'}, and the desk was called as {host}; if both "
        "are this desk, let the proxy before it pass the Host header on, or set INSPECTION_PUBLIC_URL to the address "
        "that the browser shows; else open /status and press again"
    )


def _requeue_all(desk: Desk) -> int:
    with desk.database.write() as session:
        return jobs.requeue_failed(session, WEBHOOK_JOB)
