"""Training on real photographs, as far as minutes go.

In a file of its own, for the tests of a file run in one process, and this one takes minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from inspection_models.training import TrainingRequest, train
from tests.inspection_models.data_files import real_data

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_real_magnetic_tiles_never_seen_are_told_far_better_than_by_chance(tmp_path: Path) -> None:
    """Split by tile, few of each defect class are left to learn from, and the figure is modest; chance is 1 in 6."""
    data = real_data("magnetic-tile")
    report = train(TrainingRequest(data, tmp_path / "model", size=(128, 128), epochs=0))
    assert report.test.balanced_accuracy > 0.4
    assert report.counts["train"]["Free"] > 500
