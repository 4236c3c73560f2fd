"""What a supervisor wants to know, as the API gives it: counts by SQL, rates with their intervals."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from inspection_models.intervals import clopper_pearson

AGREED = ("accepted", "adjusted")
JUDGED = ("accepted", "adjusted", "relabelled", "rejected", "missed")
AGREEMENT_MEANS = (
    "Reviews that kept the class the version in use had decided, of the reviews that judged one. The inspectors had "
    "seen the model's answer, so this tells neither how often it is right nor how many defects escape. Each annotation "
    "counts, and the interval takes them for independent, which several of one task are not."
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Agreement(_Part):
    """How often inspectors kept the decided class: `count` of `of`, with the exact 95 % interval of the share."""

    count: int = Field(ge=0, description="Reviews with the outcome accepted or adjusted.")
    of: int = Field(ge=1, description="Those, and the relabelled, rejected and missed ones.")
    share: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1, description="Lower end of the 95 % interval (Clopper and Pearson).")
    high: float = Field(ge=0, le=1, description="Upper end of the 95 % interval.")
    means: str = AGREEMENT_MEANS

    @classmethod
    def of_outcomes(cls, counts: dict[str, int]) -> Agreement | None:
        """That of reviews by outcome; None where none judged a decision."""
        of = sum(counts.get(outcome, 0) for outcome in JUDGED)
        if of == 0:
            return None
        count = sum(counts.get(outcome, 0) for outcome in AGREED)
        low, high = clopper_pearson(count, of)
        return cls(count=count, of=of, share=count / of, low=low, high=high)


class Day(_Part):
    """Reviews whose annotation was made on a day, in UTC."""

    day: date
    reviews: int = Field(ge=0)


class Project(_Part):
    """A Label Studio project's work."""

    project_id: int
    url: str = Field(description="The project in Label Studio.")
    model_version: str | None = Field(description="The version in use for it; null where there is none.")
    judged: int = Field(ge=0, description="Tasks that a prediction was sent for.")
    last_sent_at: datetime | None = Field(description="When the last one was sent.")
    waiting: int = Field(
        ge=0, description="Of those, tasks not reviewed, or skipped only; tasks deleted in Label Studio are among them."
    )
    waiting_for_review: int = Field(ge=0, description="Of the waiting, those that the model left to a person.")
    outcomes: dict[str, int] = Field(
        description="Standing reviews of what the version in use predicted, by inspectors known to have seen it."
    )
    unpredicted: int = Field(ge=0, description="Standing reviews of tasks that nothing was predicted for.")
    other_versions: int = Field(ge=0, description="Standing reviews of what other versions had predicted.")
    blind: int = Field(ge=0, description="Standing reviews made without the answer of the version in use.")
    perhaps_blind: int = Field(
        ge=0,
        description="Standing reviews of which it is not known whether the answer of that version was seen.",
    )
    agreement: Agreement | None = Field(description="That of the outcomes; null where none of them judged a decision.")
    reviews_by_day: list[Day] = Field(description="The last 14 days, today last.")


class FailedJob(_Part):
    """A webhook that could not be worked off."""

    job_id: str
    kind: str
    reason: str
    attempts: int
    failed_at: datetime | None


class Queue(_Part):
    """Webhooks taken in, by how far they are."""

    queued: int = Field(ge=0)
    running: int = Field(ge=0)
    done: int = Field(ge=0)
    failed: int = Field(ge=0)
    oldest_waiting_since: datetime | None = Field(
        description="Without those that are put off until they are tried again."
    )
    failed_jobs: list[FailedJob] = Field(description="The newest 20 of the failed.")


class Failure(_Part):
    """Something that failed and is not mended."""

    what: str
    project_id: int | None
    task_id: int | None
    task_url: str | None
    reason: str
    what_to_do: str
    occurred_at: datetime


class Failures(_Part):
    """What failed in the last 14 days and is not mended: tasks without a prediction since, models, refused requests."""

    count: int = Field(ge=0)
    newest: list[Failure] = Field(description="The newest 20.")


class ModelInUse(_Part):
    """Which model version is in use where."""

    scope: str = Field(description='"the desk", for all projects without a version of their own, or "project 7".')
    model_version: str


class Training(_Part):
    """A training from reviews that was asked for in Label Studio."""

    asked_at: datetime
    project_id: int = Field(description="Where it was asked for.")
    state: Literal["waiting", "running", "done", "failed"]
    doing: str = Field(description="What it is at.")
    done: int = Field(ge=0, description="Steps of that.")
    total: int = Field(ge=0)
    told_at: datetime = Field(description="When it was last heard of.")
    ended_at: datetime | None
    reason: str | None = Field(description="Why it failed.")
    model_version: str | None = Field(description="What came out of it; in use only once it is activated.")
    fingerprint: str | None
    waits_at_the_gate: bool = Field(description="Whether it came out and was never put in use.")
    verdict: str | None = Field(description="Of the gate; null where there are no photographs to ask it by.")
    report: str | None = Field(description="The folder of the gate's report.")


class Status(_Part):
    """How the desk stands."""

    at: datetime
    software_version: str
    state: Literal["ready", "degraded", "not ready"]
    problems: list[str] = Field(description="What keeps it from working, or is not as it was asked for.")
    label_studio: str
    database: str
    models: list[ModelInUse]
    queue: Queue
    failures: Failures
    trainings: list[Training] = Field(description="The newest 5.")
    projects: list[Project]
