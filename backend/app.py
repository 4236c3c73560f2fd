"""The HTTP service: routes, limits and what a caller sees when something fails."""

from __future__ import annotations

import logging
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from backend.label_studio.labeling_config import LabelingConfigError
from backend.model_loading import ModelUnavailableError
from backend.routes import health, label_studio
from backend.security import BodyLimit, Door
from db.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backend.desk import Desk

logger = logging.getLogger(__name__)


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
    # The last one added sees a request first.
    app.add_middleware(BodyLimit, limit=desk.settings.max_request_bytes, refused=desk.keep_refused)
    app.add_middleware(Door, credentials=desk.credentials)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(DatabaseError, _try_later)
    app.add_exception_handler(ModelUnavailableError, _try_later)
    app.add_exception_handler(LabelingConfigError, _unusable_config)
    app.add_exception_handler(Exception, _internal_error)
    return app


def _invalid_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type only
    problems = [{"field": ".".join(str(p) for p in item["loc"]), "problem": item["msg"]} for item in error.errors()]
    return JSONResponse({"detail": "this is no request of Label Studio's", "problems": problems}, status_code=422)


def _unusable_config(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=400)


def _try_later(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s: %s", request.method, request.url.path, error)
    return JSONResponse({"detail": str(error)}, status_code=503, headers={"Retry-After": "5"})


def _internal_error(request: Request, error: Exception) -> JSONResponse:
    """Tell the caller a number to ask for; the traceback goes to the log only."""
    incident = uuid.uuid4().hex[:12]
    logger.error("incident %s in %s %s", incident, request.method, request.url.path, exc_info=error)
    return JSONResponse({"detail": f"internal error; look for incident {incident} in the log"}, status_code=500)
