"""A training that was killed goes on and ends with the same weights; no checkpoint of another one is taken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from inspection_models.training import TrainingError, train
from inspection_models.training.checkpoint import Checkpoint, workplace
from tests.inspection_models.broken_training import request_of
from tests.inspection_models.data_files import image_folder

SMALL = "shufflenet_v2_x0_5"
PRETRAINED = "efficientnet-lite0"


def marked_shades(root: Path) -> Path:
    """Dark images, and bright spots on such, with their masks."""
    rng = np.random.default_rng(0)
    for label, count in (("good", 24), ("spot", 16)):
        (root / "images" / label).mkdir(parents=True)
        for index in range(count):
            pixels = np.clip(rng.normal(80, 12, (40, 48)), 0, 255).astype(np.uint8)
            if label == "spot":
                top, left = rng.integers(4, 24, 2)
                mask = np.zeros_like(pixels)
                mask[top : top + 12, left : left + 12] = 255
                pixels[mask > 0] = 200
                (root / "masks" / label).mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(root / "masks" / label / f"{index}.png")
            Image.fromarray(pixels).save(root / "images" / label / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return marked_shades(tmp_path_factory.mktemp("spots"))


def broken(data: Path, output: Path, how: str, *what: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.inspection_models.broken_training", str(data), str(output), *what, how]
    root = Path(__file__).parents[2]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
    )


@pytest.fixture
def one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("architecture", "precision"), [(PRETRAINED, "auto"), (SMALL, "auto"), (PRETRAINED, "bfloat16")]
)
def test_killed_in_the_middle_of_an_epoch_it_ends_with_the_same_weights_and_course(
    data: Path, tmp_path: Path, architecture: str, precision: str
) -> None:
    whole = train(request_of(data, tmp_path / "whole", architecture, precision))
    killed = broken(data, tmp_path / "killed", "kill", architecture, precision)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed").exists()
    curves = (tmp_path / ".killed.training" / "learning_curves.csv").read_text().splitlines()
    assert curves[-1].startswith("1,")
    resumed = train(request_of(data, tmp_path / "killed", architecture, precision))
    assert resumed.continued_after == (1,)
    assert resumed.classifier.version.weights_sha256 == whole.classifier.version.weights_sha256
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    courses = [[replace(epoch, seconds=0) for epoch in report.epochs] for report in (whole, resumed)]
    assert courses[0] == courses[1]
    assert (tmp_path / "whole" / "model.json").read_bytes() == (tmp_path / "killed" / "model.json").read_bytes()
    assert json.loads((tmp_path / "killed" / "training_summary.json").read_text())["continued_after_epochs"] == [1]
    assert not (tmp_path / ".killed.training").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_full_disk_is_named_and_the_last_checkpoint_stays(data: Path, tmp_path: Path) -> None:
    full = broken(data, tmp_path / "model", "fill", SMALL, "auto")
    assert full.returncode == 1
    assert "the checkpoint of epoch 2 cannot be written" in full.stderr
    assert "the state after epoch 1 is kept there: make room and start the same training again" in full.stderr
    assert [path.name.partition("-")[0] for path in (tmp_path / ".model.training").glob("*.safetensors")] == ["0001"]
    assert not list((tmp_path / ".model.training").glob("*.part"))
    resumed = train(request_of(data, tmp_path / "model", SMALL, "auto"))
    whole = train(request_of(data, tmp_path / "whole", SMALL, "auto"))
    assert resumed.classifier.version.weights_sha256 == whole.classifier.version.weights_sha256


class StoppedError(Exception):
    """Ends a training from within, as ctrl-C does."""


def stop_in_epoch(number: int) -> object:
    def watch(event: object) -> None:
        if getattr(event, "phase", "") == "epoch" and getattr(event, "epoch", 0) == number:
            raise StoppedError

    return watch


@pytest.mark.slow
def test_another_request_or_other_data_is_refused_with_what_differs_and_restart_throws_it_away(
    data: Path, tmp_path: Path
) -> None:
    request = request_of(data, tmp_path / "model", SMALL, "auto")
    with pytest.raises(StoppedError):
        train(request, stop_in_epoch(2))  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=r"another training: request\.learning_rate was 0\.001 and is 0\.002"):
        train(replace(request, learning_rate=2e-3))
    with pytest.raises(TrainingError, match=r"request\.epochs was 3 and is 1"):
        train(replace(request, epochs=1))
    with pytest.raises(TrainingError, match="good_class was 'good' and is None"):
        train(replace(request, good_class=""))
    other = marked_shades(tmp_path / "other")
    (other / "images" / "good" / "0.png").write_bytes((other / "images" / "good" / "1.png").read_bytes())
    with pytest.raises(TrainingError, match="data_sha256 was"):
        train(replace(request, data=other))
    report = train(replace(request, epochs=1, restart=True))
    assert report.continued_after == ()
    assert [epoch.epoch for epoch in report.epochs] == [1]


@pytest.mark.slow
def test_the_name_and_the_explanation_do_not_make_it_another_training(data: Path, tmp_path: Path) -> None:
    request = request_of(data, tmp_path / "model", SMALL, "auto")
    with pytest.raises(StoppedError):
        train(request, stop_in_epoch(3))  # type: ignore[arg-type]
    report = train(replace(request, name="other", explanation="sise"))
    assert report.continued_after == (2,)
    assert report.classifier.version.name == "other"


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused(data: Path, tmp_path: Path) -> None:
    request = request_of(data, tmp_path / "model", SMALL, "auto")
    with pytest.raises(StoppedError):
        train(request, stop_in_epoch(2))  # type: ignore[arg-type]
    (path,) = (tmp_path / ".model.training").glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"is damaged \(its bytes are not those that were written\); start anew"):
        train(request)
    path.write_bytes(b"")
    with pytest.raises(TrainingError, match="--restart"):
        train(request)


def checkpoint_before(epoch: int, data: Path, output: Path, architecture: str) -> dict[str, torch.Tensor]:
    """The tensors that a training keeps when it is stopped in an epoch."""
    with pytest.raises(StoppedError):
        train(request_of(data, output, architecture, "auto"), stop_in_epoch(epoch))  # type: ignore[arg-type]
    (path,) = output.with_name(f".{output.name}.training").glob("*.safetensors")
    tensors: dict[str, torch.Tensor] = load_file(path)
    return tensors


@pytest.mark.usefixtures("one_thread")
def test_a_checkpoint_holds_the_average_beside_the_weights_that_learn(data: Path, tmp_path: Path) -> None:
    tensors = checkpoint_before(2, data, tmp_path / "model", SMALL)
    network = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
    assert len(network) > 100
    for name, learning in network.items():
        averaged = tensors[f"average.{name}"]
        assert torch.equal(averaged, learning) != learning.is_floating_point()


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("architecture", [PRETRAINED, SMALL])
def test_stopped_and_taken_up_all_that_learns_and_its_average_are_the_same_to_the_bit(
    data: Path, tmp_path: Path, architecture: str
) -> None:
    whole = checkpoint_before(3, data, tmp_path / "whole", architecture)
    checkpoint_before(2, data, tmp_path / "stopped", architecture)
    taken_up = checkpoint_before(3, data, tmp_path / "stopped", architecture)
    assert taken_up.keys() == whole.keys()
    assert {name.partition(".")[0] for name in whole} == {"network", "average", "marks", "optimiser"}
    for name, tensor in whole.items():
        assert torch.equal(tensor, taken_up[name]), name


def test_a_checkpoint_of_another_recipe_is_refused(data: Path, tmp_path: Path) -> None:
    request = request_of(data, tmp_path / "model", SMALL, "auto")
    with pytest.raises(StoppedError):
        train(request, stop_in_epoch(2))  # type: ignore[arg-type]
    known = tmp_path / ".model.training" / "identity.json"
    identity = json.loads(known.read_text())
    del identity["recipe"]
    known.write_text(json.dumps(identity))
    with pytest.raises(TrainingError, match=r"of another training: recipe was None and is [0-9]+.*--restart"):
        train(request)


def test_two_trainings_do_not_write_to_one_output(tmp_path: Path) -> None:
    with (
        workplace(tmp_path / "model", {"a": 1}, restart=False),
        pytest.raises(TrainingError, match="another training is writing"),
        workplace(tmp_path / "model", {"a": 1}, restart=False),
    ):
        pass


def test_a_place_that_cannot_be_written_is_named_before_the_work(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    events: list[object] = []
    with pytest.raises(TrainingError, match=r"cannot be written .*choose an output in a folder of yours"):
        train(request_of(data, tmp_path / "file" / "model", SMALL, "auto"), events.append)
    assert events == []


def test_a_checkpoint_comes_back_as_it_was_and_replaces_the_former(tmp_path: Path) -> None:
    image_folder(tmp_path / "unrelated", {"good": 1})
    with workplace(tmp_path / "model", {"size": (1, 2)}, restart=False) as place:
        assert place.latest() is None
        for epoch in (1, 2):
            tensors = {"a.b": torch.arange(6.0).reshape(2, 3) * epoch, "step": torch.tensor(3.0)}
            place.write(Checkpoint(epoch, tensors, {"course": [0.1, None], "name": "ä"}))
    with workplace(tmp_path / "model", {"size": [1, 2]}, restart=False) as place:
        found = place.latest()
        assert found is not None
        assert (found.epoch, found.state) == (2, {"course": [0.1, None], "name": "ä"})
        assert torch.equal(found.tensors["a.b"], torch.arange(6.0).reshape(2, 3) * 2)
        assert len(list((tmp_path / ".model.training").glob("*.safetensors"))) == 1
        place.remove()
    assert not (tmp_path / ".model.training").exists()
