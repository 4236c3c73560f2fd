"""Training as a user does it, on the demonstration set.

In a file of its own, for the tests of a file run in one process, and this one takes minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from inspection_models.data import write_synthetic_steel
from inspection_models.training import TrainingRequest, train

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_the_demonstration_set_is_learnt_to_94_percent(tmp_path: Path) -> None:
    write_synthetic_steel(tmp_path / "steel", per_class=120, size=256, seed=0)
    report = train(TrainingRequest(tmp_path / "steel", tmp_path / "model", size=(160, 160), epochs=4))
    assert report.test.images >= 120
    assert report.test.balanced_accuracy >= 0.94
    assert report.test.calibration_error < 0.08
