"""Label Studio's ML backend contract: /health, /setup, /predict, /versions and /webhook."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request, status

from backend.label_studio.labeling_config import LabelingConfigError
from backend.label_studio.payloads import START_TRAINING, WEBHOOK_ACTIONS, PredictRequest, SetupRequest

if TYPE_CHECKING:
    from backend.desk import Desk

logger = logging.getLogger(__name__)
router = APIRouter(tags=["label studio"])

# Label Studio gives up on a webhook after one second. Its threads are its own, so that a burst of long predictions
# cannot keep a webhook from being written down.
_WEBHOOK_THREADS = 4

# For the description alone: an event is written down as it comes, and read when it is worked off.
_EVENT = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["action"],
                "properties": {
                    "action": {"type": "string", "examples": [*WEBHOOK_ACTIONS, START_TRAINING]},
                    "annotation": {"type": ["object", "array"]},
                    "annotations": {"type": "array", "items": {"type": "object"}},
                    "project": {"type": "object"},
                    "task": {"type": ["object", "array"]},
                },
            }
        }
    },
}


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


@router.get("/health")
async def health(request: Request) -> dict[str, str]:
    """Answered from the event loop: never waits for a prediction under way, nor for the database."""
    return {"status": "UP", "model_version": _desk(request).models.last_known}


@router.post("/setup")
async def setup(request: Request, body: SetupRequest) -> dict[str, str]:
    """Say which model version answers, and log which classes the labeling configuration has no label for.

    Label Studio asks this before each prediction and leaves out the tasks that have one of this version.
    """
    desk = _desk(request)
    model = await anyio.to_thread.run_sync(desk.models.announced, body.project_id)
    for sentence in await anyio.to_thread.run_sync(desk.bind_anew, body.project_id, body.label_config, model):
        logger.warning("project %s: %s", body.project_id, sentence)
    return {"model_version": model.model_version}


@router.post("/predict")
def predict(request: Request, body: PredictRequest) -> dict[str, Any]:
    """One answer a task, in the order of the tasks; stateless, for all it needs comes with the request.

    With a smart tool's context it is the answer to a question, and nothing of it is recorded.
    """
    from backend.ml_backend import InspectionBackend  # noqa: PLC0415 - brings redis and rq in

    desk = _desk(request)
    try:
        model = InspectionBackend(desk, label_config=body.label_config, project=body.project_id)
    except LabelingConfigError as error:
        desk.keep_unusable_configuration(body.project_id, str(error))
        raise
    return {"results": model.predict(body.tasks, context=body.params.context)}


@router.get("/versions")
@router.post("/versions")
async def versions(request: Request) -> dict[str, list[str]]:
    """The versions that this backend can answer with."""
    models = await anyio.to_thread.run_sync(_desk(request).models.versions)
    return {"versions": [model.model_version for model in models]}


@router.post("/webhook", status_code=status.HTTP_202_ACCEPTED, openapi_extra={"requestBody": _EVENT})
async def webhook(request: Request) -> dict[str, str]:
    """Write the event down durably, as it came, answer, and work it off later.

    `START_TRAINING` becomes a training from reviews, in a process of its own, of which one waits or runs at a time.
    """
    body = await request.body()
    taken = await anyio.to_thread.run_sync(_desk(request).enqueue_webhook, body, limiter=_limiter(request))
    return {"status": taken}


def _limiter(request: Request) -> anyio.CapacityLimiter:
    limiter: anyio.CapacityLimiter | None = getattr(request.app.state, "webhook_limiter", None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(_WEBHOOK_THREADS)
        request.app.state.webhook_limiter = limiter
    return limiter
