"""Lines for a trained model: the images that they are drawn from, and the drawing."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from inspection_models.images import read_image
from inspection_models.line_drawing import draw_lines
from inspection_models.risk import check_parts
from inspection_models.training.evaluation import targets_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inspection_models.classifier import DefectClassifier
    from inspection_models.data import Sample, Split
    from inspection_models.line_drawing import StatedRisks


def set_aside(split: Split, good_class: str | None, risks: StatedRisks) -> Split:
    """The split with half of its test part, group by group, as `lines`; as it is where no risk is stated.

    What a promise is shown on may have had no part in the model, as the validation part had, and figures of images that
    the lines were drawn from would be too good.

    Raises:
        RiskError: the half has too few parts for a stated risk, whatever the model will say of them.
    """
    if not risks.any_stated:
        return split
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in split.test:
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


def _digest(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()
