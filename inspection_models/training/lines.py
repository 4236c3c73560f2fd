"""Lines for a trained model: the images that they are drawn from, and the drawing."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from inspection_models.decision_lines import FamiliaritySettings
from inspection_models.familiarity import MOST_REMEMBERED, Familiarity, entering, line_of
from inspection_models.images import read_image
from inspection_models.line_drawing import draw_lines
from inspection_models.risk import check_parts
from inspection_models.training.evaluation import targets_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from inspection_models.classifier import DefectClassifier
    from inspection_models.data import Sample, Split
    from inspection_models.line_drawing import StatedRisks


def set_aside(split: Split, good_class: str | None, risks: StatedRisks, held: frozenset[str] = frozenset()) -> Split:
    """The split with half of its test part, group by group, as `lines`; as it is where no risk is stated.

    Groups of the files `held`, by sha256, stay in the test part.

    What a promise is shown on may have had no part in the model, as the validation part had, and figures of images that
    the lines were drawn from would be too good.

    Raises:
        RiskError: the half has too few parts for a stated risk, whatever the model will say of them.
    """
    if not risks.any_stated:
        return split
    members: dict[str, list[Sample]] = defaultdict(list)
    fixed = {sample.group for sample in split.test if sample.sha256 in held}
    for sample in split.test:
        if sample.group not in fixed:
            members[sample.group].append(sample)
    ordered = sorted(members, key=lambda key: (sorted({s.labels for s in members[key]}), _digest(key)))
    taken = set(ordered[::2])
    lines = tuple(sample for sample in split.test if sample.group in taken)
    check_risks(lines, good_class, risks)
    return replace(split, test=tuple(sample for sample in split.test if sample.group not in taken), lines=lines)


def check_risks(samples: Sequence[Sample], good_class: str | None, risks: StatedRisks) -> None:
    """Make sure that the stated risks are of the model's kind and that there are parts enough for them.

    Raises:
        RiskError: they are not, or there are not.
    """
    risks.check_for(good_class)
    defective = {sample.group for sample in samples if good_class not in sample.labels}
    good = {sample.group for sample in samples if good_class in sample.labels}
    for name, kind, parts in (
        ("escapes", "defective", defective),
        ("overkill", "good", good),
        ("errors", "", defective | good),
    ):
        if getattr(risks, name) is not None:
            check_parts(len(parts), risks.risk(name), name, kind)


def with_lines(
    classifier: DefectClassifier,
    samples: Sequence[Sample],
    risks: StatedRisks,
    data_sha256: str,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> DefectClassifier:
    """The classifier with lines drawn from what it says of images as in service; see `draw_lines`.

    Raises:
        RiskError: the images cannot show a stated risk to be kept.
        ImageError: a file is damaged.
        ValueError: a label that the classifier does not know.
    """
    targets = targets_of(samples, classifier.classes)
    predictions = []
    for number, sample in enumerate(samples, start=1):
        predictions.append(classifier.predict([read_image(sample.path).pixels])[0])
        progress(number, len(samples))
    groups = [sample.group for sample in samples]
    card = draw_lines(classifier.card, predictions, targets, groups, risks, data_sha256)
    return classifier.with_settings(thresholds=card.thresholds, origins=card.origins)


def with_familiarity(
    classifier: DefectClassifier, remembered: Sequence[Sample], held_out: Sequence[Sample]
) -> DefectClassifier:
    """The classifier with a line from which images are unlike all that it was trained on.

    A model that looks at tiles gets none: its decision is on many of them, each like few of the images.

    Args:
        classifier: trained.
        remembered: images that it was trained on.
        held_out: images that it was not trained on, to draw the line from.

    Raises:
        ImageError: a file is damaged.
    """
    if classifier.card.tiling is not None:
        return classifier
    step = max(1, -(-len(remembered) // MOST_REMEMBERED))
    familiarity = Familiarity.of(_features(classifier, remembered[::step]))
    distances = [familiarity.distance(feature) for feature in _features(classifier, held_out)]
    line, parts = line_of(distances, [sample.group for sample in held_out])
    card = classifier.card.with_settings(familiarity=FamiliaritySettings(familiarity.sha256, line, parts))
    return type(classifier)(classifier.network, card, classifier.region_head, familiarity)


def distances_of(classifier: DefectClassifier, samples: Sequence[Sample]) -> list[float] | None:
    """How far images are from what a classifier was trained on; None where it does not know that.

    Raises:
        ImageError: a file is damaged.
    """
    if classifier.familiarity is None:
        return None
    return [classifier.familiarity.distance(feature) for feature in _features(classifier, samples)]


def _features(classifier: DefectClassifier, samples: Sequence[Sample]) -> NDArray[np.float32]:
    with entering(classifier.network) as features:
        for sample in samples:
            classifier.predict([read_image(sample.path).pixels])
    return np.array(features)


def _digest(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()
