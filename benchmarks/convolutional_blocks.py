"""Which convolutional blocks are found in torchvision's and timm's networks, beside the levels that timm itself names.

Random weights: blocks depend on shapes alone. Writes the tables of docs/convolutional-blocks.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from inspection_models._torchvision import models
from inspection_models.attribution import ConvolutionalBlock, NetworkError, convolutional_blocks
from inspection_models.networks import EfficientNetLite0

# isort: split
# Behind the shim: timm imports torchvision too.
import timm

PAGE = Path(__file__).parents[1] / "docs" / "convolutional-blocks.md"

PRODUCT = "efficientnet-lite0"
TORCHVISION = """
    alexnet vgg16 vgg16_bn resnet18 resnet50 resnet101 resnext50_32x4d wide_resnet50_2 densenet121 googlenet
    inception_v3 squeezenet1_1 shufflenet_v2_x1_0 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small mnasnet0_5
    efficientnet_b0 efficientnet_v2_s regnet_y_400mf convnext_tiny maxvit_t vit_b_16 swin_t
"""
TIMM = """
    botnet26t_256 caformer_s18 coatnet_pico_rw_224 convformer_s18 convmixer_768_32 convnext_atto_ols convnextv2_atto
    cpubone_nano cs3darknet_focus_s cs3darknet_s csatv2 cspnext_tiny cspresnet50 darknet21 davit_tiny densenetblur121d
    dla34 dm_nfnet_f0 dpn68 ecaresnet26t edgenext_xx_small efficientformerv2_s0 efficientnet_blur_b0
    efficientnet_cc_b0_4e efficientnet_es efficientnetv2_rw_t efficientvim_m1 efficientvit_b0 efficientvit_l1
    efficientvit_m0 ese_vovnet19b_slim_dw fasternet_t0 fastvit_t8 fbnetc_100 fbnetv3_b focalnet_tiny_srf gcresnet33ts
    gcvit_xxtiny gernet_s ghostnet_050 ghostnetv2_100 ghostnetv3_050 halonet26t hardcorenas_a hgnet_tiny hgnetv2_b0
    hrnet_w18_small iformer_t inception_next_atto inception_resnet_v2 inception_v4 lambda_resnet26t lcnet_050
    lcnetv2_small legacy_seresnet18 legacy_xception levit_conv_128s lowformer_b0 maxvit_pico_rw_256 mixnet_s
    mnasnet_small mobilenet_edgetpu_v2_xs mobilenetv1_100 mobilenetv2_050 mobilenetv4_conv_small_035
    mobilenetv4_hybrid_medium mobilenetv5_300m mobileone_s0 mobilevit_xxs mobilevitv2_050 nasnetalarge nextvit_small
    nf_regnet_b0 nfnet_l0 pnasnet5large poolformer_s12 pvt_v2_b0 rdnet_tiny regnetx_002 regnety_002 regnetz_005
    regnetz_b16 repghostnet_050 repvgg_a0 repvit_m0_9 res2net50_14w_8s resnest14d resnet18d resnet50_clip resnetaa34d
    resnetblur50 resnetrs50 resnetv2_50 resnetv2_50x1_bit rexnet_100 selecsls42 semnasnet_075 seresnext26t_32x4d
    shvit_s1 skresnet18 spnasnet_100 starnet_s1 swiftformer_xs tf_efficientnet_lite0 tiny_vit_5m_224 tinynet_e tresnet_m
    vgg11_bn visformer_tiny vovnet39a xception41 xception41p
    cait_xxs24_224 coat_lite_tiny convit_tiny crossvit_9_240 deit_tiny_patch16_224 efficientformer_l1 gmlp_s16_224
    hiera_tiny_224 levit_128s mambaout_femto mixer_s32_224 mvitv2_tiny nest_tiny pit_ti_224 resmlp_12_224
    swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 twins_svt_small vit_small_r26_s32_224 vit_tiny_patch16_224
    vitamin_small_224 volo_d1_224 xcit_nano_12_p16_224
"""

Level = tuple[int, int]
"""Channels and rows of a stack of maps."""


@dataclass(frozen=True)
class Found:
    """What was found in one network, or why nothing was; `levels` are those that timm names, where it names any."""

    network: str
    input_size: tuple[int, int]
    blocks: tuple[ConvolutionalBlock, ...]
    refusal: str = ""
    levels: tuple[Level, ...] | None = None

    @property
    def agreement(self) -> str:
        """How the blocks compare with timm's levels, row by row of maps."""
        if self.levels is None:
            return "names none"
        ours, theirs = {b.size[0]: b.channels for b in self.blocks}, {rows: c for c, rows in self.levels}
        said = [f"also {ours[rows]} at {rows}" for rows in sorted(ours.keys() - theirs.keys(), reverse=True)]
        said += [f"without {theirs[rows]} at {rows}" for rows in sorted(theirs.keys() - ours.keys(), reverse=True)]
        common = sorted(ours.keys() & theirs.keys(), reverse=True)
        said += [f"{ours[rows]} at {rows} for its {theirs[rows]}" for rows in common if ours[rows] != theirs[rows]]
        return "; ".join(said) or "the same"

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        blocks = [{"name": b.name, "channels": b.channels, "size": list(b.size)} for b in self.blocks]
        levels = None if self.levels is None else [list(level) for level in self.levels]
        return {
            "network": self.network,
            "input_size": list(self.input_size),
            "blocks": blocks,
            "maps": sum(b.channels for b in self.blocks),
            "refusal": self.refusal,
            "timm_levels": levels,
        }


