"""A new version of a model from fresh photographs: other lines or, where no risk is stated, other probabilities too."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from inspection_models.calibration import fit_calibration
from inspection_models.classifier import DefectClassifier, check_target
from inspection_models.data import load_dataset
from inspection_models.data.dataset import check_good
from inspection_models.images import read_image
from inspection_models.line_drawing import StatedRisks, draw_lines
from inspection_models.metrics.cases import check_classes
from inspection_models.metrics.parts import ChosenPart, choose_part
from inspection_models.risk import RiskError
from inspection_models.training.curves import CURVES_FILE, CURVES_PICTURE
from inspection_models.training.evaluation import Evaluation, figures, targets_of
from inspection_models.training.figures import confusion_png, reliability_png
from inspection_models.training.lines import check_risks
from inspection_models.training_record import HASH_KEY, IMAGES_FILE, images_sha256, read_list, seen_images, with_images

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inspection_models.data import Dataset, Sample
    from inspection_models.deciding import Prediction
    from inspection_models.metrics.parts import Part
    from inspection_models.model_card import ModelCard

SUMMARY_FILE = "calibration_summary.json"
TRAINING_SUMMARY_FILE = "training_summary.json"
CONFUSION_FILE = "confusion_matrix.png"
RELIABILITY_FILE = "reliability.png"
# What an auditor may ask of a calibrated model's weights, taken over from the directory that they come from.
_KEPT = (TRAINING_SUMMARY_FILE, CURVES_FILE, CURVES_PICTURE)
_ON_OFFER = (0.1, 0.05, 0.02, 0.01, 0.005, 0.001)


@dataclass(frozen=True)
class CalibrationRequest:
    """One calibration.

    Attributes:
        model: directory of the model; it stays as it is.
        data: directory of the data set.
        output: model directory to write.
        part: of the data set, split as for the model's training; None takes the test part of the data set that the
            model was trained on, and all of any other.
        layout: see `load_dataset`.
        risks: stated risks. Without any, the probabilities are calibrated anew before the lines are drawn; with one
            they stay, for a promise can be shown only of scores that do not depend on the same photographs.
        overwrite: replace a model that is in the output directory.
        device: torch's name of the device to compute on.
    """

    model: Path
    data: Path
    output: Path
    part: Part | None = None
    layout: str | None = None
    risks: StatedRisks = field(default_factory=StatedRisks)
    overwrite: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Offer:
    """What a stated rate of escapes (errors, where no class is good) would cost on the same photographs.

    Attributes:
        rate: the share of parts that would be promised.
        refused: why it cannot be promised; None where it can.
        evaluation: of the photographs, under the lines that it would draw; None where refused.
    """

    rate: float
    refused: str | None
    evaluation: Evaluation | None


@dataclass(frozen=True)
class CalibrationReport:
    """What came out.

    Attributes:
        output: the new model directory.
        before: the version that was calibrated.
        classifier: the new version.
        figures_before: of the photographs, as the model decided them.
        figures: of the photographs, as the new version decides them. Its probabilities, where they were fitted to them,
            and its lines look a little better than they are; the bounds of `ModelCard.origins` allow for that.
        offers: what other rates would cost, with the same confidence.
        notes: what a reader of the figures must know.
    """

    output: Path
    before: DefectClassifier
    classifier: DefectClassifier
    figures_before: Evaluation
    figures: Evaluation
    offers: tuple[Offer, ...]
    notes: tuple[str, ...]


def calibrate(
    request: CalibrationRequest, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> CalibrationReport:
    """Decide fresh photographs, draw the lines from them, and save a new version.

    Raises:
        RiskError: the photographs had a part in the model, or cannot show a stated risk to be kept; or a risk is stated
            and it is not known which images the model was trained on.
        ModelError: the model or its list of images cannot be read, or the output directory is taken.
        MetricError: the data set has a class that the model does not know.
        DatasetError: the data set is unusable.
        ImageError: an image is damaged.
    """
    output = request.output.absolute()
    check_target(output, overwrite=request.overwrite)
    before = DefectClassifier.load(request.model, device=request.device)
    # Which class is good is the model's to say, not the data set's.
    dataset = load_dataset(request.data, layout=request.layout, good_class="")
    samples, notes = _samples(request, before.card, dataset)
    check_risks(samples, before.good_class, request.risks)
    targets = targets_of(samples, before.classes)
    predictions = []
    for number, sample in enumerate(samples, start=1):
        predictions.append(before.predict([read_image(sample.path).pixels])[0])
        progress(number, len(samples))
    groups = [sample.group for sample in samples]
    scored = before
    if not request.risks.any_stated:
        logits = np.array([prediction.logits for prediction in predictions])
        scored = before.with_settings(calibration=fit_calibration(logits, targets, before.card.activation))
    decided = _decided(scored, predictions)
    card = draw_lines(scored.card, decided, targets, groups, request.risks, dataset.sha256)
    drawn = scored.with_settings(thresholds=card.thresholds, origins=card.origins)
    measured = figures(drawn.card, _decided(drawn, predictions), targets, groups)
    listed, training = _training(request, before, dataset, samples)
    classifier = drawn.with_settings(training=training, metrics={"calibration": measured.to_dict()})
    report = CalibrationReport(
        output=output,
        before=before,
        classifier=classifier,
        figures_before=figures(before.card, predictions, targets, groups),
        figures=measured,
        offers=tuple(_offer(scored, decided, targets, groups, rate, request.risks.confidence) for rate in _ON_OFFER),
        notes=notes,
    )
    attachments = {**_attachments(report), **_kept(request.model)}
    if listed is not None:
        attachments[IMAGES_FILE] = listed
    classifier.save(output, overwrite=request.overwrite, attachments=attachments)
    return report


def _samples(
    request: CalibrationRequest, card: ModelCard, dataset: Dataset
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """The photographs and notes on them; refuses those that had a part in the model."""
    own = card.training.get("data_sha256") == dataset.sha256
    if request.part is None and not own:
        check_classes(card.classes, dataset.samples)
        check_good(dataset, card.good_class)
        chosen = ChosenPart(dataset.samples, ())
    else:
        chosen = choose_part(card, dataset, request.part or "test")
    samples, notes = chosen.samples, chosen.notes
    seen = seen_images(request.model, card, lines=False)
    if seen is None:
        unknown = f"{card.model_version} came without a list of the images it was trained on"
        if request.risks.any_stated:
            raise RiskError(
                f"{unknown}, so no photographs can show a risk to be kept: it may have been trained on them; train it "
                "anew with this release, or state no risk"
            )
        return samples, (*notes, f"{unknown}; make sure that these are others")
    if known := [sample for sample in samples if sample.sha256 in seen]:
        raise RiskError(
            f"the model was trained or tuned on {len(known)} of the {len(samples)} photographs, such as "
            f"{known[0].path}; they look easier to it than others will: give fresh ones"
            + (", or take the test part" if own else "")
        )
    return samples, notes


def _decided(classifier: DefectClassifier, predictions: Sequence[Prediction]) -> list[Prediction]:
    return [classifier.decide(prediction.logits, prediction.distance) for prediction in predictions]


def _training(
    request: CalibrationRequest, before: DefectClassifier, dataset: Dataset, samples: Sequence[Sample]
) -> tuple[bytes | None, dict[str, Any]]:
    """The list of images that the new version has seen, and what its card says of its making."""
    part: Literal["scores", "lines"] = "lines" if request.risks.any_stated else "scores"
    listed = read_list(request.model, before.card)
    training = dict(before.card.training)
    if listed is not None:
        listed = with_images(listed, samples, part)
        training[HASH_KEY] = images_sha256(listed)
    training["lines_from"] = "photographs of the calibration" + (
        "" if request.risks.any_stated else ", which calibrated the model, too"
    )
    training["calibrated"] = {
        "from": asdict(before.version),
        "data_sha256": dataset.sha256,
        "images": len(samples),
        "probabilities": "as they were" if request.risks.any_stated else "anew",
    }
    return listed, training


def _offer(
    classifier: DefectClassifier,
    predictions: Sequence[Prediction],
    targets: Any,
    groups: Sequence[str],
    rate: float,
    confidence: float,
) -> Offer:
    name = "errors" if classifier.good_class is None else "escapes"
    try:
        card = draw_lines(
            classifier.card, predictions, targets, groups, StatedRisks(**{name: rate}, confidence=confidence), ""
        )
    except RiskError as refused:
        return Offer(rate, str(refused), None)
    under = classifier.with_settings(thresholds=card.thresholds)
    return Offer(rate, None, figures(under.card, _decided(under, predictions), targets, groups))


def _attachments(report: CalibrationReport) -> dict[str, bytes]:
    summary = {
        "model": asdict(report.classifier.version),
        "from": asdict(report.before.version),
        "before": report.figures_before.to_dict(),
        "after": report.figures.to_dict(),
        "notes": list(report.notes),
    }
    title = f"{report.classifier.version.name}: calibration photographs"
    return {
        SUMMARY_FILE: (json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode(),
        CONFUSION_FILE: confusion_png(report.figures, title),
        RELIABILITY_FILE: reliability_png(report.figures, title),
    }


def _kept(model: Path) -> dict[str, bytes]:
    return {name: (model / name).read_bytes() for name in _KEPT if (model / name).is_file()}
