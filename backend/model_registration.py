"""A model card as it is registered in SQL."""

from __future__ import annotations

from pydantic import TypeAdapter

from db.records import NewModelVersion
from inspection_models.model_card import ModelCard

_CARD = TypeAdapter(ModelCard)


def registration(card: ModelCard) -> NewModelVersion:
    """What a model's card says, as a model version to register."""
    content = _CARD.dump_python(card, mode="json")
    return NewModelVersion(
        name=card.name,
        version=card.version,
        architecture=card.architecture,
        weights_sha256=card.weights_sha256,
        fingerprint=card.fingerprint,
        classes=card.classes,
        good_class=card.good_class,
        card=content,
        **{
            name: content[name]
            for name in ("preprocessing", "calibration", "thresholds", "explanation", "training", "metrics")
        },
    )
