"""The HTTP service: routes, limits and what a caller sees when something fails."""

from __future__ import annotations

import logging
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from backend.label_studio.asking import QuestionError
from backend.label_studio.labeling_config import LabelingConfigError
from backend.map_addresses import MAPS_PATH
from backend.model_loading import ModelUnavailableError
from backend.routes import health, label_studio, maps, status
from backend.security import BodyLimit, Door
from db.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backend.desk import Desk

logger = logging.getLogger(__name__)

_MOST_PROBLEMS = 20
_LONGEST_SENTENCE = 1000
_NOT_NOW = "the model or the database is away; try again, and ask `inspection doctor` for the reason"


def create_app(desk: Desk) -> FastAPI:
    """The ASGI application for a desk. The desk starts with the application and closes with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        desk.start()
        try:
            yield
        finally:
            desk.close()

    app = FastAPI(title="Inspection", version=desk.software_version, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.desk = desk
    app.include_router(label_studio.router)
    app.include_router(health.router)
    app.include_router(maps.router)
    app.include_router(status.router)
    # The last one added sees a request first.
    app.add_middleware(BodyLimit, limit=desk.settings.max_request_bytes, refused=desk.keep_refused)
    app.add_middleware(Door, credentials=desk.credentials)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(DatabaseError, _try_later)
    app.add_exception_handler(ModelUnavailableError, _try_later)
    app.add_exception_handler(LabelingConfigError, _unusable)
    app.add_exception_handler(QuestionError, _unusable)
    app.add_exception_handler(Exception, _internal_error)
    return app


def _invalid_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type only
    found = error.errors()
    problems = [
        {"field": _shown(".".join(str(part) for part in item["loc"])), "problem": _shown(item["msg"])}
        for item in found[:_MOST_PROBLEMS]
    ]
    told = {"detail": "this is no request of Label Studio's", "number_of_problems": len(found), "problems": problems}
    return JSONResponse(told, status_code=422)


def _unusable(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": _shown(str(error))}, status_code=400)


def _try_later(request: Request, error: Exception) -> JSONResponse:
    """The reason, which may name files and hosts, goes to the log and to `inspection doctor`."""
    logger.error("%s %s: %s", request.method, _path(request), error)
    return JSONResponse({"detail": _NOT_NOW}, status_code=503, headers={"Retry-After": "5"})


def _path(request: Request) -> str:
    """A request's path for the log: of a map's without what lets its reader in."""
    path = request.url.path
    return f"{MAPS_PATH}…" if path.startswith(MAPS_PATH) else path


def _shown(text: str) -> str:
    """What a request said, short and writable, so that no answer is as large or as strange as its request."""
    short = text if len(text) <= _LONGEST_SENTENCE else f"{text[:_LONGEST_SENTENCE]}…"
    return short.encode("utf-8", "replace").decode("utf-8")


def _internal_error(request: Request, error: Exception) -> JSONResponse:
    """Tell the caller a number to ask for; the traceback goes to the log only."""
    incident = uuid.uuid4().hex[:12]
    logger.error("incident %s in %s %s", incident, request.method, _path(request), exc_info=error)
    return JSONResponse({"detail": f"internal error; look for incident {incident} in the log"}, status_code=500)
