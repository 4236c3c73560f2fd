"""The options of `inspection train` under which the next version is made like the one in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inspection_models.model_card import ModelCard


def recipe_of(card: ModelCard) -> list[str]:
    """Network, input, attribution method and name as a model's card has them; the rest as the command has it.

    The number of epochs is left to the command: where more photographs were reviewed, as few may not be enough.
    """
    settings = card.training.get("settings")
    flips = settings.get("flips", True) if isinstance(settings, dict) else True
    height, width = card.preprocessing.size
    return [
        *("--name", card.name),
        *("--network", card.architecture),
        *("--size", str(max(height, width))),
        "--letterbox" if card.preprocessing.mode == "letterbox" else "--resize",
        "--flips" if flips else "--no-flips",
        *("--explanation", card.explanation.method),
    ]
