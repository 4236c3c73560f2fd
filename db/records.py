"""What goes into the database and what comes out, as frozen values.

JSON fields take what RFC 8785 can write: None, bool, int up to 2^53, finite float, str, list, tuple, dict. They come
back as lists and dicts. All instants carry a time zone and come back in UTC. Hashes are 64 lower-case hex digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from db.keys import canonical_sha256, decision_key, review_key

JsonObject: TypeAlias = Mapping[str, Any]
JsonArray: TypeAlias = Sequence[Any]
Action: TypeAlias = Literal["created", "updated", "deleted"]
Outcome: TypeAlias = Literal["accepted", "adjusted", "relabelled", "rejected", "missed", "decided", "skipped"]
Verdict: TypeAlias = Literal["good", "defect", "review"]
ModelEventKind: TypeAlias = Literal["activated", "taken back", "retired", "reinstated"]
FoundBy: TypeAlias = Literal["webhook", "reconciling"]
JobState: TypeAlias = Literal["queued", "running", "done", "failed"]


@dataclass(frozen=True)
class Recorded:
    """Answer of a recording that may find its row already there.

    Attributes:
        id: the row's identifier.
        is_new: whether this call made it.
    """

    id: UUID
    is_new: bool


@dataclass(frozen=True, kw_only=True)
class NewModelVersion:
    """A model as it decides.

    Attributes:
        fingerprint: covers everything here that a decision depends on.
        classes: in the order of the network's outputs.
        good_class: the class without a defect; None where every class is a defect.
        training: what it was trained on and how.
        metrics: how well it did on held-out images.
        card: all that its `model.json` says; None for versions registered before it was kept.
    """

    name: str
    version: str
    architecture: str
    weights_sha256: str
    fingerprint: str
    classes: tuple[str, ...]
    good_class: str | None
    preprocessing: JsonObject
    calibration: JsonObject
    thresholds: JsonObject
    explanation: JsonObject
    training: JsonObject = field(default_factory=dict)
    metrics: JsonObject = field(default_factory=dict)
    card: JsonObject | None = None


@dataclass(frozen=True, kw_only=True)
class ModelVersion(NewModelVersion):
    """A registered model version."""

    model_version_id: UUID
    created_at: datetime


@dataclass(frozen=True)
class ModelScope:
    """Where a model version is used: one Label Studio project, or the whole desk.

    Attributes:
        instance: base URL of the Label Studio; None for the desk.
        project_id: its number there; None for the desk.

    Raises:
        ValueError: one of the two without the other.
    """

    instance: str | None = None
    project_id: int | None = None

    def __post_init__(self) -> None:
        if (self.instance is None) != (self.project_id is None):
            raise ValueError("a project is named by its Label Studio and its number together")

    def __str__(self) -> str:
        return "the desk" if self.project_id is None else f"project {self.project_id}"


@dataclass(frozen=True, kw_only=True)
class ModelEvent:
    """A switch of the model in use, or the end of a model version's use.

    Attributes:
        number: the order in which events came about, from 1.
        model_version_id: what the event leads to; None where the scope has no version of its own any more.
        undoes_event_id: the activation taken back.
        actor: who did it, as the operating system names them.
        note: why, where it was said.
    """

    model_event_id: UUID
    number: int
    kind: ModelEventKind
    model_version_id: UUID | None
    scope: ModelScope
    undoes_event_id: UUID | None
    actor: str
    note: str | None
    occurred_at: datetime


@dataclass(frozen=True, kw_only=True)
class VisualizationMap:
    """One level's evidence: a convolutional block's, such as SISE's score-weighted sum of masks, or the input's own.

    Attributes:
        block_index: 0 for the shallowest level explained.
        channels: feature maps the block offers.
        grid: float32 little-endian, `height * width` values row by row.

    Raises:
        ValueError: the grid has another number of bytes.
    """

    block_index: int
    block_name: str
    channels: int
    height: int
    width: int
    grid: bytes

    def __post_init__(self) -> None:
        if len(self.grid) != 4 * self.height * self.width:
            raise ValueError(
                f"block {self.block_name}: {len(self.grid)} bytes for a float32 grid of {self.height}x{self.width}; "
                f"{4 * self.height * self.width} are needed"
            )


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a decision's image is, or might be, of one class.

    Attributes:
        rank: 1 for the class explained first, then 2 and so on.
        height, width: of the attribution map, in pixels.
        masks_scored: attribution masks the network was asked about.
        map_sha256: of the attribution map's float32 little-endian bytes. The map can be made again from the
            visualization maps; the hash tells whether it came out the same.
        visualization_maps: shallow to deep; empty for methods that have none. Of K tiles, their grids one below the
            other: `K * height` rows.
        tiles: of a map stitched from tiles, in the order of their grids: `shown`, each with `top`, `left`, `height`,
            `width` in image pixels and the `probability` that it gives the class; `worthy`, how many were probable
            enough; `looked_at`, how many there are. None where the image was looked at whole.
    """

    class_name: str
    rank: int
    height: int
    width: int
    masks_scored: int
    map_sha256: str
    visualization_maps: tuple[VisualizationMap, ...] = ()
    tiles: JsonObject | None = None


