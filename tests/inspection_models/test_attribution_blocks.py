"""Convolutional blocks are found by what a network does, whatever its layers are called."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from inspection_models._torchvision import models
from inspection_models.attribution import NetworkError, convolutional_blocks
from inspection_models.networks import EfficientNetLite0

RESNET = ("relu", "layer1", "layer2", "layer3", "layer4")

NETWORKS = {
    "alexnet": "features.1 64 55, features.4 192 27, features.11 256 13",
    "convnext_tiny": "features.1 96 56, features.3 192 28, features.5 384 14, features.7 768 7",
    "densenet121": "features.relu0 64 112, features.denseblock1 256 56, features.denseblock2 512 28, "
    "features.denseblock3 1024 14, relu 1024 7",
    "efficientnet_b0": "features.1 16 112, features.2 24 56, features.3 40 28, features.5 112 14, features.8 1280 7",
    "efficientnet_v2_s": "features.1 24 112, features.2 48 56, features.3 64 28, features.5 160 14, features.7 1280 7",
    "efficientnet-lite0": "stages.0 16 112, stages.1 24 56, stages.2 40 28, stages.4 112 14, head 1280 7",
    "googlenet": "conv1 64 112, conv3 192 56, inception3b 480 28, inception4e 832 14, inception5b 1024 7",
    "inception_v3": "Conv2d_2b_3x3 64 147, Conv2d_4a_3x3 192 71, Mixed_5d 288 35, Mixed_6e 768 17, Mixed_7c 2048 8",
    "mnasnet0_5": "layers.7 8 112, layers.8 16 56, layers.9 24 28, layers.11 48 14, layers.16 1280 7",
    "mobilenet_v2": "features.1 16 112, features.3 24 56, features.6 32 28, features.13 96 14, features.18 1280 7",
    "mobilenet_v3_large": "features.1 16 112, features.3 24 56, features.6 40 28, features.12 112 14, "
    "features.16 960 7",
    "mobilenet_v3_small": "features.0 16 112, features.1 16 56, features.3 24 28, features.8 48 14, features.12 576 7",
    "regnet_y_400mf": "stem 32 112, trunk_output.block1 48 56, trunk_output.block2 104 28, "
    "trunk_output.block3 208 14, trunk_output.block4 440 7",
    "resnet18": "relu 64 112, layer1 64 56, layer2 128 28, layer3 256 14, layer4 512 7",
    "resnet50": "relu 64 112, layer1 256 56, layer2 512 28, layer3 1024 14, layer4 2048 7",
    "resnet101": "relu 64 112, layer1 256 56, layer2 512 28, layer3 1024 14, layer4 2048 7",
    "resnext50_32x4d": "relu 64 112, layer1 256 56, layer2 512 28, layer3 1024 14, layer4 2048 7",
    "shufflenet_v2_x1_0": "conv1 24 112, stage2 116 28, stage3 232 14, conv5 1024 7",
    "squeezenet1_1": "features.1 64 111, features.4 128 55, features.7 256 27, features.12 512 13",
    "vgg16": "features.3 64 224, features.8 128 112, features.15 256 56, features.22 512 28, features.29 512 14",
    "vgg16_bn": "features.5 64 224, features.12 128 112, features.22 256 56, features.32 512 28, features.42 512 14",
    "wide_resnet50_2": "relu 64 112, layer1 256 56, layer2 512 28, layer3 1024 14, layer4 2048 7",
}


def network_named(name: str) -> nn.Module:
    """Without memory for its weights: blocks depend on shapes alone."""
    if name.startswith("regnet"):  # computes its widths with tensors
        return models.get_model(name, weights=None).eval()
    with torch.device("meta"):
        if name == "efficientnet-lite0":
            return EfficientNetLite0(2).eval()
        extra = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
        network: nn.Module = models.get_model(name, weights=None, **extra)
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_known_networks(name: str) -> None:
    size = 299 if name == "inception_v3" else 224
    blocks = convolutional_blocks(network_named(name), (size, size))
    assert ", ".join(f"{b.name} {b.channels} {b.size[0]}" for b in blocks) == NETWORKS[name]
    assert all(b.size[0] == b.size[1] for b in blocks)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_blocks_are_the_same_at_every_input_size(name: str) -> None:
    network = network_named(name)
    found = {
        tuple((block.name, block.channels) for block in convolutional_blocks(network, size))
        for size in ((160, 160), (256, 320), (299, 299))
    }
    expected = tuple((name, int(maps)) for name, maps, _ in (block.split() for block in NETWORKS[name].split(", ")))
    assert found == {expected}


@pytest.mark.parametrize(("name", "maps"), [("resnet50", 3904), ("resnet101", 3904), ("vgg16", 1472)])
def test_maps_on_offer_are_the_papers(name: str, maps: int) -> None:
    blocks = convolutional_blocks(network_named(name))
    assert len(blocks) == 5
    assert sum(block.channels for block in blocks) == maps


def test_blocks_follow_the_input_size() -> None:
    blocks = convolutional_blocks(network_named("resnet18"), (96, 160))
    assert [block.size for block in blocks] == [(48, 80), (24, 40), (12, 20), (6, 10), (3, 5)]
    assert tuple(block.name for block in blocks) == RESNET


def test_blocks_of_single_pixels_do_not_count() -> None:
    blocks = convolutional_blocks(network_named("resnet18"), (32, 32))
    assert [block.size for block in blocks] == [(16, 16), (8, 8), (4, 4), (2, 2)]


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1)


def head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))


class Written(nn.Module):
    """A forward written by hand over a few layers."""

    def __init__(self, forward: Callable[[Written, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = convolution(3, 4), convolution(4, 6), convolution(6, 8, 2)
        self.wide = convolution(4, 2)
        self.relu = nn.ReLU(inplace=True)
        self.head = head(8)
        self._written = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._written(self, x)


def names(network: nn.Module, size: tuple[int, int] = (32, 32)) -> list[str]:
    return [block.name for block in convolutional_blocks(network.eval(), size)]


def test_pool_at_the_end_of_a_hand_written_block() -> None:
    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(convolution(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))

    assert names(nn.Sequential(block(3, 4), block(4, 6), block(6, 8), head(8))) == ["0.2", "1.2", "2.2"]


def test_pool_at_the_start_of_a_hand_written_block() -> None:
    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.MaxPool2d(2), convolution(inputs, outputs), nn.ReLU())

    stem = nn.Sequential(convolution(3, 4), nn.ReLU())
    assert names(nn.Sequential(stem, block(4, 6), block(6, 8), head(8))) == ["0", "1", "2"]


def test_strided_blocks_without_pooling() -> None:
    layers = [nn.Sequential(convolution(i, o, 2), nn.ReLU()) for i, o in ((3, 4), (4, 6), (6, 8))]
    assert names(nn.Sequential(*layers, head(8))) == ["0", "1", "2"]


def test_one_activation_module_used_several_times() -> None:
    def forward(self: Written, x: Tensor) -> Tensor:
        x = functional.max_pool2d(self.relu(self.a(x)), 2)
        x = self.relu(self.b(x))
        return self.head(self.relu(self.c(x)))

    assert names(Written(forward)) == ["relu", "relu_1", "relu_2"]


def test_functions_in_place_and_slices() -> None:
    def forward(self: Written, x: Tensor) -> Tensor:
        x = x - 0.5
        x = self.a(x)
        x[:, 2:] = x[:, :2] * 2
        x.clamp_(min=0)
        x = functional.interpolate(x, scale_factor=0.5)
        left, right = self.b(x).chunk(2, dim=1)
        x = torch.cat([left, torch.sigmoid(right)], dim=1)
        return self.head(functional.hardtanh_(self.c(x), 0, 6))

    assert names(Written(forward)) == ["clamp_", "cat", "hardtanh_"]


def test_side_branches_drop_out() -> None:
    def forward(self: Written, x: Tensor) -> Tensor:
        x = self.relu(self.a(x))
        gate = torch.sigmoid(self.wide(x).mean((1, 2, 3), keepdim=True))
        x = x * gate
        small = functional.interpolate(self.wide(functional.max_pool2d(x, 4)), size=x.shape[2:])
        x = torch.cat([x[:, :2] + small, x[:, 2:]], dim=1)
        return self.head(self.c(self.b(x)))

    assert names(Written(forward)) == ["b", "c"]


def test_padding_before_pooling_is_not_the_blocks_end() -> None:
    def forward(self: Written, x: Tensor) -> Tensor:
        x = self.relu(self.a(x))
        x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1)), 3, 2)
        return self.head(self.c(self.b(x)))

    network = Written(forward)
    assert names(network) == ["relu", "b", "c"]
    assert convolutional_blocks(network, (32, 32))[0].size == (32, 32)


def test_channels_last_code_inside() -> None:
    def forward(self: Written, x: Tensor) -> Tensor:
        x = self.b(self.a(x))
        x = functional.layer_norm(x.permute(0, 2, 3, 1), (6,)).movedim(-1, 1)
        x = x.transpose(1, 3).swapaxes(1, 3).permute(dims=(0, 1, 2, 3))
        return self.head(self.c(torch.permute(input=x, dims=(0, 1, 2, 3))))

    # Six channels beside 32 rows would look like a drop to whoever takes [N, h, w, C] for [N, C, h, w].
    network = Written(forward)
    assert names(network) == ["permute_2", "c"]
    assert [block.channels for block in convolutional_blocks(network, (32, 32))] == [6, 8]


def test_unpadded_convolutions_are_no_drop() -> None:
    layers = [nn.Conv2d(3, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 5), nn.ReLU(), nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 16, 2))
    assert names(network, (28, 28)) == ["1", "4"]


def test_wrapped_network_keeps_its_blocks() -> None:
    wrapped = nn.Sequential(nn.Identity(), network_named("mobilenet_v2")).eval()
    assert names(wrapped, (224, 224))[-1] == "1.features.18"


def test_one_block_is_enough() -> None:
    assert names(nn.Sequential(convolution(3, 8), nn.ReLU(), head(8))) == ["1"]


def test_drop_in_one_direction_counts() -> None:
    network = nn.Sequential(convolution(3, 4), nn.MaxPool2d((1, 2)), convolution(4, 8), head(8)).eval()
    assert [block.size for block in convolutional_blocks(network, (8, 32))] == [(8, 32), (8, 16)]


def test_other_threads_networks_do_not_disturb() -> None:
    network, expected = network_named("resnet18"), NETWORKS["resnet18"]
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            network(torch.zeros((1, 3, 64, 64), device="meta"))

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(5):
            blocks = convolutional_blocks(network)
            assert ", ".join(f"{b.name} {b.channels} {b.size[0]}" for b in blocks) == expected
    finally:
        stop.set()
        thread.join()


def doubled_elsewhere(x: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy() * 2)


@pytest.mark.parametrize(
    ("network", "size", "message"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)),
            (8, 8),
            "no convolutional block found for an input of 8 x 8",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)), (8, 8), "has no 2-D convolution"),
        (nn.Sequential(convolution(3, 4), head(4)), (1, 1), "1 x 1: the input is too small, for all maps are single"),
        (Written(lambda self, x: self.head(self.c(self.b(self.a(x.mean((2, 3), True)))))), (8, 8), "single pixels"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 7), head(4)),
            (4, 5),
            "fails on an input of 1 x 3 x 4 x 5, in 0; the input is too small: give a larger input_size",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), head(4)),
            (8, 8),
            "fails on an input of 1 x 3 x 8 x 8, in 0; check the size and the number of channels, here 3",
        ),
        (nn.Sequential(nn.Conv2d(1, 4, 3), head(4)), (400, 400), "check the size and the number of channels, here 3"),
        (nn.Sequential(convolution(3, 4), head(4)), (0, 8), "input_size must be"),
        (convolution(3, 4), (8, 8), r"must answer one image with logits \[1, classes\], .* a tensor \[1, 4, 8, 8\]"),
        (
            Written(lambda self, x: self.head(self.c(self.b(doubled_elsewhere(self.a(x)))))),
            (8, 8),
            "computes out of sight",
        ),
        (Written(lambda self, x: torch.zeros(1, 2)), (8, 8), "cannot be traced back to the input"),
        (Written(lambda self, x: (self.head(self.c(self.b(self.a(x)))), 1)), (8, 8), "a tuple; wrap it in a module"),
        (Written(lambda self, x: {"logits": x}), (8, 8), "a dict; wrap it in a module"),
    ],
)
def test_networks_that_cannot_be_explained_are_told_why(
    network: nn.Module, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(NetworkError, match=message):
        convolutional_blocks(network.eval(), size)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_training_mode_and_scripts_are_refused() -> None:
    network = nn.Sequential(convolution(3, 4), head(4))
    with pytest.raises(NetworkError, match=r"the network is in training mode: call network\.eval"):
        convolutional_blocks(network)
    scripted = torch.jit.trace(network.eval(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(NetworkError, match="the network is scripted, which hides its layers"):
        convolutional_blocks(scripted, (8, 8))
    with pytest.raises(NetworkError, match="0 is scripted, which hides its layers"):
        convolutional_blocks(nn.Sequential(torch.jit.script(network[0]), network[1]).eval(), (8, 8))


class Elsewhere(nn.Module):
    """Computes where nobody can watch."""

    def forward(self, x: Tensor) -> Tensor:
        return doubled_elsewhere(x)


def test_the_layer_that_computes_out_of_sight_is_named() -> None:
    network = nn.Sequential(convolution(3, 4), Elsewhere(), convolution(4, 4), head(4)).eval()
    with pytest.raises(NetworkError, match=r"computes out of sight \(1\); write it with torch operations"):
        convolutional_blocks(network, (8, 8))


class Halved(torch.autograd.Function):
    """A custom autograd function, as memory-saving activations are."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x / 2

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0] / 2


