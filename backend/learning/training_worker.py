"""Trainings that are asked for in Label Studio: one at a time, each in a process of its own, its result at the gate.

The process ends with the one that started it, also where that is killed. The job then comes back when its lease has run
out, and the training goes on from its last checkpoint; anew, where options or lessons are others by then.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from backend.demo.processes import ManagedProcess
from backend.learning.recipe import recipe_of
from backend.model_registration import registration
from backend.models_in_use import store_of, version_in_use
from backend.worker import QueueWorker
from db import jobs, model_locations, model_versions, reviews, trainings
from db.errors import DatabaseError
from db.types import new_id
from inspection_models.model_card import CARD_FILE, ModelError, read_card

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from backend.settings import Settings
    from backend.worker import Effect
    from db.engine import Database
    from db.records import Job
    from db.trainings import Training

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 5.0
_REPORT, _RULES = "gate.json", "rules.toml"


class TrainingFailedError(RuntimeError):
    """A training's process failed; the message is its own."""


class _StoppedError(BaseException):
    """This process is to end; what was trained is kept. No failure of the training, so nothing else catches it."""


def job_kind(instance: str) -> str:
    """The kind of a Label Studio's jobs; desks at several of them may share a database."""
    return f"train {instance}"


def ask_for_training(session: Session, instance: str, project_id: int) -> bool:
    """Take a training in; False where one waits or runs already."""
    training_id = new_id()
    if jobs.enqueue_only(session, job_kind(instance), {"training": str(training_id)}) is None:
        return False
    trainings.ask(session, training_id, instance=instance, project_id=project_id)
    return True


class TrainingWorker:
    """Has trainings done, beside whoever works off webhooks.

    Args:
        settings: of the desk, which the processes started here have from the same environment.
        database: has the queue, and hears how far trainings are.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._kind = job_kind(settings.label_studio_url)
        self._worker = QueueWorker(database, {self._kind: self.handle})
        self._stop = threading.Event()

    def wake(self) -> None:
        """Look at the queue now rather than at the next turn."""
        self._worker.wake()

    def run(self, stop: threading.Event) -> None:
        """Have trainings done until `stop` is set; the one in hand then ends at its last checkpoint."""
        self._stop = stop
        self._worker.run(stop)

    def handle(self, job: Job) -> Effect:
        """Train and compare; the effect registers the version, or keeps why there is none.

        Raises:
            DatabaseError: the database is away.
        """
        training_id = UUID(job.payload["training"])
        with self._database.read() as session:
            training = trainings.find(session, training_id)
        try:
            return self._trained(training) if training is not None else _nothing
        except _StoppedError:
            return lambda session: _ask_again(session, self._kind, job)
        except DatabaseError:
            raise
        except Exception as error:
            if not isinstance(error, TrainingFailedError | ModelError | OSError):
                logger.exception("training %s met what nobody foresaw", training_id)
            reason = str(error) or type(error).__name__
            logger.warning("training %s failed: %s", training_id, reason)
            return lambda session: trainings.fail(session, training_id, reason)

    def _trained(self, training: Training) -> Effect:
        folder = self._settings.data_dir.absolute() / "learning" / "trainings" / str(training.training_id)
        service = self._service(training.project_id)
        candidate = folder / "model"
        if not (candidate / CARD_FILE).exists():
            self._tell(training, "starting")
            command = ["train", "--from-reviews", "--out", str(candidate), "--training", str(training.training_id)]
            options = shlex.split(self._settings.training_options)
            command += [*self._projects(training.project_id), *recipe_of(read_card(service / CARD_FILE)), *options]
            self._run(command, folder / "training.log", accepted=(0,))
        card = read_card(candidate / CARD_FILE)
        verdict, report = self._compared(training, candidate, service, folder)
        logger.info("training %s made %s %s: %s", training.training_id, card.name, card.version, verdict or "no gate")

        def effect(session: Session) -> None:
            model_versions.register(session, registration(card))
            model_locations.record(session, card.fingerprint, str(candidate))
            trainings.finish(session, training.training_id, card.fingerprint, verdict=verdict, report=report)

        return effect

    def _compared(
        self, training: Training, candidate: Path, service: Path, folder: Path
    ) -> tuple[str | None, str | None]:
        """What the gate says of the new version and the folder of its report; None where there is nothing to ask by."""
        if not self._settings.held_out:
            return None, None
        golden, report = self._settings.held_out[0], folder / "gate"
        self._tell(training, "comparing at the gate with the version in use")
        (report / _REPORT).unlink(missing_ok=True)
        command = ["evaluate", str(candidate), "--against", str(service), "--data", str(golden), "--out", str(report)]
        rules = ["--rules", str(golden / _RULES)] if (golden / _RULES).is_file() else []
        try:
            self._run([*command, "--overwrite", *rules], folder / "gate.log", accepted=(0, 1))
            return str(json.loads((report / _REPORT).read_text(encoding="utf-8"))["verdict"]), str(report)
        except (TrainingFailedError, FileNotFoundError):
            return f"not compared: {_last_words(folder / 'gate.log')}", None

    def _run(self, arguments: Sequence[str], log: Path, *, accepted: tuple[int, ...]) -> None:
        command = [sys.executable, "-m", "backend.cli", *arguments]
        with ManagedProcess(
            "the training", command, log_file=log, environment={**os.environ, **_threads(self._settings)}
        ) as process:
            while process.is_running:
                if self._stop.wait(_POLL_SECONDS):
                    process.stop(_GRACE_SECONDS)
                    raise _StoppedError
            status = process.exit_status
        if status is not None and status < 0:
            raise TrainingFailedError(
                f"its process was ended by signal {-status}, which is 9 where the memory is full; its log is {log}"
            )
        if status not in accepted:
            raise TrainingFailedError(_last_words(log))

    def _service(self, project_id: int) -> Path:
        """The directory of the version in use for a project."""
        fingerprint = version_in_use(self._settings, self._database, project_id).fingerprint
        with self._database.read() as session:
            recorded = model_locations.of(session, fingerprint)
        return store_of(self._settings).locate(fingerprint, (*recorded, str(self._settings.resolved_model)))

    def _projects(self, project_id: int) -> list[str]:
        """All projects that the same version answers as the one that the training was asked for in."""
        with self._database.read() as session:
            known = {project_id, *reviews.projects(session, instance=self._settings.label_studio_url)}
        wanted = version_in_use(self._settings, self._database, project_id)
        same = (n for n in sorted(known) if version_in_use(self._settings, self._database, n) == wanted)
        return [word for number in same for word in ("--project", str(number))]

    def _tell(self, training: Training, doing: str) -> None:
        with self._database.write() as session:
            trainings.tell(session, training.training_id, doing)


def _ask_again(session: Session, kind: str, job: Job) -> None:
    jobs.enqueue_only(session, kind, job.payload, beside=job)


def _nothing(_: Session) -> None:
    """What is not known any more has no effect."""


def _threads(settings: Settings) -> dict[str, str]:
    """The environment by which a process computes with no more threads than the desk may, where that is stated."""
    return {"OMP_NUM_THREADS": str(settings.threads)} if "threads" in settings.model_fields_set else {}


def _last_words(log: Path) -> str:
    """Why a process failed, by its own last line that says so."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return said[-1] if said else f"it ended without a word of why; its log is {log}"