@dataclass(frozen=True, kw_only=True)
class DecisionSettings:
    """What besides image and model a decision follows from. Known before anything is computed.

    Attributes:
        method: attribution method.
        explanation: the method's options.
        thresholds: those used for verdict and regions.
        batch_shape: of the forward pass over an image or its tiles, (N, 3, H, W): another shape gives other bits.
        seed: of what is random; None where nothing is.
        environment_class: names machines on which the same bits are expected.
    """

    method: str
    explanation: JsonObject
    thresholds: JsonObject
    batch_shape: tuple[int, ...]
    seed: int | None = None
    environment_class: str

    @property
    def content(self) -> dict[str, Any]:
        """The settings as one JSON object, without the environment."""
        return {
            "method": self.method,
            "explanation": self.explanation,
            "thresholds": self.thresholds,
            "batch_shape": list(self.batch_shape),
            "seed": self.seed,
        }

    @property
    def sha256(self) -> str:
        """Of the canonical JSON of `content`."""
        return canonical_sha256(self.content)

    def decision_key(self, *, image_sha256: str, model_fingerprint: str) -> str:
        """The key of the decision that these settings lead to on an image.

        Raises:
            ValueError: a hash is malformed, or a setting is no JSON.
        """
        return decision_key(
            image_sha256=image_sha256,
            model_fingerprint=model_fingerprint,
            settings_sha256=self.sha256,
            environment_class=self.environment_class,
        )


@dataclass(frozen=True, kw_only=True)
class NewDecision:
    """One model version's verdict on one image, with all that explains it.

    Attributes:
        image_sha256: of the image file's bytes as fetched.
        pixel_sha256: of the decoded RGB pixels.
        image_width, image_height: as shown, EXIF-turned, in pixels.
        model_fingerprint: of a registered model version.
        environment: what software and processor computed this; kept once by its hash.
        probability: of the predicted class, in [0, 1].
        logits: float32 little-endian, one a class in the model's order.
        scores: probability by class name.
        is_defect: whether the predicted class is another than the good one.
        verdict: "review" where the model does not decide alone; then `predicted_class` is what it finds most probable.
        labels: the decided classes, the predicted one among them; several where a model can decide several.
        distance: of the image from what the model was trained on, 0 to 2; None where the model does not measure it.
        unlike_from: a distance above this line goes for review, whatever the scores; None where the model has none.
        regions: of all explained classes, in the image's pixels.
        timings_ms: milliseconds by step.
        explanations: by rank.

    Raises:
        ValueError: the logits are no whole number of float32, or not one a class; verdict, labels, predicted class
            and distance contradict each other.
    """

    image_sha256: str
    pixel_sha256: str
    image_width: int
    image_height: int
    image_media_type: str
    exif_orientation: int
    model_fingerprint: str
    settings: DecisionSettings
    environment: JsonObject
    predicted_class: str
    probability: float
    logits: bytes
    scores: JsonObject
    is_defect: bool
    verdict: Verdict
    labels: tuple[str, ...]
    masks_scored: int
    regions: JsonArray
    timings_ms: JsonObject
    started_at: datetime
    finished_at: datetime
    explanations: tuple[Explanation, ...] = ()
    distance: float | None = None
    unlike_from: float | None = None

    def __post_init__(self) -> None:
        if len(self.logits) != 4 * len(self.scores):
            raise ValueError(f"{len(self.logits)} bytes of float32 logits for {len(self.scores)} classes")
        if self.verdict != "review" and (self.verdict == "defect") != self.is_defect:
            raise ValueError(f"the verdict {self.verdict!r} contradicts the class {self.predicted_class!r}")
        if self.verdict != "review" and self.predicted_class not in self.labels:
            raise ValueError(f"the decided classes {list(self.labels)} lack {self.predicted_class!r}")
        if self.verdict != "review" and self.is_unlike:
            raise ValueError(f"the distance {self.distance} is above {self.unlike_from}, so the verdict is 'review'")

    @property
    def is_unlike(self) -> bool:
        """Whether the image is unlike all that the model was trained on."""
        return self.distance is not None and self.unlike_from is not None and self.distance > self.unlike_from

    @property
    def key(self) -> str:
        """What makes this decision the same as another; see db.keys.decision_key.

        Raises:
            ValueError: a hash is malformed, or a setting is no JSON.
        """
        return self.settings.decision_key(image_sha256=self.image_sha256, model_fingerprint=self.model_fingerprint)


