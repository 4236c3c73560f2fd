"""A light head on the network's block outputs that draws where a defect is, learned from masks, boxes or outlines.

A perceptron with two hidden layers judges each place of a photograph by its features (`PixelFeatures`). It is trained
on places drawn from defective and good photographs with the cross entropy, small defects weighted up so that a
blowhole counts beside a fray.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inspection_models.region_features import Evidence, PixelFeatures


HEAD_FILE = "region_head.safetensors"
PLACES = 250
"""At most so many places inside defects, and as many outside, are learned from in one photograph."""
_HIDDEN, _DROPOUT = 64, 0.3
_STEPS, _BATCH, _LEARNING_RATE, _WEIGHT_DECAY = 500, 1024, 3e-3, 1e-2


class RegionHeadError(ValueError):
    """A head cannot be learned or used; the message says why and what to do."""


class RegionHead(nn.Module):
    """Features [places, dimensions] to log-odds [places] that a place is defective."""

    mean: Tensor
    spread: Tensor

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.layers = nn.Sequential(
            nn.Linear(len(mean), _HIDDEN),
            nn.ReLU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_HIDDEN, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Log-odds of each place."""
        judged: Tensor = self.layers((features - self.mean) / self.spread)
        return judged[:, 0]

    @property
    def weights(self) -> bytes:
        """All tensors as a safetensors file, sorted by name."""
        content: bytes = safetensors.torch.save(
            {name: tensor.detach().contiguous() for name, tensor in sorted(self.state_dict().items())}
        )
        return content

    @property
    def weights_sha256(self) -> str:
        """Hex digest of `weights`."""
        return hashlib.sha256(self.weights).hexdigest()

    @classmethod
    def of_weights(cls, weights: bytes) -> RegionHead:
        """The head that a safetensors file holds, ready to be used.

        Raises:
            RegionHeadError: it is damaged or not of such a head.
        """
        try:
            state = safetensors.torch.load(weights)
            head = cls(torch.zeros_like(state["mean"]), torch.ones_like(state["spread"]))
            head.load_state_dict(state, strict=True)
        except Exception as error:  # damaged safetensors raise several types of their own
            raise RegionHeadError(
                f"the region head's weights cannot be used ({error}); copy the model again"
            ) from error
        return head.eval()

    def check(self, features: PixelFeatures) -> None:
        """Make sure that the head can judge these features.

        Raises:
            RegionHeadError: it was learned on another network.
        """
        if features.dimensions != len(self.mean):
            raise RegionHeadError(
                f"the region head takes {len(self.mean)} features, the network gives {features.dimensions}: it was "
                "learned on another network; learn it anew with `inspection regions`"
            )

    def draw(self, features: PixelFeatures, pixels: NDArray[np.uint8], evidence: Evidence) -> NDArray[np.float32]:
        """Probability that a pixel is of the defect asked about: float32 [h, w] in [0, 1], image uint8 [h, w, 3].

        Raises:
            RegionHeadError: the head was learned on another network.
        """
        self.check(features)
        with torch.inference_mode():
            probabilities = torch.sigmoid(self(features.of(pixels, evidence))).numpy()
        return features.to_image(probabilities, (pixels.shape[0], pixels.shape[1]))


@dataclass(frozen=True, eq=False)
class Places:
    """Places of one photograph to learn from: features [n, D], whether each is defective, and its weight, [n]."""

    features: Tensor
    defective: Tensor
    weights: Tensor


def places_of(
    features: PixelFeatures,
    pixels: NDArray[np.uint8],
    evidence: Evidence,
    truth: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Places:
    """Draw places of an image uint8 [h, w, 3] whose defects of the class asked about are `truth`, bool [h, w].

    Each side weighs as much as its share of the picture, the defect as the root of that.
    """
    rows, columns = features.grid((truth.shape[0], truth.shape[1]))
    covered = functional.adaptive_avg_pool2d(torch.from_numpy(truth.astype(np.float32))[None, None], (rows, columns))
    # Of a defect too small to fill half a place, the place that it fills most remains.
    inside = (covered >= min(0.5, float(covered.max()))).flatten().numpy() & truth.any()
    chosen, weights = [], []
    for wanted, exponent in ((True, 0.5), (False, 1.0)):
        there = np.flatnonzero(inside == wanted)
        drawn = rng.choice(there, min(PLACES, len(there)), replace=False)
        share = len(there) / len(inside)
        chosen.append(drawn)
        weights.append(np.full(len(drawn), (share / max(1, len(drawn))) ** exponent))
    places = np.concatenate(chosen)
    return Places(
        features=features.of(pixels, evidence)[torch.from_numpy(places)].clone(),
        defective=torch.from_numpy(inside[places].astype(np.float32)),
        weights=torch.from_numpy(np.concatenate(weights).astype(np.float32)),
    )


def fit_head(photographs: Sequence[Places], *, seed: int = 0) -> RegionHead:
    """Learn a head; the same places and seed give the same weights on one machine.

    Raises:
        RegionHeadError: no place is defective, or all are.
    """
    features = torch.cat([one.features for one in photographs]) if photographs else torch.zeros(0, 1)
    defective = torch.cat([one.defective for one in photographs]) if photographs else torch.zeros(0)
    if not 0 < int(defective.sum()) < len(defective):
        raise RegionHeadError("a head needs places with and without defects; give images whose defects are marked")
    weights = torch.cat([one.weights for one in photographs]).double()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = RegionHead(features.mean(dim=0), features.std(dim=0) + 1e-3).train()
        optimiser = torch.optim.AdamW(head.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, _STEPS)
        cumulative = torch.cumsum(weights, dim=0) / weights.sum()
        for _ in range(_STEPS):
            drawn = torch.searchsorted(cumulative, torch.rand(_BATCH, dtype=torch.float64)).clamp_max(len(weights) - 1)
            loss = functional.binary_cross_entropy_with_logits(head(features[drawn]), defective[drawn])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return head.eval()
