"""Networks the rule was not made for: timm's, beside the levels timm itself names, and the page that tells of them."""

from __future__ import annotations

import importlib

import pytest
import torch

from benchmarks import convolutional_blocks as page
from inspection_models.attribution import NetworkError, convolutional_blocks

# After the door to torchvision, which timm imports too.
timm = importlib.import_module("timm")

SAME_AS_TIMM = [
    "resnest14d",
    "convnextv2_atto",
    "repvgg_a0",
    "lcnet_050",
    "resnetv2_50",
    "regnety_002",
    "poolformer_s12",
]

# timm leaves out stems and the head's convolution, or takes a tensor in the middle of a level.
OTHERS = {
    "tf_efficientnet_lite0": "blocks.0 16 112, blocks.1 24 56, blocks.2 40 28, blocks.4 112 14, bn2 1280 7",
    "ghostnet_050": "blocks.0 8 112, blocks.2 12 56, blocks.4 20 28, blocks.6 56 14, blocks.9 480 7",
    "dla34": "level0 16 224, level1 32 112, level2 64 56, level3 128 28, level4 256 14, level5 512 7",
    "efficientvit_b0": "stem 8 112, stages.0 16 56, stages.1 32 28, stages.2 64 14, head.in_conv 1024 7",
    # Tokens with four axes, [1, C, 4, places], are no maps. It enlarges 7 x 7 to cut it into patches of 2 x 2.
    "mobilevitv2_050": "stages.0 32 112, stages.1 64 56, stages.2 128 28, stages.3 192 14, stages.4 256 8",
    # The head attends over tokens, once and without a residual sum.
    "resnet50_clip": "stem.conv3 64 112, stages.0 256 56, stages.1 512 28, stages.2 1024 14, stages.3 2048 7",
    # Convolutions whose weights the network computes turn batch and channels round.
    "efficientnet_cc_b0_4e": "blocks.0 16 112, blocks.1 24 56, blocks.2 40 28, blocks.4 112 14, bn2 1280 7",
}


@pytest.mark.parametrize("name", SAME_AS_TIMM)
def test_the_blocks_are_the_levels_timm_names(name: str) -> None:
    with torch.device("meta"):
        network, levels = timm.create_model(name), timm.create_model(name, features_only=True)
        maps = levels.eval()(torch.zeros(1, 3, 224, 224))
    found = convolutional_blocks(network.eval())
    assert [(block.channels, block.size) for block in found] == [(m.shape[1], tuple(m.shape[2:])) for m in maps]
    assert levels.feature_info.channels() == [block.channels for block in found]


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_networks_where_timm_names_others(name: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(name).eval()
    blocks = convolutional_blocks(network)
    assert ", ".join(f"{b.name} {b.channels} {b.size[0]}" for b in blocks) == OTHERS[name]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("deit_tiny_patch16_224", r"blocks\.0, .* \[1, 197, 192\]: tokens"),
        ("mixer_s32_224", r"blocks\.0, .* \[1, 49, 512\]"),
        ("nest_tiny", r"levels\.2\.transformer_encoder\.0, .* \[1, 1, 196, 384\]"),
        ("mambaout_femto", r"stages\.3\.blocks\.0, .* \[1, 7, 7, 288\]: maps with their channels last"),
    ],
)
def test_networks_that_go_on_in_another_layout_are_refused(name: str, place: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(name).eval()
    with pytest.raises(NetworkError, match=f"the network goes on, in {place}"):
        convolutional_blocks(network)


def test_networks_of_parallel_branches_are_refused() -> None:
    with torch.device("meta"):
        network = timm.create_model("crossvit_9_240").eval()
    with pytest.raises(NetworkError, match="its convolutions are on parallel branches"):
        convolutional_blocks(network, (240, 240))


@pytest.mark.slow
def test_the_page_shows_what_is_found() -> None:
    shown = page.PAGE.read_text(encoding="utf-8")
    own = [page.in_torchvision(name) for name in (page.PRODUCT, *page.TORCHVISION.split())]
    assert page.table(own) in shown
    others = [page.in_timm(name) for name in (*SAME_AS_TIMM, *OTHERS)]
    for row in page.table(others, compared=True).splitlines()[2:]:
        assert row in shown
    assert [found.agreement for found in others[: len(SAME_AS_TIMM)]] == ["the same"] * len(SAME_AS_TIMM)
