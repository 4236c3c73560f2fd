"""The gate's report as JSON: everything that the page shows, and every answer, so that others can count again."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from inspection_models.gate.changes import KINDS
from inspection_models.gate.resampling import RESAMPLES

if TYPE_CHECKING:
    from backend.gate.run import GateResult
    from inspection_models.gate import Answer, ComparedModel
    from inspection_models.model_card import ModelCard

FORMAT, FORMAT_VERSION = "inspection-gate", 1
_MEASURED = ("escapes", "overkill", "review", "right", "recall", "balanced_accuracy", "calibration")


def report_json(result: GateResult) -> str:
    """The text of `gate.json`: the same for the same models, images, rules, seed and machine, so without a date."""
    return json.dumps(report_of(result), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def report_of(result: GateResult) -> dict[str, Any]:
    """The report as a document of plain values."""
    comparison, golden, verdict = result.comparison, result.golden, result.verdict
    measured = asdict(comparison)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "verdict": verdict.words,
        "release": verdict.release,
        "rules": {
            "sha256": result.request.rules.sha256,
            "text": result.request.rules.text,
            "outcomes": [asdict(one) for one in verdict.outcomes],
        },
        "candidate": _identity(result.candidate),
        "service": _identity(result.service),
        "data": {
            "sha256": result.dataset.sha256,
            "layout": result.dataset.layout,
            "files": len(result.dataset.samples),
            "images": len(golden.images),
            "groups": len({image.group for image in golden.images}),
            "defective": sum(image.defective for image in golden.images),
            "counts": dict(sorted(Counter(label for image in golden.images for label in image.labels).items())),
            "left_out": dict(golden.left_out),
            "seen": dict(golden.seen),
            "notes": list(golden.notes),
        },
        "confidence": comparison.confidence,
        **{name: measured[name] for name in _MEASURED},
        "explanations": {
            **asdict(result.explanations),
            "images": [{**asdict(one), "file": golden.images[one.place].file} for one in result.explanations.images],
        },
        "changed": [
            {
                "kind": one.kind,
                "means": KINDS[one.kind],
                "file": golden.images[one.place].file,
                "sha256": golden.images[one.place].sha256,
                "move": one.move,
                "drawn": place < len(result.pictures),
            }
            for place, one in enumerate(comparison.changed)
        ],
        "images": [
            {
                "file": image.file,
                "sha256": image.sha256,
                "group": image.group,
                "labels": sorted(image.labels),
                "defective": image.defective,
                "candidate": _answer(comparison.candidate, new),
                "service": _answer(comparison.service, old),
            }
            for image, new, old in zip(
                comparison.images, comparison.candidate.answers, comparison.service.answers, strict=True
            )
        ],
        "settings": {
            "seed": result.request.seed,
            "resamples": RESAMPLES,
            "explained_at_most": result.request.limit,
            "pictures_at_most": result.request.pictures,
            "images_seen_are_kept": result.request.with_seen,
        },
        "software": result.software,
    }


def _identity(card: ModelCard) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(card.to_json())
    kept = (
        "architecture",
        "classes",
        "good_class",
        "activation",
        "preprocessing",
        "calibration",
        "thresholds",
        "explanation",
        "origins",
        "card_sha256",
    )
    return {
        **asdict(card.model_version),
        **{key: described[key] for key in kept},
        "training_data_sha256": card.training.get("data_sha256"),
    }


def _answer(model: ComparedModel, answer: Answer) -> dict[str, Any]:
    return {
        "verdict": answer.verdict,
        "labels": sorted(answer.labels),
        "defect_probability": answer.defect_probability,
        "probabilities": dict(zip(model.classes, answer.probabilities, strict=True)),
    }
