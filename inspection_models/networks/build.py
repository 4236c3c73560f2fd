"""Networks by name."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from inspection_models._torchvision import models
from inspection_models.networks.efficientnet_lite import HEAD_CHANNELS, EfficientNetLite0, imagenet_network

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_NETWORK = "efficientnet-lite0"
# Families of torchvision's classification networks that are no CNNs: they have no feature maps block by block.
_TRANSFORMERS = ("vit_", "swin_", "maxvit")


class NetworkError(ValueError):
    """No such network, or its weights do not fit; the message says what would."""


def network_names() -> tuple[str, ...]:
    """All names that `build_network` knows, the default first."""
    torchvision_names: list[str] = models.list_models(module=models)
    return (DEFAULT_NETWORK, *(name for name in torchvision_names if not name.startswith(_TRANSFORMERS)))


def build_network(name: str, classes: int, *, pretrained: bool = True, weights: Path | None = None) -> nn.Module:
    """Build a network whose last layer has one output a class.

    Args:
        name: ``efficientnet-lite0`` or the name of a torchvision CNN such as ``resnet50``.
        classes: number of outputs, at least 2.
        pretrained: begin with the ImageNet weights where they are installed (only ``efficientnet-lite0``); nothing is
            downloaded, and other networks begin at random unless `weights` is given.
        weights: a state of the whole network, ``.safetensors`` or ``.pth``; a last layer for another number of classes
            is left out.

    Raises:
        NetworkError: unknown name, weights that do not fit or cannot be read.
    """
    if classes < 2:
        raise NetworkError(f"a classifier needs at least 2 classes, not {classes}")
    if name not in network_names():
        close = difflib.get_close_matches(name, network_names(), n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(close)}?" if close else f"use {DEFAULT_NETWORK} or a torchvision CNN's name"
        raise NetworkError(f"there is no network {name!r}; {hint}")
    if name == DEFAULT_NETWORK:
        network: nn.Module = imagenet_network() if pretrained and weights is None else EfficientNetLite0(classes)
        if pretrained and weights is None:
            network.classifier = nn.Linear(HEAD_CHANNELS, classes)
    else:
        network = _torchvision_network(name, classes)
    if weights is not None:
        _load_weights(network, weights)
    return network


def last_layer(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Name and module of the layer that makes the logits: the last linear or convolutional one.

    Raises:
        NetworkError: the network has neither.
    """
    found = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not found:
        raise NetworkError(f"{type(network).__name__} has no linear or convolutional layer that could be its head")
    return found[-1]


def _torchvision_network(name: str, classes: int) -> nn.Module:
    options: dict[str, Any] = {"num_classes": classes}
    if name in ("googlenet", "inception_v3"):
        # Their auxiliary heads serve only training from scratch on ImageNet, and change what forward returns; their own
        # initialisation takes many seconds and is not needed with batch normalisation.
        options |= {"aux_logits": False, "init_weights": False}
    network: nn.Module = models.get_model(name, weights=None, **options)
    return network


def _load_weights(network: nn.Module, path: Path) -> None:
    state = _read_state(path)
    wanted = network.state_dict()
    head, _ = last_layer(network)
    unused_heads = {key for key in state if key.startswith(("AuxLogits.", "aux1.", "aux2."))} - set(wanted)
    state = {key: tensor for key, tensor in state.items() if key not in unused_heads}
    for key in (f"{head}.weight", f"{head}.bias"):
        if key in state and key in wanted and state[key].shape != wanted[key].shape:
            state[key] = wanted[key]
    missing, unknown = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    misshapen = sorted(k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape)
    # Files written before batch counters existed lack them; they play no part in inference.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    for problem, keys in (("lacks", missing), ("has the unknown", unknown), ("has another shape of", misshapen)):
        if keys:
            raise NetworkError(
                f"{path} does not fit the network: it {problem} {keys[0]} and {len(keys) - 1} more; "
                "give the weights of the same architecture, with torchvision's names"
            )
    network.load_state_dict(state, strict=False)


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            state: Any = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many types, and torch's own wrap them variously
        raise NetworkError(
            f"{path} cannot be read as weights ({str(error).splitlines()[0]}); "
            "give a .safetensors file or a .pth file that holds tensors only"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise NetworkError(f"{path} holds no state of a network; save network.state_dict()")
    return state
