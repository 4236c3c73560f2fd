"""What a training step wants: classes, one or several, and where they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from inspection_models.data import load_dataset
from inspection_models.data.dataset import Box, Sample
from inspection_models.networks import build_network
from inspection_models.preprocessing import Preprocessing
from inspection_models.training import TrainingError, TrainingRequest, train
from inspection_models.training.augmentation import Augmentation
from inspection_models.training.batches import Batch, FittedImages
from inspection_models.training.losses import MarkedPlaces, decision_loss, loss_weights
from inspection_models.training.precision import MixedPrecision
from inspection_models.training.stages import fine_layers, set_stage
from inspection_models.training.validation import validation_figures
from tests.inspection_models.broken_training import request_of
from tests.inspection_models.test_training_resumed import marked_shades

PLAIN = Preprocessing("letterbox", (48, 48), (127.0,) * 3, (128.0,) * 3)


def test_of_one_class_it_is_the_weighted_cross_entropy_and_of_several_the_binary_one() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -3.0]])
    targets = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    weights = torch.tensor([0.5, 2.0, 1.0])
    losses = -torch.log_softmax(logits, 1)[[0, 1], [0, 1]]
    expected = (0.5 * losses[0] + 2 * losses[1]) / 2.5
    torch.testing.assert_close(decision_loss(logits, targets, weights, several=False), expected)
    several = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    p = torch.sigmoid(logits)
    expected = -(weights * several * p.log() + (1 - several) * (1 - p).log()).mean()
    torch.testing.assert_close(decision_loss(logits, several, weights, several=True), expected)


def test_with_several_classes_an_image_is_drawn_as_its_rarest_and_each_class_is_a_question() -> None:
    samples = [Sample(Path(f"{n}.png"), "a", str(n), "0" * 64) for n in range(6)]
    samples[0] = replace(samples[0], also=("b",))
    samples[1] = replace(samples[1], also=("b", "c"))
    part = FittedImages(samples, ("a", "b", "c", "good"), PLAIN)
    assert part.targets.tolist()[:2] == [[1, 1, 0, 0], [1, 1, 1, 0]]
    assert part.labels.tolist() == [1, 2, 0, 0, 0, 0]
    assert torch.isfinite(loss_weights(part, 1)).all()
    logits = np.array([[3, 3, -3], [3, -3, -3]], np.float32)
    found = validation_figures(logits, np.array([[1, 1, 0], [1, 1, 0]], np.float32), several=True)
    # Class 0: always shown, always seen. Class 1: one of two. Class 2: never shown, never seen.
    assert found.accuracy == pytest.approx(5 / 6)
    assert found.balanced_accuracy == pytest.approx((1 + 0.5 + 1) / 3)
    expected = functional.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor([[1.0, 1, 0], [1, 1, 0]]))
    assert found.loss == pytest.approx(float(expected), rel=1e-6)


def test_a_validation_loss_weighs_classes_alike_however_many_images_each_has() -> None:
    logits = np.array([[2, 0], [2, 0], [2, 0], [2, 0]], np.float32)
    targets = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
    right, wrong = float(np.log1p(np.exp(-2))), float(np.log1p(np.exp(2)))
    assert validation_figures(logits, targets, several=False).loss == pytest.approx((right + wrong) / 2)
    # Of the first class three show it and one does not; so the one weighs as much as the three.
    assert validation_figures(logits[:, :1], targets[:, :1], several=True).loss == pytest.approx((right + wrong) / 2)


class Stub(nn.Module):
    """Maps of 8 x 8 and of 4 x 4 cells from inputs of 16 x 16."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 4, 2, stride=2)
        self.coarse = nn.Conv2d(4, 5, 2, stride=2)
        self.head = nn.Linear(5, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.coarse(self.fine(inputs)).mean(dim=(2, 3)))
        return logits


def marked_batch(marks: torch.Tensor, targets: list[list[float]], marked: list[list[bool]]) -> Batch:
    return Batch(torch.zeros(len(targets), 3, 16, 16), torch.tensor(targets), marks, torch.tensor(marked))


def test_the_marks_loss_by_hand() -> None:
    network = Stub()
    marks = torch.zeros(2, 3, 16, 16)
    marks[0, 0, 0:4, 0:4] = 1  # one cell of the coarse grid, four of the fine one
    batch = marked_batch(marks, [[1, 0, 0], [0, 0, 1]], [[True, True, True], [True, True, True]])
    with MarkedPlaces(network, (16, 16), 3, good=2) as places:
        assert sorted(places.readers) == ["coarse", "fine"]
        network(batch.inputs)
        for reader in places.readers.values():
            nn.init.zeros_(reader.weight)  # type: ignore[arg-type]
            reader.bias.data = torch.tensor([1.0, -2.0])
        inside, outside = functional.softplus(torch.tensor(-1.0)), functional.softplus(torch.tensor([1.0, -2.0]))
        expected = []
        for cells, held in ((16, 1), (64, 4)):
            total = (2 * cells - held) * outside[0] + 2 * cells * outside[1]
            expected.append(0.5 * (inside + total / (2 * cells)))
        torch.testing.assert_close(places.loss(batch, readers_only=False), torch.stack(expected).mean())