def test_custom_autograd_functions_of_torch_operations_are_watched() -> None:
    assert names(Written(lambda self, x: self.head(self.c(self.b(Halved.apply(self.a(x))))))) == ["b", "c"]


@pytest.mark.parametrize(
    ("name", "size", "module"),
    [
        ("vgg16", 16, r"features\.30"),
        ("inception_v3", 32, r"Mixed_6a\.branch3x3\.conv"),
        ("alexnet", 32, r"features\.12"),
    ],
)
def test_inputs_too_small_for_a_known_network(name: str, size: int, module: str) -> None:
    message = f"fails on an input of 1 x 3 x {size} x {size}, in {module}; the input is too small.* 320 x 320 works"
    with pytest.raises(NetworkError, match=message):
        convolutional_blocks(network_named(name), (size, size))


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("vit_b_16", r"encoder_layer_0, .* another layout, \[1, 197, 768\]: tokens, as in a transformer"),
        ("swin_t", r"features\.1\.0, .* another layout, \[1, 56, 56, 96\]: maps with their channels last"),
        ("swin_v2_t", r"features\.1\.0, .* another layout, \[1, 56, 56, 96\]: maps with their channels last"),
    ],
)
def test_transformers_are_refused(name: str, cause: str) -> None:
    with pytest.raises(NetworkError, match=cause):
        convolutional_blocks(network_named(name))


def test_a_failed_trace_leaves_nothing_behind() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 7), head(4)).eval()
    with pytest.raises(NetworkError):
        convolutional_blocks(network, (4, 4))
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks
    assert names(network) == ["0"]
