"""What a model directory says about its model: `model.json`, its fields, its checks and its hashes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import rfc8785
from pydantic import ConfigDict, TypeAdapter, ValidationError

from inspection_models.decision_lines import FamiliaritySettings, LineOrigin, ReviewLines
from inspection_models.preprocessing import Preprocessing
from inspection_models.region_settings import RegionDrawing
from inspection_models.tiling import Tiling

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = "inspection-model"
FORMAT_VERSION = 2
CARD_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"

# Where a region is cut from the map of a method, as a share of its maximum: best overlap with true masks on training
# parts of magnetic tiles and synthetic steel. Quorum multiplies levels, so its maps fall off faster than others do.
_REGION_SHARES = {"quorum": 0.08}
_HINT = "take the file from the original model directory again, or train the model anew"


class ModelError(ValueError):
    """A model directory cannot be used; the message names the file, the field and what to do."""


@dataclass(frozen=True)
class Calibration:
    """Temperature scaling: probabilities are softmax(logits / temperature) (Guo et al., 2017, eq. 9).

    Attributes:
        temperature: of all classes together.
        class_temperatures: one a class under sigmoid, sigmoid(logit / temperature of its class); empty takes
            `temperature` for each.
    """

    method: Literal["temperature"] = "temperature"
    temperature: float = 1.0
    class_temperatures: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for temperature in (self.temperature, *self.class_temperatures):
            if not temperature > 0:
                raise ValueError(f"the temperature is {temperature}; it must be above 0")

    @property
    def divisors(self) -> NDArray[np.float64]:
        """What logits [..., C] are divided by, of a shape that fits them."""
        return np.array(self.class_temperatures or self.temperature, np.float64)


@dataclass(frozen=True)
class RegionThresholds:
    """When a part of an attribution map becomes a region.

    Attributes:
        relative: share of the map's maximum that a pixel must reach, 0 to 1.
        minimum_area: share of the image's area below which a region is a speck and dropped, 0 to 1.
    """

    relative: float = 0.35
    minimum_area: float = 0.0005

    @classmethod
    def usual(cls, method: str) -> RegionThresholds:
        """The thresholds that suit the maps of an attribution method, where none were chosen for the model."""
        return cls(relative=_REGION_SHARES.get(method, cls.relative))

    def __post_init__(self) -> None:
        if not 0 < self.relative <= 1:
            raise ValueError(f"the region threshold is {self.relative}; it must lie above 0 and at most at 1")
        if not 0 <= self.minimum_area < 1:
            raise ValueError(f"the minimum area of a region is {self.minimum_area}; it must lie from 0 to below 1")


@dataclass(frozen=True)
class Thresholds:
    """Where the model draws its lines.

    Attributes:
        decision: probability of any defect, 1 - p(good), from which an image is called defective; None leaves it to
            the most probable class, or under sigmoid to 0.5. Needs a good class.
        review: where a person is to decide; its lines lie on either side of `decision`.
        classes: under sigmoid, probability from which a defect class is named beside the most probable one; 0.5 for
            classes that are not here.
        region: see `RegionThresholds`.
    """

    decision: float | None = None
    review: ReviewLines = field(default_factory=ReviewLines)
    classes: dict[str, float] = field(default_factory=dict)
    region: RegionThresholds = field(default_factory=RegionThresholds)

    def __post_init__(self) -> None:
        if self.decision is not None and not 0 < self.decision <= 1:
            raise ValueError(f"the decision threshold is {self.decision}; it must lie above 0 and at most at 1")
        lower, upper = self.review.good_below, self.review.defect_from
        if (lower, upper) != (None, None) and self.decision is None:
            raise ValueError("review lines between good and defective need a decision threshold between them")
        if self.decision is not None and not (
            (0 if lower is None else lower) <= self.decision <= (1 if upper is None else upper)
        ):
            raise ValueError(
                f"the decision threshold {self.decision} does not lie between the review lines {lower} and {upper}"
            )
        for label, line in self.classes.items():
            if not 0 < line <= 1:
                raise ValueError(f"the threshold of class {label!r} is {line}; it must lie above 0 and at most at 1")


@dataclass(frozen=True)
class ExplanationSettings:
    """Which attribution method explains this model's decisions, and with which options."""

    method: str = "sise"
    options: dict[str, bool | int | float | str] = field(default_factory=lambda: {"mu": 0.0, "gate": "hard"})