def test_unknown_places_and_marks_that_left_the_picture_do_not_count() -> None:
    network = Stub()
    nothing = torch.zeros(1, 3, 16, 16)
    with MarkedPlaces(network, (16, 16), 3, good=2) as places:
        network(nothing[:, :3])
        for marked in ([[False, True, True]], [[True, True, True]]):
            # Class 0 shows, but is not marked, or nowhere any more: only class 1 is told to be absent.
            loss = places.loss(marked_batch(nothing, [[1, 0, 0]], marked), readers_only=False)
            for reader in places.readers.values():
                reader.bias.data[0] += 5
            torch.testing.assert_close(
                places.loss(marked_batch(nothing, [[1, 0, 0]], marked), readers_only=False), loss
            )
    assert not network.fine._forward_hooks


@pytest.mark.parametrize("readers_only", [False, True])
def test_the_marks_loss_teaches_the_network_unless_only_the_readers_are_to_learn(readers_only: bool) -> None:
    network = Stub()
    marks = torch.zeros(1, 3, 16, 16)
    marks[0, 0, 0:4, 0:4] = 1
    batch = marked_batch(marks, [[1, 0, 0]], [[True, True, True]])
    with MarkedPlaces(network, (16, 16), 3, good=2) as places:
        network(torch.ones(1, 3, 16, 16))
        places.loss(batch, readers_only=readers_only).backward()  # type: ignore[no-untyped-call]
        assert all(reader.weight.grad.any() for reader in places.readers.values())  # type: ignore[union-attr]
        assert all((layer.weight.grad is None) == readers_only for layer in (network.fine, network.coarse))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "readers_only"),
    [("efficientnet-lite0", [True, False]), ("shufflenet_v2_x0_5", [False, False])],
)
def test_only_readers_learn_from_marks_in_the_first_epoch_of_a_network_that_knows_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, readers_only: list[bool]
) -> None:
    asked: list[bool] = []
    loss = MarkedPlaces.loss

    def watched(self: MarkedPlaces, batch: Batch, *, readers_only: bool) -> torch.Tensor:
        asked.append(readers_only)
        return loss(self, batch, readers_only=readers_only)

    monkeypatch.setattr(MarkedPlaces, "loss", watched)
    request = request_of(marked_shades(tmp_path / "data"), tmp_path / "model", architecture, "auto")
    train(replace(request, epochs=2))
    steps = len(asked) // 2
    assert asked == [readers_only[0]] * steps + [readers_only[1]] * steps


def test_marks_come_fitted_with_the_images(tmp_path: Path) -> None:
    dataset = load_dataset(marked_shades(tmp_path / "data"))
    part = FittedImages(dataset.samples, dataset.classes, PLAIN, good=dataset.good_class)
    assert part.are_marked
    index = next(n for n, sample in enumerate(dataset.samples) if sample.label == "spot")
    still = Augmentation(flips=False, fill=(127.0,) * 3)
    object.__setattr__(still, "_movement", lambda *_: np.eye(2, 3))
    batch = part.batch([0, index], still, np.random.default_rng(0))
    assert batch.marks is not None
    assert batch.marked is not None
    assert batch.marked.tolist() == [[False, True], [True, True]] or batch.marked.tolist() == [[True, True]] * 2
    assert not batch.marks[0].any()
    bright = batch.inputs[1, 0] > 0.3
    assert float((bright & (batch.marks[1, 1] > 0)).sum() / (bright | (batch.marks[1, 1] > 0)).sum()) > 0.75
    boxed = replace(dataset.samples[0], label="spot", boxes=(Box("spot", 4, 6, 10, 8),))
    marks = FittedImages([boxed], dataset.classes, PLAIN, good="good").batch([0], still, np.random.default_rng(0)).marks
    assert marks is not None
    rows, columns = np.nonzero(marks[0, 1].numpy())
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 17, 4, 13)  # 48 x 40 stands 4 rows down


def test_stages_free_first_the_head_then_the_deep_layers_then_all() -> None:
    request = TrainingRequest(Path("data"), Path("model"), size=(64, 64), epochs=5, whole_epochs=2)
    assert [request.stage(epoch) for epoch in range(6)] == ["head", "deep", "deep", "deep", "all", "all"]
    other = replace(request, weights=Path("w.pth"), weights_are="other")
    assert {other.stage(epoch) for epoch in range(1, 6)} == {"all"}
    network = build_network("efficientnet-lite0", 2, pretrained=False)
    fine = fine_layers(network, request)
    set_stage(network, fine, "deep", keeps_statistics=True)
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert "classifier.weight" in learning
    assert any(name.startswith("stages.3") for name in learning)
    assert not any(name.startswith(("stem", "stages.0", "stages.1")) for name in learning)
    assert not any(m.training for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    set_stage(network, fine, "all", keeps_statistics=False)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(m.training for m in network.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"whole_epochs": 13}, "whole_epochs is 13; there are only 12"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"weights_are": "mine"}, "weights_are is 'mine'"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        TrainingRequest(Path("data"), Path("model"), **changes)


def test_precision_is_chosen_by_device_and_float16_is_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MixedPrecision("cpu", "auto").name == "float32"
    with pytest.raises(TrainingError, match="float16 is for CUDA"):
        MixedPrecision("cpu", "float16")
    low = MixedPrecision("cpu", "bfloat16")
    with low.passing():
        assert nn.Linear(4, 4)(torch.zeros(1, 4)).dtype == torch.bfloat16
    with MixedPrecision("cpu", "float32").passing():
        assert nn.Linear(4, 4)(torch.zeros(1, 4)).dtype == torch.float32
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(is_bf16_supported=lambda: False))
    with pytest.raises(TrainingError, match="no bfloat16; use float16"):
        MixedPrecision("cuda", "bfloat16")
