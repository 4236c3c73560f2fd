"""The classifier: a network with all that turns an image into a decision, and its directory on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch

from inspection_models.card_document import DOCUMENT_FILE, card_document
from inspection_models.deciding import Prediction, decide
from inspection_models.familiarity import FAMILIAR_FILE, Familiarity, entering
from inspection_models.model_card import (
    CARD_FILE,
    WEIGHTS_FILE,
    ExplanationSettings,
    ModelCard,
    ModelError,
    ModelVersion,
    Thresholds,
    read_card,
)
from inspection_models.networks import NetworkError, build_network
from inspection_models.preprocessing import check_pixels
from inspection_models.region_features import PixelFeatures
from inspection_models.region_head import HEAD_FILE, RegionHead, RegionHeadError
from inspection_models.tile_decisions import merge_logits, tile_engine, tile_logits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from inspection_models.attribution.engines import Engine
    from inspection_models.preprocessing import Preprocessing
    from inspection_models.tiling import Tiling

__all__ = ["DefectClassifier", "ModelError", "Prediction"]


class DefectClassifier:
    """A network with its classes, preprocessing, calibration and thresholds.

    Attributes:
        network: in eval mode; float32 [N, 3, H, W] to logits [N, C].
        card: everything that `model.json` says.
        region_head: draws regions, where one was learned.
        familiarity: what images are compared with that may be unlike those trained on; as the card has a line for it.

    Raises:
        ModelError: the region head or the remembered features are not those that the card states.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        card: ModelCard,
        region_head: RegionHead | None = None,
        familiarity: Familiarity | None = None,
    ) -> None:
        stated = None if card.regions.head is None else card.regions.head.weights_sha256
        if stated != (None if region_head is None else region_head.weights_sha256):
            raise ModelError("the region head is not the one that the card states, or one of both is missing")
        if card.familiarity is not None and (familiarity is None or familiarity.sha256 != card.familiarity.sha256):
            raise ModelError("the remembered features are not those that the card's field 'familiarity' names")
        self.network = network.eval()
        self.card = card
        self.region_head = region_head
        self.familiarity = familiarity if card.familiarity is not None else None

    @classmethod
    def assemble(cls, network: torch.nn.Module, **fields: Any) -> DefectClassifier:
        """Make a classifier of a network and the fields of its `ModelCard`, all but the weights' hash."""
        digest = hashlib.sha256(weights_of(network)).hexdigest()
        return cls(network, ModelCard(weights_sha256=digest, **fields))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the network's outputs."""
        return self.card.classes

    @property
    def good_class(self) -> str | None:
        """The class without a defect; None where every class is a defect."""
        return self.card.good_class

    @property
    def preprocessing(self) -> Preprocessing:
        """From an image to the network's input."""
        return self.card.preprocessing

    @property
    def temperature(self) -> float:
        """Of all classes together; see `Calibration`."""
        return self.card.calibration.temperature

    @property
    def thresholds(self) -> Thresholds:
        """Where the model draws its lines."""
        return self.card.thresholds

    @property
    def explanation(self) -> ExplanationSettings:
        """How this model's decisions are explained."""
        return self.card.explanation

    @property
    def version(self) -> ModelVersion:
        """Identity: name, version, hash of the weights and fingerprint."""
        return self.card.model_version

    def with_settings(self, **changes: Any) -> DefectClassifier:
        """Return the same network under other card fields, such as thresholds: a new model version."""
        return DefectClassifier(self.network, self.card.with_settings(**changes), self.region_head, self.familiarity)

    def with_head(self, card: ModelCard, head: RegionHead | None) -> DefectClassifier:
        """Return the same network under a card that states another region head, or none: a new model version.

        Raises:
            ModelError: the card states another one.
        """
        return DefectClassifier(self.network, card, head, self.familiarity)

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Decide each image by itself, in a batch of one: same image, same bits, whatever its neighbours.

        A model with a tiling looks at the image's tiles, `TILE_BATCH` at a time, and decides on their merged logits.

        Args:
            images: uint8 [H, W, 3] RGB arrays of any sizes.

        Raises:
            ImageError: an entry is not such an array, or would take too many tiles.
            RuntimeError: the network's output is not finite.
        """
        tiling = self.card.tiling
        if tiling is None:
            return [self._predict_one(image) for image in images]
        return [self._predict_tiled(image, tiling) for image in images]

    def decide(self, logits: NDArray[np.float32], distance: float | None = None) -> Prediction:
        """Turn the network's logits [C], and the distance where it is known, into a decision.

        Raises:
            RuntimeError: a logit is not finite.
        """
        return decide(self.card, logits, distance)

    @cached_property
    def tile_engine(self) -> Engine:
        """What computes the passes over tiles; for models that have a tiling."""
        return tile_engine(self.network, self.preprocessing)

    def _predict_one(self, image: NDArray[np.uint8]) -> Prediction:
        inputs, _ = self.preprocessing.apply(image)
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            if self.familiarity is None:
                logits, distance = self.network(inputs.unsqueeze(0).to(device))[0], None
            else:
                with entering(self.network) as features:
                    logits = self.network(inputs.unsqueeze(0).to(device))[0]
                distance = self.familiarity.distance(features[0])
        return self.decide(logits.float().cpu().numpy(), distance)

    def _predict_tiled(self, image: NDArray[np.uint8], tiling: Tiling) -> Prediction:
        check_pixels(image)
        views = tiling.views((image.shape[0], image.shape[1]))
        if len(views) == 1:
            whole = self._predict_one(image)
            return replace(whole, tile_logits=whole.logits[None])
        logits = tile_logits(self.tile_engine, self.preprocessing, image, views)
        good = self.classes.index(self.good_class or "")
        return replace(self.decide(merge_logits(logits, good, self.card.activation, tiling.growth)), tile_logits=logits)

    def save(
        self, directory: str | Path, *, overwrite: bool = False, attachments: Mapping[str, bytes] | None = None
    ) -> None:
        """Write the model directory, whole or not at all.

        Args:
            directory: made, with its parents.
            overwrite: replace a model directory that is there already.
            attachments: further files by name, such as a training summary.

        Raises:
            ModelError: the directory exists and may not, or must not, be replaced.
            OSError: it cannot be written.
        """
        target = Path(directory).absolute()
        check_target(target, overwrite=overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        fresh.mkdir()
        try:
            weights = weights_of(self.network)
            if hashlib.sha256(weights).hexdigest() != self.card.weights_sha256:
                raise ModelError("the network's weights changed since this classifier was made; assemble it anew")
            files = {
                WEIGHTS_FILE: weights,
                CARD_FILE: self.card.to_json().encode(),
                DOCUMENT_FILE: card_document(self.card).encode(),
                **(attachments or {}),
            }
            if self.familiarity is not None:
                files[FAMILIAR_FILE] = self.familiarity.content
            for name, content in files.items():
                _write_durably(fresh / name, content)
            if self.region_head is not None:
                _write_durably(fresh / HEAD_FILE, self.region_head.weights)
            _swap_in(fresh, target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    @classmethod
    def load(cls, directory: str | Path, *, device: str = "cpu") -> DefectClassifier:
        """Read a model directory and check every byte of its weights and every field of its card.

        Raises:
            ModelError: something is missing, changed, invalid or of another format version.
        """
        folder = Path(directory)
        card = read_card(folder / CARD_FILE)
        path = folder / WEIGHTS_FILE
        try:
            weights = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror or error}); copy the directory again") from error
        digest = hashlib.sha256(weights).hexdigest()
        if digest != card.weights_sha256:
            raise ModelError(
                f"{path}: its sha256 is {digest}, field 'weights_sha256' of {CARD_FILE} says {card.weights_sha256}: "
                "the weights were changed or damaged; copy the model directory again from where it was trained"
            )
        try:
            network = build_network(card.architecture, len(card.classes), pretrained=False)
        except NetworkError as error:
            raise ModelError(f"{folder / CARD_FILE}: field 'architecture': {error}") from error
        try:
            network.load_state_dict(safetensors.torch.load(weights), strict=True)
        except Exception as error:  # damaged safetensors raise several types of their own
            raise ModelError(f"{path}: does not fit field 'architecture' {card.architecture!r} ({error})") from error
        classifier = cls(network, card, _read_head(folder, card), _familiarity(folder, card))
        _check_head(folder, classifier)
        network.to(device)
        return classifier


def _read_head(folder: Path, card: ModelCard) -> RegionHead | None:
    if card.regions.head is None:
        return None
    path = folder / HEAD_FILE
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}); copy the directory again") from error
    digest, stated = hashlib.sha256(weights).hexdigest(), card.regions.head.weights_sha256
    if digest != stated:
        raise ModelError(
            f"{path}: its sha256 is {digest}, field 'regions.head.weights_sha256' of {CARD_FILE} says {stated}: the "
            "region head was changed or damaged; copy the model directory again from where it was trained"
        )
    try:
        return RegionHead.of_weights(weights)
    except RegionHeadError as error:
        raise ModelError(f"{path}: {error}") from error


def _check_head(folder: Path, classifier: DefectClassifier) -> None:
    """Refuse now what could not draw a region later: a head that was learned on another network."""
    if classifier.region_head is None:
        return
    try:
        classifier.region_head.check(PixelFeatures(classifier))
    except RegionHeadError as error:
        raise ModelError(f"{folder / HEAD_FILE}: {error}") from error


def _familiarity(folder: Path, card: ModelCard) -> Familiarity | None:
    if card.familiarity is None:
        return None
    path = folder / FAMILIAR_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}); copy the directory again") from error
    if hashlib.sha256(content).hexdigest() != card.familiarity.sha256:
        raise ModelError(f"{path}: was changed or damaged; copy the model directory again from where it was trained")
    try:
        return Familiarity(content)
    except ValueError as error:
        raise ModelError(f"{path}: {error}; copy the model directory again from where it was trained") from error


def weights_of(network: torch.nn.Module) -> bytes:
    """The network's state as a safetensors file, tensors sorted by name and laid out contiguously on the CPU."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(network.state_dict().items())}
    content: bytes = safetensors.torch.save(state)
    return content


def check_target(directory: Path, *, overwrite: bool) -> None:
    """Make sure that a model may be saved to a directory.

    Raises:
        ModelError: a model is there and may not be replaced, or something else is there.
    """
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    if not directory.is_dir() or not (directory / CARD_FILE).is_file() or any(p.is_dir() for p in directory.iterdir()):
        raise ModelError(f"{directory} exists and is not a model directory; choose another one, it is left untouched")
    if not overwrite:
        raise ModelError(f"{directory} holds a model already; choose another directory or allow it to be overwritten")


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _swap_in(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
    else:
        # Two renames: a crash between them leaves the former model beside the target, complete under its own name.
        former = target.with_name(f".{target.name}.former-{uuid.uuid4().hex}")
        target.rename(former)
        try:
            fresh.rename(target)
        except OSError:
            former.rename(target)
            raise
        shutil.rmtree(former)
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
