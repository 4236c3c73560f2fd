"""A light head on the network's block outputs that draws where a defect is, learned from masks, boxes or outlines.

A small convolutional network judges each place of a photograph by its features (`Sight`) and by those of the places
around it: a 1 x 1 layer, three 3 x 3 layers with residual connections that look ever farther, and a last 1 x 1 layer.
It is trained on windows of defective and good photographs with the cross entropy and the soft Dice loss (Milletari et
al., 2016), which counts a blowhole like a fray, and keeps the average of its weights over the last hundred steps or so.
What it draws takes on the photograph's edges (`guided_filter`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from inspection_models.guided_filter import guided
from inspection_models.region_features import Sight

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from inspection_models.region_features import Evidence, PixelFeatures


HEAD_FILE = "region_head.safetensors"
REVISION = 2
"""Another one for every change of how a head learns or draws."""
STEPS = 1500
"""Steps of learning, whatever the number of photographs."""
_WIDTH, _GROUPS, _REACHES, _DROPOUT = 32, 4, (1, 2, 4), 0.2
_WINDOW, _BATCH, _AT_DEFECTS, _SEEN_PLACES = 64, 4, 0.7, 300
_LEARNING_RATE, _WEIGHT_DECAY, _AVERAGING = 2e-3, 1e-2, 0.99
_RARELY = -2.0
"""Log-odds of a defect at any place, to begin with."""
_NOISE = 20.0
"""Variance of brightness, in squared grey values of 255, that is noise of the camera and no edge."""


class RegionHeadError(ValueError):
    """A head cannot be learned or used; the message says why and what to do."""


class RegionHead(nn.Module):
    """What is known of places to log-odds that they are defective."""

    mean: Tensor
    spread: Tensor

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        """`mean`, `spread`: [dimensions], of the features, which are brought to 0 and 1 first."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.reading = nn.Linear(len(mean), _WIDTH)
        last = nn.Conv2d(_WIDTH, 1, 1)
        nn.init.constant_(last.bias, _RARELY)  # type: ignore[arg-type]
        self.layers = nn.Sequential(nn.ReLU(), *(_Around(reach) for reach in _REACHES), last)

    def forward(self, read: Tensor) -> Tensor:
        """What `read` makes of windows, [n, width, rows, columns], to log-odds of each place, [n, rows, columns]."""
        judged: Tensor = self.layers(read)
        return judged[:, 0]

    def read(self, sight: Sight, rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """The first layer's outputs for the places in a window, float32 [width, rows, columns].

        While the head learns, some features are left out at random, each in the whole window.
        """
        weight = self.reading.weight / self.spread
        if self.training:
            weight = functional.dropout(torch.ones_like(self.mean), _DROPOUT) * weight
        return sight.weighted(weight, rows, columns) + (self.reading.bias - weight @ self.mean)[:, None, None]

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
            fits = set(state) == set(head.state_dict())
            if fits:
                head.load_state_dict(state)
        except Exception as error:  # damaged safetensors raise several types of their own
            raise RegionHeadError(
                f"the region head's weights cannot be used ({error}); copy the model again"
            ) from error
        if not fits:
            raise RegionHeadError("the region head is of another version of this program; train the model anew")
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
            judged = torch.sigmoid(self(self.read(features.of(pixels, evidence))[None]))[0].numpy()
        height, width = pixels.shape[:2]
        drawn = cv2.resize(np.ascontiguousarray(judged), (width, height), interpolation=cv2.INTER_LINEAR)
        # The photograph knows more of the border than places of several pixels do.
        reach = (max(1, round(height / judged.shape[0])), max(1, round(width / judged.shape[1])))
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
        return np.clip(guided(np.asarray(drawn, np.float32), grey, reach, _NOISE), 0, 1)


class _Around(nn.Module):
    """Adds to each place what the eight places at a distance around it say."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=reach, dilation=reach)
        self.norm = nn.GroupNorm(_GROUPS, _WIDTH)

    def forward(self, values: Tensor) -> Tensor:
        return values + functional.relu(self.norm(self.layer(values)))


@dataclass(frozen=True, eq=False)
class Photograph:
    """One photograph to learn from.

    Attributes:
        sight: what is known of it.
        covered: the share of each place that is of the defect asked about, float32 [rows, columns].
    """

    sight: Sight
    covered: Tensor

    @classmethod
    def of(
        cls, features: PixelFeatures, pixels: NDArray[np.uint8], evidence: Evidence, truth: NDArray[np.bool_]
    ) -> Photograph:
        """An image uint8 [h, w, 3] whose defects of the class asked about are `truth`, bool [h, w]."""
        sight = features.of(pixels, evidence).shortened()
        marked = torch.from_numpy(truth.astype(np.float32))[None, None]
        covered = functional.adaptive_avg_pool2d(marked, sight.shape)[0, 0]
        # Of a defect too small to fill half a place anywhere, the place that it fills most counts in full.
        most = float(covered.max())
        return cls(sight, covered / most if 0 < most < 0.5 else covered)


def fit_head(
    photographs: Sequence[Photograph],
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> RegionHead:
    """Learn a head; the same photographs and seed give the same weights on one machine.

    Args:
        photographs: defective and good ones.
        seed: of the first weights and of the order of windows.
        progress: told how many of how many steps are done.

    Raises:
        RegionHeadError: no place is defective, or all are.
    """
    covered = torch.cat([one.covered.flatten() for one in photographs]) if photographs else torch.zeros(0)
    if not bool((covered >= 0.5).any()) or bool((covered >= 0.5).all()):
        raise RegionHeadError("a head needs places with and without defects; give images whose defects are marked")
    rng = np.random.default_rng(seed)
    size = tuple(min(_WINDOW, max(one.sight.shape[axis] for one in photographs)) for axis in (0, 1))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = RegionHead(*_scale(photographs, rng)).train()
        averaged = {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}
        optimiser = torch.optim.AdamW(head.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, STEPS)
        for step in range(1, STEPS + 1):
            drawn = rng.choice(len(photographs), min(_BATCH, len(photographs)), replace=False)
            windows = [_window(head, photographs[place], (size[0], size[1]), rng) for place in drawn]
            read, wanted = (torch.stack(values) for values in zip(*windows, strict=True))
            optimiser.zero_grad()
            _loss(head(read), wanted).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            share = 1 - min(_AVERAGING, step / (step + 9))
            for name, tensor in head.state_dict().items():
                averaged[name].lerp_(tensor.detach(), share)
            progress(step, STEPS)
    head.load_state_dict(averaged)
    return head.eval()


def _scale(photographs: Sequence[Photograph], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mean and spread of each feature, over places drawn from each photograph."""
    places = []
    for one in photographs:
        rows, columns = (torch.from_numpy(rng.integers(length, size=_SEEN_PLACES)) for length in one.sight.shape)
        places.append(one.sight.at(rows, columns))
    together = torch.cat(places, dim=1)
    return together.mean(dim=1), together.std(dim=1) + 1e-3


def _window(
    head: RegionHead, photograph: Photograph, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """What the head reads in a window, [width, *size], and shares covered, [*size]; both mirrored at random.

    Mostly a window with a defect in it. Where the photograph is smaller, -1 stands for what is beyond it.
    """
    wanted = photograph.covered
    starts = [int(rng.integers(max(1, have - length + 1))) for have, length in zip(wanted.shape, size, strict=True)]
    defective = torch.nonzero(wanted > 0)
    if len(defective) and rng.random() < _AT_DEFECTS:
        place = defective[rng.integers(len(defective))].tolist()
        starts = [
            int(np.clip(at - rng.integers(length), 0, max(0, have - length)))
            for at, length, have in zip(place, size, wanted.shape, strict=True)
        ]
    rows, columns = (slice(start, start + length) for start, length in zip(starts, size, strict=True))
    read, wanted = head.read(photograph.sight, rows, columns), wanted[rows, columns]
    beyond = (0, size[1] - wanted.shape[1], 0, size[0] - wanted.shape[0])
    read, wanted = functional.pad(read, beyond), functional.pad(wanted, beyond, value=-1.0)
    mirrored = [axis for axis in (-2, -1) if rng.random() < 0.5]
    return read.flip(mirrored), wanted.flip(mirrored)


def _loss(judged: Tensor, wanted: Tensor) -> Tensor:
    """Cross entropy over all places, and soft Dice over each window that has a defect; both [n, rows, columns]."""
    counts = (wanted >= 0).float()
    wanted = wanted.clamp(min=0)
    each = functional.binary_cross_entropy_with_logits(judged, wanted, reduction="none")
    probable = torch.sigmoid(judged) * counts
    shared, sizes = (probable * wanted).sum(dim=(1, 2)), probable.sum(dim=(1, 2)) + wanted.sum(dim=(1, 2))
    missed = 1 - (2 * shared + 1) / (sizes + 1)
    defective = (wanted.amax(dim=(1, 2)) > 0).float()
    return (each * counts).sum() / counts.sum() + (missed * defective).sum() / defective.sum().clamp(min=1)