@dataclass(frozen=True)
class ModelVersion:
    """Identity of a model.

    Attributes:
        name: what the model is called.
        version: which of that name.
        weights_sha256: hex digest of the weights file.
        fingerprint: hex digest over all that a decision depends on; see `ModelCard.fingerprint`.
    """

    name: str
    version: str
    weights_sha256: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """All fields of `model.json` but its hashes over itself.

    Attributes:
        version: empty stands for the first twelve digits of the fingerprint.
        classes: in the order of the network's outputs.
        good_class: the class without a defect; None where every class is a defect.
        activation: ``softmax`` where an image is of one class, ``sigmoid`` where it may be of several; the good class
            then has an output of its own, of which 1 minus the probability is that of any defect.
        tiling: how large images are cut into tiles; None shows the network every image whole. Needs a good class.
        familiarity: which images are unlike all that the model was trained on, and so for review; None tells none.
        origins: what the review lines and the decision threshold were drawn from; informative.
        regions: how a decision's regions are drawn.
        training: what the weights were trained on and how; informative.
        metrics: how well the model does on parts held out; informative.
    """

    name: str
    version: str = ""
    architecture: str
    classes: tuple[str, ...]
    good_class: str | None
    preprocessing: Preprocessing
    weights_sha256: str
    activation: Literal["softmax", "sigmoid"] = "softmax"
    calibration: Calibration = field(default_factory=Calibration)
    thresholds: Thresholds = field(default_factory=Thresholds)
    explanation: ExplanationSettings = field(default_factory=ExplanationSettings)
    tiling: Tiling | None = None
    familiarity: FamiliaritySettings | None = None
    origins: tuple[LineOrigin, ...] = ()
    regions: RegionDrawing = field(default_factory=RegionDrawing)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("the name is empty")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes) or "" in self.classes:
            raise ValueError(f"the classes are {list(self.classes)}; two or more different names are needed")
        if self.good_class is not None and self.good_class not in self.classes:
            raise ValueError(f"the good class {self.good_class!r} is not one of the classes {list(self.classes)}")
        if self.good_class is None and self.thresholds.decision is not None:
            raise ValueError("a decision threshold needs a good class; set one or leave the threshold null")
        if self.good_class is not None and self.thresholds.review.sure_from is not None:
            raise ValueError("the review line sure_from is for models without a good class; leave it null")
        if unknown := sorted(set(self.thresholds.classes) - set(self.classes)):
            raise ValueError(f"there is a threshold of the class {unknown[0]!r}, which is not one of the classes")
        temperatures = self.calibration.class_temperatures
        if temperatures and (self.activation == "softmax" or len(temperatures) != len(self.classes)):
            raise ValueError("class_temperatures are for sigmoid, one a class; leave them empty")
        if self.good_class is None and self.tiling is not None:
            raise ValueError("tiles need a good class, for most of a defective image is good; set one or leave it null")
        if not self.version:
            object.__setattr__(self, "version", self.fingerprint[:12])

    @property
    def fingerprint(self) -> str:
        """Sha256 over the canonical JSON (RFC 8785) of all that a decision depends on.

        That is weights, architecture, classes, good class, activation, preprocessing, calibration, thresholds,
        explanation settings, tiling and the drawing of regions; not name, version, origins, training, metrics and what
        the drawing was learned from.
        """
        fields = _dump(self)
        for informative in ("name", "version", "origins", "training", "metrics"):
            del fields[informative]
        del fields["regions"]["origin"]
        return hashlib.sha256(rfc8785.dumps(fields)).hexdigest()

    @property
    def model_version(self) -> ModelVersion:
        """The identity this card gives its model."""
        return ModelVersion(self.name, self.version, self.weights_sha256, self.fingerprint)

    def with_settings(self, **changes: Any) -> ModelCard:
        """Return a copy with other fields; unless a version is among them it is derived anew."""
        return replace(self, **{"version": "", **changes})

    def to_json(self) -> str:
        """The text of `model.json`."""
        document = {"format": FORMAT, "format_version": FORMAT_VERSION, **_dump(self), "fingerprint": self.fingerprint}
        document["card_sha256"] = hashlib.sha256(rfc8785.dumps(document)).hexdigest()
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


_ADAPTER: TypeAdapter[ModelCard] = TypeAdapter(ModelCard)


def _dump(card: ModelCard) -> dict[str, Any]:
    dumped: dict[str, Any] = _ADAPTER.dump_python(card, mode="json")
    return dumped


def read_card(path: Path) -> ModelCard:
    """Read and check a `model.json`.

    Raises:
        ModelError: missing, not JSON, of another format or format version, a field missing, unknown, of the wrong
            type or out of range, or changed since it was written.
    """
    document = _read_document(path)
    stated_fingerprint, stated_hash = document.pop("fingerprint", None), document.pop("card_sha256", None)
    body = {key: value for key, value in document.items() if key not in ("format", "format_version")}
    try:
        card = _ADAPTER.validate_json(json.dumps(body))
    except ValidationError as error:
        raise ModelError(f"{path}: {_describe(error)}; {_HINT}") from error
    if missing := _missing(_dump(card), body):
        raise ModelError(f"{path}: field {missing!r} is missing; {_HINT}")
    if stated_fingerprint != card.fingerprint:
        raise ModelError(
            f"{path}: field 'fingerprint' does not match the fields it covers, so one of them was changed by hand; "
            "change settings with DefectClassifier.with_settings and save, or take the original file again"
        )
    if stated_hash != json.loads(card.to_json())["card_sha256"]:
        raise ModelError(f"{path}: field 'card_sha256' does not match the file, so a field was changed; {_HINT}")
    return card


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path}: there is no such file, so {path.parent} is not a model directory") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not JSON ({error}); {_HINT}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelError(f"{path}: field 'format' is not {FORMAT!r}, so this is not a model card; {_HINT}")
    if document.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"{path}: field 'format_version' is {document.get('format_version')!r}, "
            f"this program reads {FORMAT_VERSION}; use the release that wrote the model, or train it anew"
        )
    return document


def _missing(wanted: dict[str, Any], found: dict[str, Any]) -> str | None:
    """Path of the first field that is wanted and not there; in a file nothing is left to a default."""
    for key, value in wanted.items():
        if key not in found:
            return key
        if isinstance(value, dict) and isinstance(found[key], dict) and (inner := _missing(value, found[key])):
            return f"{key}.{inner}"
    return None


def _describe(error: ValidationError) -> str:
    details = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in details["loc"])
    return f"field {where!r}: {details['msg']}" if where else str(details["msg"])