def run(_folder: Path) -> dict[str, Any]:
    """Find the blocks of all networks, write the tables into the page, and return them."""
    own = [in_torchvision(name) for name in (PRODUCT, *TORCHVISION.split())]
    others = [in_timm(name) for name in TIMM.split()]
    compared = [found for found in others if found.blocks and found.levels is not None]
    same = sum(found.agreement == "the same" for found in compared)
    page = PAGE.read_text(encoding="utf-8")
    for mark, text in {
        "torchvision": table(own),
        "count": f"It is so for {same} of {len(compared)} networks.\n",
        "timm": table(others, compared=True),
        "refused": refusals([*own, *others]),
    }.items():
        before, opening, rest = page.partition(f"<!-- {mark} -->\n")
        _, closing, after = rest.partition(f"<!-- /{mark} -->")
        page = f"{before}{opening}{text}{closing}{after}"
    PAGE.write_text(page, encoding="utf-8")
    return {
        "timm": timm.__version__,
        "torch": torch.__version__,
        "compared_with_timm": len(compared),
        "the_same": same,
        "networks": [found.as_json() for found in (*own, *others)],
    }


def in_torchvision(name: str) -> Found:
    """Blocks of a torchvision network, or of the product's own."""
    size = 299 if name == "inception_v3" else 224
    if name.startswith("regnet"):  # computes its widths with tensors
        return _found(name, models.get_model(name, weights=None), (size, size))
    extra = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        network = EfficientNetLite0(1000) if name == PRODUCT else models.get_model(name, weights=None, **extra)
    return _found(name, network, (size, size))


def in_timm(name: str) -> Found:
    """Blocks of a timm network, beside the levels that timm's `features_only` gives."""
    config: Any = timm.get_pretrained_cfg(name)
    size = config.input_size[1:]
    found = _found(name, _from_timm(name), size)
    return Found(name, size, found.blocks, found.refusal, _levels(name, size))


def table(all_found: list[Found], *, compared: bool = False) -> str:
    """The networks that have blocks, as Markdown."""
    head = ["network", "input", "blocks: name, channels × rows", "maps", *(["timm's levels"] if compared else [])]
    rows = [head, ["---"] * len(head)]
    for found in all_found:
        if found.blocks:
            blocks = " · ".join(f"`{b.name}` {b.channels} × {b.size[0]}" for b in found.blocks)
            maps = str(sum(b.channels for b in found.blocks))
            rows.append([found.network, str(found.input_size[0]), blocks, maps, *([found.agreement] * compared)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def refusals(all_found: list[Found]) -> str:
    """The networks that are refused, and why, as Markdown."""
    rows = [["network", "why"], ["---", "---"]]
    for found in all_found:
        if not found.blocks:
            tokens = re.search(
                r"goes on, in (\S+), with residual layers on tensors of another layout, (\[.*?\])", found.refusal
            )
            why = f"goes on in `{tokens[1]}` with {tokens[2]}" if tokens else found.refusal.partition(": ")[2]
            rows.append([found.network, why])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _found(name: str, network: nn.Module, size: tuple[int, int]) -> Found:
    try:
        return Found(name, size, convolutional_blocks(network.eval(), size))
    except NetworkError as error:
        return Found(name, size, (), str(error))


def _from_timm(name: str, **options: Any) -> nn.Module:
    """The network without memory for its weights, or with it where it computes with them as it is built."""
    network: nn.Module
    try:
        with torch.device("meta"):
            network = timm.create_model(name, **options)
    except (RuntimeError, NotImplementedError):
        network = timm.create_model(name, **options)
    return network.eval()


def _levels(name: str, size: tuple[int, int]) -> tuple[Level, ...] | None:
    try:
        network: Any = _from_timm(name, features_only=True)
    except (RuntimeError, AssertionError):  # the network offers none
        return None
    device = next(network.parameters()).device
    with torch.no_grad():
        maps = network(torch.zeros((1, 3, *size), device=device))
    channels = network.feature_info.channels()
    return tuple((c, m.shape[2] if m.shape[1] == c else m.shape[1]) for c, m in zip(channels, maps, strict=True))
