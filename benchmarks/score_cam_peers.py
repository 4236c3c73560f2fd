"""ScoreCAM as the libraries people use compute it, each with the batch size it has when nobody asks for another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from inspection_models._torchvision import models  # noqa: F401  peers import torchvision, which needs the door

if TYPE_CHECKING:
    from torch import Tensor, nn

GRAD_CAM_BATCH = 16
TORCH_CAM_BATCH = 32


def pytorch_grad_cam(network: nn.Module, layers: list[nn.Module], image: Tensor, target: int) -> Tensor:
    """The maps of `layers` for `image` [1, 3, H, W], averaged: [H, W] on the CPU. Scores are softmax confidences."""
    from pytorch_grad_cam import ScoreCAM  # noqa: PLC0415
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget  # noqa: PLC0415

    with ScoreCAM(network, layers) as cam:
        cam.batch_size = GRAD_CAM_BATCH
        return torch.from_numpy(cam(image, [ClassifierOutputSoftmaxTarget(target)])[0])


def torch_cam(network: nn.Module, layers: list[nn.Module], image: Tensor, target: int) -> Tensor:
    """The maps of `layers` for `image` [1, 3, H, W], fused by their maximum: on the CPU, as large as the largest layer.

    Scores are logits. Raises `ImportError` where Python is older than torch-cam wants it.
    """
    from torchcam.methods import ScoreCAM  # noqa: PLC0415

    with ScoreCAM(network, list(layers), batch_size=TORCH_CAM_BATCH) as cam:
        with torch.inference_mode():
            network(image)
        fused: Tensor = cam.fuse_cams(cam(class_idx=target))
    return fused[0].cpu()
