"""What a training step wants: the right classes, and seeing each of them where it is marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from inspection_models.training.batches import class_weights

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self

    from inspection_models.training.batches import Batch, FittedImages

_GRIDS = 2
_CLEARLY, _HARDLY = 0.25, 0.5


def loss_weights(train: FittedImages, power: int) -> Tensor:
    """Weight of each class in the loss, float32 [C], with 1 in the mean over the images; see `class_weights`."""
    weights = class_weights(train.labels, train.targets.shape[1]) ** power
    return torch.tensor(weights / weights[train.labels].mean(), dtype=torch.float32)


def decision_loss(logits: Tensor, targets: Tensor, weights: Tensor, *, several: bool) -> Tensor:
    """How far the logits [n, C] are from the classes that the images show, targets [n, C].

    Of one class an image: cross-entropy, an image weighing as its class does. Of several: the mean over all classes of
    the binary cross-entropy, a class weighing so much more where it shows as it is rarer than the others.
    """
    if several:
        return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)
    return functional.cross_entropy(logits, targets.argmax(dim=1), weights)


class MarkedPlaces(nn.Module):
    """Teaches a network's last feature maps where defects are; thrown away after the training.

    The last maps at each of the two coarsest resolutions are read by a 1 x 1 convolution, one output a defect class,
    which is to be positive in the cells that hold marked pixels of the class and negative in all others. Reading by
    layers of its own leaves it to the head how the cells count for the image. A network that was right for a wrong
    reason, such as the rim of a fixture, learns from this that the reason was wrong.
    """

    def __init__(self, network: nn.Module, size: tuple[int, int], classes: int, good: int | None) -> None:
        """Listen to `network` for inputs of `size`, until `close`; `good`: the index of the class without marks."""
        super().__init__()
        self._defects = [place for place in range(classes) if place != good]
        layers = _last_layers(network, size)
        self._seen: dict[str, Tensor] = {}
        self.readers = nn.ModuleDict()
        self._handles = []
        for name, channels in layers.items():
            key = name.replace(".", "/")
            self.readers[key] = nn.Conv2d(channels, len(self._defects), 1)
            self._handles.append(network.get_submodule(name).register_forward_hook(self._keeper(key)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def loss(self, batch: Batch, *, readers_only: bool) -> Tensor:
        """Of the network's latest pass, over the batch that it was made on.

        With `readers_only` nothing of it reaches the network.

        Cells with a mark and cells without one count half each, however small the marks are. Cells at a mark's edge,
        and classes of which an image does not say where they are, do not count.

        Raises:
            ValueError: the batch comes without marks.
        """
        if batch.marks is None or batch.marked is None:
            raise ValueError("the batch has no marks")
        device = next(self.readers.parameters()).device
        marks, known = (values[:, self._defects].to(device) for values in (batch.marks, batch.marked))
        shown = batch.targets[:, self._defects].to(device) > 0
        seen = {key: maps.detach() if readers_only else maps for key, maps in self._seen.items()}
        losses = [self._loss_of(reader, seen[key], marks, known, shown) for key, reader in self.readers.items()]
        return torch.stack(losses).mean()

    def _loss_of(self, reader: nn.Module, maps: Tensor, marks: Tensor, known: Tensor, shown: Tensor) -> Tensor:
        read: Tensor = reader(maps.float())
        share = functional.adaptive_avg_pool2d(marks, (read.shape[2], read.shape[3]))
        largest = share.amax(dim=(2, 3), keepdim=True)
        # A defect smaller than a cell is wanted in the cells that hold most of it.
        inside = (share > 0) & (share >= (largest * _HARDLY).clamp(max=_CLEARLY))
        # A mark that a shift carried out of the picture says nothing any more.
        gone = (largest == 0) & shown[:, :, None, None]
        counts = known[:, :, None, None] & ~gone
        outside = (share == 0) & counts
        inside = inside & counts
        each = functional.binary_cross_entropy_with_logits(read, inside.to(read.dtype), reduction="none")
        cells = outside.any(dim=1).sum().clamp(min=1)
        return 0.5 * ((each * inside).sum() / inside.sum().clamp(min=1) + (each * outside).sum() / cells)

    def _keeper(self, key: str) -> _Keeper:
        return _Keeper(self._seen, key)


class _Keeper:
    """Keeps a layer's latest output under a key."""

    def __init__(self, seen: dict[str, Tensor], key: str) -> None:
        self._seen, self._key = seen, key

    def __call__(self, _layer: nn.Module, _inputs: object, output: Tensor) -> None:
        self._seen[self._key] = output


def _last_layers(network: nn.Module, size: tuple[int, int]) -> dict[str, int]:
    """Names of the layers that write last at each of the coarsest resolutions, and their numbers of channels."""
    last: dict[tuple[int, int], tuple[str, int]] = {}

    def watch(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_layer: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == 4 and max(output.shape[2:]) > 1:
                last[(output.shape[2], output.shape[3])] = (name, output.shape[1])

        return layer.register_forward_hook(note)

    handles = [watch(name, layer) for name, layer in network.named_modules() if name]
    try:
        network.eval()
        device = next(network.parameters()).device
        with torch.no_grad():
            network(torch.zeros(1, 3, *size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    coarsest = sorted(last, key=lambda grid: grid[0] * grid[1])[:_GRIDS]
    return {last[grid][0]: last[grid][1] for grid in coarsest}