@dataclass(frozen=True, kw_only=True)
class Decision(NewDecision):
    """A recorded decision."""

    decision_id: UUID
    decision_key: str
    model_version_id: UUID
    environment_sha256: str
    settings_sha256: str
    regions_sha256: str
    recorded_at: datetime


@dataclass(frozen=True, kw_only=True)
class PredictedImage:
    """One of several images of a part, as a prediction is about it.

    Attributes:
        name: of the image in the labeling configuration.
        decision_id: the decision on it.
        image_uri, image_address_sha256: as of a prediction.
    """

    name: str
    decision_id: UUID
    image_uri: str | None = None
    image_address_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewPrediction:
    """What is sent for one task on the strength of a decision.

    Attributes:
        decision_id: of several images of a part, the one on the image that the part is judged by.
        images: all images of a part that has several, in order; empty where there is one.
        instance: base URL of the Label Studio that asked.
        image_uri: as the task names it; credentials and query are cut off before it is kept.
        image_address_sha256: of what names the image, query included, so that it is known again; None if unknown.
        part_serial, lot, station: of the part shown, where the task says so.
        model_version: as told to Label Studio.
        result: regions and choices as sent.
    """

    decision_id: UUID
    instance: str
    project_id: int
    task_id: int
    label_config_sha256: str
    model_version: str
    result: JsonArray
    image_uri: str | None = None
    image_address_sha256: str | None = None
    part_serial: str | None = None
    lot: str | None = None
    station: str | None = None
    images: tuple[PredictedImage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Prediction(NewPrediction):
    """A recorded prediction."""

    prediction_id: UUID
    result_sha256: str
    sent_at: datetime


@dataclass(frozen=True, kw_only=True)
class NewFailure:
    """Something that was asked for and could not be done.

    Attributes:
        kind: what was asked: "predict", "webhook" and the like.
        image_uri: credentials and query are cut off before it is kept.
        reason: one line for people: what is wrong and what to do.
        detail: more for whoever mends it.
    """

    kind: str
    reason: str
    detail: str | None = None
    instance: str | None = None
    project_id: int | None = None
    task_id: int | None = None
    image_uri: str | None = None


@dataclass(frozen=True, kw_only=True)
class Failure(NewFailure):
    """A recorded failure."""

    failure_id: UUID
    occurred_at: datetime


@dataclass(frozen=True, kw_only=True)
class NewReview:
    """What one inspector did with a prediction, or without one.

    Attributes:
        decision_id, prediction_id: what was judged; None where nothing was predicted.
        outcome: None only for a deletion, or where nothing was predicted.
        label_final: the class the inspector decided; None where there is none, or more than one.
        labels_final: all classes the inspector decided; None where there is no verdict, or it was not kept yet.
        regions_final: the inspector's regions.
        region_changes: what became of each predicted region, and which are new.
        reasons: why the inspector corrected, in the words of the page; None where they did not say.
        mean_iou: over matched regions, in [0, 1]; None where there is none to match.
        result_sha256: of the annotation's whole canonical result; None for a deletion.
        lead_time_s: seconds the inspector spent.
        model_output_shown: whether the inspector saw the prediction; None if unknown.
        parent_prediction, parent_annotation: Label Studio's ids of what the annotation was started from.
        actor_id: pseudonym of the inspector, from db.actors.
        annotation_created_at, annotation_updated_at: by Label Studio's clock.
        payload_sha256: of the message that told of it, or of what was read in its stead.
        found_by: whether a webhook told of it, or reconciling found what no webhook had told. Of several edits that no
            webhook told of only the last is known, and of a deletion not the time.
    """

    instance: str
    project_id: int
    annotation_id: int
    action: Action
    payload_sha256: str
    task_id: int | None = None
    decision_id: UUID | None = None
    prediction_id: UUID | None = None
    outcome: Outcome | None = None
    label_predicted: str | None = None
    label_final: str | None = None
    labels_final: tuple[str, ...] | None = None
    regions_final: JsonArray | None = None
    region_changes: JsonArray | None = None
    mean_iou: float | None = None
    result_sha256: str | None = None
    lead_time_s: float | None = None
    ground_truth: bool = False
    was_cancelled: bool = False
    model_output_shown: bool | None = None
    parent_prediction: int | None = None
    parent_annotation: int | None = None
    actor_id: UUID | None = None
    annotation_created_at: datetime | None = None
    annotation_updated_at: datetime | None = None
    found_by: FoundBy = "webhook"
    reasons: tuple[str, ...] | None = None

    @property
    def key(self) -> str:
        """What makes this review the same as another; see db.keys.review_key."""
        return review_key(
            instance=self.instance,
            annotation_id=self.annotation_id,
            action=self.action,
            annotation_updated_at=self.annotation_updated_at,
            payload_sha256=self.payload_sha256,
        )


@dataclass(frozen=True, kw_only=True)
class Review(NewReview):
    """A recorded review."""

    review_id: UUID
    review_key: str
    received_at: datetime


@dataclass(frozen=True, kw_only=True)
class AnnotationState:
    """What the review that stands says of an annotation's state; see db.reviews.latest_for_annotation.

    Attributes:
        task_id: its task; None where that is not known.
        annotation_created_at, annotation_updated_at: by Label Studio's clock; None for most deletions.
        result_sha256: of the annotation's whole canonical result; None for a deletion.
    """

    annotation_id: int
    task_id: int | None
    action: Action
    annotation_created_at: datetime | None
    annotation_updated_at: datetime | None
    result_sha256: str | None
    was_cancelled: bool


@dataclass(frozen=True, kw_only=True)
class NewReconciliation:
    """One comparison of the recorded reviews of a project with the annotations that Label Studio has.

    Attributes:
        is_full: whether all annotations were compared, or those of changed tasks only.
        through: the latest change of a task that was taken account of, by Label Studio's clock; None where there was
            no task.
        annotations: compared.
        created, updated, skipped, deleted: found that no webhook had told of, and recorded; each counts once.
        failed: not in agreement still; the reasons are kept as failures.
        waiting: so new that their webhooks may be on the way; left to the next time.
        surplus: annotations that the record takes for present or that wait to be recorded, less those that Label Studio
            counts, as far as failures account for it.
    """

    instance: str
    project_id: int
    is_full: bool
    through: datetime | None
    annotations: int
    created: int
    updated: int
    skipped: int
    deleted: int
    failed: int
    waiting: int
    surplus: int
    started_at: datetime

    @property
    def found(self) -> int:
        """How many were found that no webhook had told of."""
        return self.created + self.updated + self.skipped + self.deleted


@dataclass(frozen=True, kw_only=True)
class ReconciliationMark:
    """How far a project was compared, and how that ended last.

    Attributes:
        through: the latest change of a task that was taken account of, by Label Studio's clock; None where there was
            no task.
        since: from when on changes are to be looked at next; None for everything.
        reached_at: when a comparison first came to `through`, by the desk's clock as the instants below.
        compared_at, whole_at: when the last comparison ended, and the last one of everything.
        failed: not in agreement.
        surplus: what failures account for of the difference: annotations that the record takes for present or that wait
            to be recorded, less those that Label Studio counts.
    """

    instance: str
    project_id: int
    through: datetime | None
    since: datetime | None
    reached_at: datetime
    compared_at: datetime
    whole_at: datetime | None
    failed: int
    surplus: int


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who stands behind a pseudonym; all None once erased."""

    actor_id: UUID
    instance: str | None
    ls_user_id: int | None
    display_name: str | None
    erased_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Job:
    """Work taken in. Its payload is JSON as received; its hash is over the stored text.

    Attributes:
        attempts: how often it was handed out, this time included.
        lease_owner, lease_expires_at: who works on it and until when; None unless it is running.
        error: why it failed last.
    """

    job_id: UUID
    kind: str
    payload: Any
    payload_sha256: str
    state: JobState
    attempts: int
    max_attempts: int
    lease_owner: str | None
    lease_expires_at: datetime | None
    run_after: datetime
    error: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class FailedJob:
    """Work that could not be done, without its payload: `error` is why, `attempts` how often it was tried."""

    job_id: UUID
    kind: str
    error: str | None
    attempts: int
    finished_at: datetime | None


@dataclass(frozen=True)
class QueueDepth:
    """How the queue stands.

    Attributes:
        queued, running, done, failed: jobs by state.
        oldest_waiting_since: when the oldest job not yet settled was taken in, of those that are not put off.
    """

    queued: int
    running: int
    done: int
    failed: int
    oldest_waiting_since: datetime | None
