"""torchvision can be imported in a fresh interpreter, whichever of its builds stands beside torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from inspection_models._torchvision import NATIVE_OPERATORS, models, torchvision

ROOT = Path(__file__).parents[2]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.slow
def test_first_import_in_a_fresh_interpreter_gives_working_networks() -> None:
    result = run(
        "import json, torch\n"
        "from inspection_models import _torchvision\n"
        "from inspection_models._torchvision import models\n"
        "import torchvision\n"
        "import torchvision.transforms.v2, torchvision.models.feature_extraction\n"
        "assert torchvision is _torchvision.torchvision\n"
        "network = models.resnet18().eval()\n"
        "print(json.dumps(list(network(torch.zeros(1, 3, 64, 64)).shape)))\n"
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [1, 1000]


@pytest.mark.slow
def test_door_is_needed_exactly_where_it_declares_operators() -> None:
    bare = run("import torchvision")
    assert (bare.returncode == 0) == NATIVE_OPERATORS, bare.stderr


def test_missing_native_operator_is_named_not_faked() -> None:
    boxes, scores = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([1.0])
    if NATIVE_OPERATORS:
        assert torchvision.ops.nms(boxes, scores, 0.5).tolist() == [0]
    else:
        with pytest.raises(RuntimeError, match="custom C\\+\\+ ops"):
            torchvision.ops.nms(boxes, scores, 0.5)


@pytest.mark.slow
def test_missing_torchvision_says_what_to_do() -> None:
    result = run(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torchvision' else find(name, *a)\n"
        "import inspection_models._torchvision\n"
    )
    assert result.returncode == 1
    assert "ImportError: torchvision is not installed" in result.stderr


def test_models_are_torchvisions() -> None:
    assert models is torchvision.models
