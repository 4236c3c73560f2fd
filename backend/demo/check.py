"""`inspection demo --check`: each step verified through Label Studio's own API and in SQL, with nobody watching."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from backend.demo.session import uploaded_name
from backend.label_studio.binding import bind
from backend.label_studio.errors import LabelStudioError
from backend.label_studio.labeling_config import parse
from backend.label_studio.results import validate
from backend.label_studio.shapes import geometry_kind
from db import reviews
from db.engine import Database
from db.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backend.demo.session import DemoSession

_REVIEW_PATIENCE_SECONDS = 30.0
# What a verification meets where Label Studio or the database fails it, or answers with something it did not expect.
_FAULTS = (LabelStudioError, DatabaseError, ValueError, LookupError, TypeError)


@dataclass(frozen=True)
class CheckedStep:
    """One thing verified: what was found, and whether that is right."""

    name: str
    ok: bool
    found: str
    seconds: float


def check_demo(session: DemoSession) -> dict[str, Any]:
    """Verify a running demo.

    Returns:
        A JSON-able summary: `ok`, `steps`, `timings_s`, the addresses and the model.
    """
    verifications: tuple[tuple[str, Callable[[DemoSession], tuple[bool, str]]], ...] = (
        ("tasks", _tasks),
        ("predictions", _predictions),
        ("regions", _regions),
        ("retrieve again", _retrieve_again),
        ("review", _review),
    )
    steps = []
    for name, verify in verifications:
        started = time.monotonic()
        ok, found = _verified(verify, session)
        steps.append(CheckedStep(name, ok, found, round(time.monotonic() - started, 2)))
    agreement = None
    try:
        agreement = _agreement(session)
    except _FAULTS as error:
        steps.append(CheckedStep("agreement with truth", False, f"{type(error).__name__}: {error}", 0.0))
    return {
        "ok": all(step.ok for step in steps),
        "steps": [asdict(step) for step in steps],
        "timings_s": session.timings,
        "label_studio": session.server.url,
        "project": session.project.url,
        "model": session.model_version,
        "metrics": {
            part: {name: figures[name] for name in ("images", "balanced_accuracy", "accuracy") if name in figures}
            for part, figures in session.card.metrics.items()
            if isinstance(figures, dict)
        },
        "agreement_with_truth": agreement,
    }


def _verified(verify: Callable[[DemoSession], tuple[bool, str]], session: DemoSession) -> tuple[bool, str]:
    """A step that could not be carried out is a failed step with its reason; those after it are still tried."""
    try:
        return verify(session)
    except _FAULTS as error:
        return False, f"{type(error).__name__}: {error}"


def _tasks(session: DemoSession) -> tuple[bool, str]:
    count = sum(1 for _ in session.client.tasks(session.project.project_id))
    uploaded = len(session.kept.uploaded)
    return count == uploaded, f"{count} tasks for {uploaded} uploaded images"


def _predictions(session: DemoSession) -> tuple[bool, str]:
    config = parse(str(session.client.project(session.project.project_id)["label_config"]))
    counts: list[int] = []
    problems: list[str] = []
    for task in session.client.tasks(session.project.project_id):
        ours = _ours(task, session)
        counts.append(len(ours))
        for prediction in ours:
            problems += [f"task {task['id']}: {text}" for text in validate(prediction, config)]
    one_each = bool(counts) and all(count == 1 for count in counts)
    found = f"{sum(counts)} predictions of {session.model_version} on {len(counts)} tasks"
    return one_each and not problems, "; ".join([found, *problems[:3]])


def _regions(session: DemoSession) -> tuple[bool, str]:
    """Every defect drawn, and nothing drawn on what was called good."""
    config = parse(str(session.client.project(session.project.project_id)["label_config"]))
    binding = bind(config, session.card.classes, session.card.good_class)
    drawn = bare = wrong = 0
    for task in session.client.tasks(session.project.project_id):
        for prediction in _ours(task, session):
            chosen = _chosen(prediction)
            if chosen is None:  # left to the inspector, with or without a region
                continue
            is_good = binding.choice_classes.get(chosen, ())[:1] == (session.card.good_class,)
            regions = sum(geometry_kind(item) is not None for item in prediction["result"])
            drawn += regions
            bare += not is_good and regions == 0
            wrong += is_good and regions > 0
    return (
        bare == 0 and wrong == 0 and drawn > 0,
        f"{drawn} regions; {bare} defects without, {wrong} good ones with one",
    )


def _retrieve_again(session: DemoSession) -> tuple[bool, str]:
    """Asking Label Studio a second time must make no second prediction."""
    project = session.project.project_id
    before = len(session.client.predictions(project))
    session.client.retrieve_predictions(project, [int(task["id"]) for task in session.client.tasks(project)])
    after = len(session.client.predictions(project))
    return after == before, f"{before} predictions before, {after} after"


def _review(session: DemoSession) -> tuple[bool, str]:
    """Accept one prediction as it is, as an inspector would, and find the review in SQL."""
    predicted = [
        (len(task.get("annotations") or []), int(task["id"]), prediction)
        for task in session.client.tasks(session.project.project_id)
        for prediction in _ours(task, session)
        if _chosen(prediction) is not None
    ]
    if not predicted:
        return False, f"no task has a prediction of {session.model_version} to accept"
    _, task_id, prediction = min(predicted, key=lambda one: one[:2])
    annotation = session.client.create_annotation(
        task_id, prediction["result"], parent_prediction=prediction["id"], lead_time=1.0
    )
    database = Database(session.settings.resolved_database_url)
    deadline = time.monotonic() + _REVIEW_PATIENCE_SECONDS
    try:
        while time.monotonic() < deadline:
            with database.read() as unit:
                review = reviews.latest_for_annotation(
                    unit, instance=session.server.url, annotation_id=int(annotation["id"])
                )
            if review is not None:
                text = f"review {review.review_id} of decision {review.decision_id}: {review.outcome}"
                return review.outcome == "accepted", text
            time.sleep(0.2)
    finally:
        database.close()
    return False, f"no review of annotation {annotation['id']} in SQL after {_REVIEW_PATIENCE_SECONDS:.0f} s"


def _agreement(session: DemoSession) -> dict[str, int] | None:
    """How many synthetic images were called what they are, of those that the model decided itself."""
    truth = session.material.truth
    if not truth:
        return None
    right = total = for_review = 0
    for task in session.client.tasks(session.project.project_id):
        name = uploaded_name(task)
        for prediction in _ours(task, session):
            chosen = _chosen(prediction)
            for_review += chosen is None
            total += chosen is not None
            right += chosen is not None and chosen == truth.get(name)
    return {"right": right, "of": total, "for_review": for_review}


def _ours(task: Mapping[str, Any], session: DemoSession) -> list[dict[str, Any]]:
    return [p for p in task.get("predictions") or [] if p.get("model_version") == session.model_version]


def _chosen(prediction: Mapping[str, Any]) -> str | None:
    return next((item["value"]["choices"][0] for item in prediction["result"] if item["type"] == "choices"), None)
