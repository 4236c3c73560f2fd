"""Photographs whose colour says what is on them, and a small model that sees nothing but that."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from inspection_models.classifier import DefectClassifier
from inspection_models.decision_lines import ReviewLines
from inspection_models.model_card import ExplanationSettings, Thresholds
from inspection_models.networks import build_network
from inspection_models.preprocessing import Preprocessing
from tests.backend.desks import CLASSES

Kind = Literal["good", "crack", "stain", "unsure"]
KINDS: tuple[Kind, ...] = ("good", "crack", "stain", "unsure")
"""A class, or what the model leaves to the inspector."""
WIDTH, HEIGHT = 96, 72

_COLOURS = {"good": (60, 180, 60), "crack": (190, 60, 60), "stain": (60, 60, 190), "unsure": (120, 120, 120)}
_LOGITS = {"good": (6, 0, 0), "crack": (0, 6, 0), "stain": (0, 0, 6), "unsure": (2, 2, 2)}
# The network ends in a rectifier: what it weighs has to stay above zero.
_LIFT = 10.0
_SIDE = 64
_LEARNED_FROM = 60
_RIDGE = 0.01


def photograph(kind: Kind, seed: int) -> bytes:
    """A PNG of one colour with a darker patch; no two seeds give the same."""
    random = np.random.default_rng((KINDS.index(kind), seed))
    pixels = random.integers(-20, 20, (HEIGHT, WIDTH, 3)) + np.array(_COLOURS[kind])
    top, left = int(random.integers(8, HEIGHT - 28)), int(random.integers(8, WIDTH - 28))
    pixels[top : top + 20, left : left + 20] -= 50
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_model(directory: Path) -> Path:
    """A model directory: a random network whose last layer is fitted to the colours, without any training."""
    torch.manual_seed(0)
    network = build_network("squeezenet1_1", len(CLASSES), pretrained=False).eval()
    head = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    preprocessing = Preprocessing(mode="letterbox", size=(_SIDE, _SIDE), mean=(127.0,) * 3, std=(128.0,) * 3)
    seeds = [(kind, 1_000_000 + seed) for kind in KINDS for seed in range(_LEARNED_FROM)]
    with torch.no_grad():
        images = torch.stack([_as_input(photograph(kind, seed)) for kind, seed in seeds])
        seen = network.features(images).mean((2, 3)).double()
        wanted = torch.tensor([_LOGITS[kind] for kind, _ in seeds], dtype=torch.float64) + _LIFT
        middle = seen.mean(0)
        design = torch.cat([seen - middle, torch.ones(len(seen), 1, dtype=torch.float64)], 1)
        ridge = _RIDGE * torch.eye(design.shape[1], dtype=torch.float64)
        weights = torch.linalg.solve(design.T @ design + ridge, design.T @ wanted)
        head.weight.copy_(weights[:-1].T[:, :, None, None])
        head.bias.copy_(weights[-1] - weights[:-1].T @ middle)
    classifier = DefectClassifier.assemble(
        network,
        name="colours",
        architecture="squeezenet1_1",
        classes=CLASSES,
        good_class="good",
        preprocessing=preprocessing,
        thresholds=Thresholds(decision=0.5, review=ReviewLines(good_below=0.2, defect_from=0.85)),
        explanation=ExplanationSettings(method="quorum", options={}),
    )
    classifier.save(directory)
    return directory


def _as_input(data: bytes) -> torch.Tensor:
    """As the model's own preprocessing does, but for the last bits."""
    small = Image.open(io.BytesIO(data)).resize((_SIDE, round(_SIDE * HEIGHT / WIDTH)))
    canvas = np.full((_SIDE, _SIDE, 3), 127.0, np.float32)
    top = (_SIDE - small.height) // 2
    canvas[top : top + small.height] = np.asarray(small, np.float32)
    return torch.from_numpy(((canvas - 127.0) / 128.0).transpose(2, 0, 1))
