"""The model card that a person reads: what `model.json` says, in words and tables, and nothing else."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from inspection_models.model_card import ModelCard

DOCUMENT_FILE = "MODEL_CARD.md"
_FIGURES = {
    "escapes": "escapes: defects called good",
    "overkill": "overkill: good parts called defective",
    "alone.review": "sent to a person",
    "alone.errors": "decided alone: wrong class",
    "alone.escapes": "decided alone: escapes",
    "alone.overkill": "decided alone: overkill",
    "calibration_error_before": "calibration error before calibration",
    "reliability.expected_error": "calibration error",
    "reliability.defect_error": "calibration error, of any defect",
    "reliability.classwise_error": "calibration error, mean of the classes",
    "reliability.brier": "Brier score",
    "reliability.log_loss": "log loss, nats",
}
_PARTS = {
    "test": "On the part held out for testing",
    "calibration": "On the photographs that it was calibrated with, hence favourable",
    "validation": "On the part that calibrated the model, hence favourable",
}
# Shown as tables of their own.
_TABLES = ("classes", "confusion", "per_class", "images")
_TRAINING = {
    "data_sha256": "data set, sha256",
    "layout": "read as",
    "images_sha256": "list of images (training_images.csv), sha256",
    "seed": "seed",
    "epochs": "epochs",
}


def card_document(card: ModelCard) -> str:
    """The text of `MODEL_CARD.md`: Markdown that reads well as it is."""
    sections = (
        _head(card),
        _purpose(card),
        _classes(card),
        _data(card),
        _results(card),
        _decisions(card),
        _explanations(card),
        _limits(card),
        _licence(),
        _verification(card),
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _head(card: ModelCard) -> Iterator[str]:
    yield f"# Model card: {_plain(card.name)} {_plain(card.version)}"
    yield ""
    yield "Written from `model.json` of this directory; what counts is that file."
    yield ""
    height, width = card.preprocessing.size
    yield from _table(
        ("what", "value"),
        [
            ("model", card.name),
            ("version", card.version),
            ("network", card.architecture),
            ("input", f"{width} x {height} pixels, {card.preprocessing.mode}"),
            ("classes", len(card.classes)),
            ("fingerprint", card.fingerprint),
            ("weights, sha256", card.weights_sha256),
        ],
    )


def _purpose(card: ModelCard) -> Iterator[str]:
    yield "## What it is for"
    yield ""
    answer = "one of the classes below" if card.activation == "softmax" else "one or several of the classes below"
    yield f"It is shown one photograph of a part and says {answer}, how sure it is, and which pixels convinced it."
    yield "It is meant for photographs of the same parts, camera and light as those it was trained on, beside a person"
    yield "who can overrule it. It is not meant for other parts, for defects it has no class for, or as the only guard"
    yield "where an escaped defect could hurt somebody."


def _classes(card: ModelCard) -> Iterator[str]:
    yield "## Classes"
    yield ""
    stated = card.training.get("counts")
    counts = stated if isinstance(stated, dict) else {}
    parts = [part for part in counts if isinstance(counts[part], dict)]
    rows = []
    for label in card.classes:
        role = "good" if label == card.good_class else "defect"
        rows.append((label, role, *(counts[part].get(label, "–") for part in parts)))
    yield from _table(("class", "is", *(f"{part} images" for part in parts)), rows)
    if card.good_class is None:
        yield ""
        yield "No class is good: the model tells defects apart and cannot pass a part."
    if card.activation == "sigmoid":
        yield ""
        yield "An image may be of several classes."


def _data(card: ModelCard) -> Iterator[str]:
    yield "## Data and training"
    yield ""
    if not card.training:
        yield "The card does not say what the weights were trained on."
        return
    known = [(title, card.training[key]) for key, title in _TRAINING.items() if key in card.training]
    others = {key: value for key, value in card.training.items() if key not in (*_TRAINING, "counts")}
    yield from _table(("what", "value"), [*known, *_flat(others)])


def _results(card: ModelCard) -> Iterator[str]:
    yield "## Results"
    measured = {part: title for part, title in _PARTS.items() if isinstance(card.metrics.get(part), dict)}
    if not measured:
        yield ""
        yield "The card holds no figures."
    else:
        yield ""
        yield "In brackets 95 % intervals (Clopper and Pearson), of parts where the figures count parts; of images"
        yield "otherwise, as if each showed a part of its own."
    for part, title in measured.items():
        yield ""
        yield f"### {title}"
        yield ""
        yield from _result(card.metrics[part])


def _result(tested: Mapping[str, Any]) -> Iterator[str]:
    yield from _table(("figure", "value"), [("images", tested.get("images")), *_figures(tested)])
    per_class = tested.get("per_class")
    if isinstance(per_class, dict) and per_class:
        yield ""
        yield from _table(
            ("class", "precision", "recall", "F1", "images"),
            [
                (label, *(_number(one.get(key)) for key in ("precision", "recall", "f1", "support")))
                for label, one in per_class.items()
            ],
        )
    confusion, classes = tested.get("confusion"), tested.get("classes")
    if isinstance(confusion, list) and isinstance(classes, list) and len(confusion) == len(classes) > 0:
        yield ""
        yield "Rows are true classes, columns decided ones:"
        yield ""
        yield from _table(("", *classes), [(label, *counts) for label, counts in zip(classes, confusion, strict=True)])


def _decisions(card: ModelCard) -> Iterator[str]:
    yield "## Probabilities and lines"
    yield ""
    dumped = asdict(card)
    yield from _table(
        ("setting", "value"),
        [
            ("activation", card.activation),
            *_flat({"calibration": dumped["calibration"], "thresholds": dumped["thresholds"]}),
        ],
    )
    if not card.origins:
        yield ""
        yield "No line between good and defective was drawn from a stated risk: how many defects escape is shown by the"
        yield "figures above, and is promised by nothing."
        return
    for origin in card.origins:
        yield ""
        sure = "on average" if origin.confidence is None else f"with {_number(origin.confidence)} confidence"
        yield f"The line against {origin.line}, {_number(origin.value)}, holds them to {_number(origin.rate)} {sure}:"
        yield ""
        yield from _table(("what", "value"), list(_flat(asdict(origin))))


def _explanations(card: ModelCard) -> Iterator[str]:
    yield "## Explanations and regions"
    yield ""
    named = {"calibration", "thresholds", "explanation", "origins", "training", "metrics", "preprocessing"}
    # Whatever else the card comes to hold stands here.
    named |= {"name", "version", "architecture", "classes", "good_class", "weights_sha256", "activation"}
    others = {key: value for key, value in asdict(card).items() if key not in named}
    yield from _table(("setting", "value"), list(_flat({"explanation": asdict(card.explanation), **others})))
    yield ""
    yield "A map shows what convinced the model. A region cut from it shows where a person should look, not where a"
    yield "defect ends."


def _limits(card: ModelCard) -> Iterator[str]:
    yield "## Limits"
    yield ""
    height, width = card.preprocessing.size
    if card.tiling is None:
        yield f"* The network is shown {width} x {height} pixels. Of a larger photograph, which is shrunk to"
        yield "  that, a small defect may vanish."
    else:
        yield "* Large photographs are looked at in tiles. A good part has as many chances of a false alarm as tiles."
    yield "* A defect of a kind that is not among the classes is called one that is, or good."
    yield "* The figures are of photographs like those trained on. Another camera, light or supplier makes them void."
    yield "* Probabilities were calibrated on photographs held out of training, and are right for such ones only."


def _licence() -> Iterator[str]:
    yield "## Licence and patent"
    yield ""
    yield "The program that made this model is under Apache-2.0. What may be done with the weights depends on the"
    yield "photographs that they were trained on, too. SISE, one of the attribution methods, is the subject of"
    yield "US patent 11,809,519 B2; no licence to it is granted."


def _verification(card: ModelCard) -> Iterator[str]:
    yield "## To name and to verify it"
    yield ""
    yield f"Name it as `{_code(card.name)} {_code(card.version)}`, fingerprint `{card.fingerprint}`."
    yield ""
    yield "`sha256sum weights.safetensors` must print"
    yield f"`{card.weights_sha256}`."
    yield "The program refuses a directory where this or any field of `model.json` does not fit."


def _table(heading: Sequence[object], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(_cell(one) for one in heading)} |"
    yield f"|{'---|' * len(heading)}"
    for row in rows:
        yield f"| {' | '.join(_cell(one) for one in row)} |"


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as rows of a dotted name and a value; what is not set is left out."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            if value:
                yield name, ", ".join(_number(one) for one in value)
        elif value is not None and value != "":
            yield name, _number(value)


def _figures(measured: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Rows of what was measured; lists, such as the bins of a diagram, stay in `model.json`."""
    for key, value in measured.items():
        name = f"{above}{key}"
        title = _FIGURES.get(name, name.replace("_", " ").replace(".", ", "))
        if isinstance(value, dict) and {"count", "of"} <= set(value):
            yield title, _rate(value)
        elif isinstance(value, dict) and name not in _TABLES:
            yield from _figures(value, f"{name}.")
        elif isinstance(value, int | float) and name not in _TABLES:
            yield title, f"{value:.1%}" if "accuracy" in key else _number(value)


def _rate(rate: Mapping[str, Any]) -> str:
    shown = f"{rate['count']} of {rate['of']}"
    count, of = rate["count"], rate["of"]
    if rate.get("of_parts") is not None:
        count, of = rate["parts"], rate["of_parts"]
        shown += f" images, {count} of {of} parts"
    if not of or rate.get("low") is None or rate.get("high") is None:
        return shown
    return f"{shown}, {count / of:.1%} ({rate['low']:.1%} to {rate['high']:.1%})"


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(value: object) -> str:
    return _plain(_number(value))


def _plain(text: str) -> str:
    """Text that Markdown and HTML show as it is, whatever a class is called."""
    one_line = re.sub(r"\s+", " ", text)
    escaped = re.sub(r"([\\`*|\[\]#~$!])", r"\\\1", one_line)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str) -> str:
    return re.sub(r"[`\s]+", " ", text)
