"""The sheet of maps beside a photograph."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inspection_models.evidence_sheet import SHEET_WIDTH, ClassEvidence, EvidenceSheet, draw_notice, draw_sheet


def evidence(label: str = "crack", *, value: float = 1.0, strength: float | None = 0.5) -> ClassEvidence:
    spot = np.zeros((16, 24), np.float32)
    spot[4:8, 4:8] = value
    return ClassEvidence(label, 0.9, spot, strength)


def drawn(*shown: ClassEvidence, size: tuple[int, int] = (160, 240), remarks: tuple[str, ...] = ()) -> np.ndarray:
    pixels = np.full((*size, 3), 120, np.uint8)
    sheet = Image.open(io.BytesIO(draw_sheet(EvidenceSheet(pixels, shown, remarks, "model"))))
    assert sheet.format == "JPEG"
    assert sheet.width == SHEET_WIDTH
    return np.asarray(sheet.convert("RGB"), np.int16)


def coloured(pixels: np.ndarray) -> np.ndarray:
    """Where the sheet is neither photograph, paper nor ink, all of which are grey."""
    return (pixels.max(axis=2) - pixels.min(axis=2)) > 40


def spots(pixels: np.ndarray) -> list[float]:
    """Brightness of each separate coloured spot, from the upper left."""
    import cv2

    count, labels = cv2.connectedComponents(coloured(pixels).astype(np.uint8))
    sizes = [(labels == one).sum() for one in range(1, count)]
    return [float(pixels[labels == one + 1].mean()) for one, size in enumerate(sizes) if size > 60]


def test_a_class_is_shown_large_and_at_further_strengths() -> None:
    assert len(spots(drawn(evidence()))) == 4
    assert len(spots(drawn(evidence(strength=None)))) == 3
    assert len(spots(drawn(evidence(), evidence("stain")))) == 7
    assert len(spots(drawn(evidence(), evidence("stain"), evidence("third")))) == 7


def test_faint_evidence_shows_where_it_is_looked_for_and_not_in_the_core() -> None:
    large, *small = spots(drawn(evidence(value=0.75, strength=None)))
    core, faint = sorted(small)
    assert core < large < faint


def test_what_is_no_more_than_on_good_parts_is_dark_on_the_absolute_scale() -> None:
    assert len(spots(drawn(evidence(strength=0.0)))) == 3


def test_the_map_lies_where_the_evidence_is() -> None:
    lit = coloured(drawn(evidence(strength=None)))[:600]
    rows, columns = np.nonzero(lit)
    # The large map is 780 x 520 pixels from x = 10 on: the spot covers a sixth to a third of its width.
    assert abs(columns.mean() - (10 + 780 * 6 / 24)) < 6
    assert abs((rows.max() - rows.min()) - 520 * 4 / 16) < 40


@pytest.mark.parametrize("size", [(40, 60), (2000, 300), (1, 1), (900, 2500), (1, 4000)])
def test_any_photograph_becomes_a_sheet_of_bounded_size(size: tuple[int, int]) -> None:
    assert drawn(evidence(), evidence("stain"), size=size).shape[0] < 2000


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=200), max_size=4))
def test_any_text_fits_the_sheet(sentences: list[str]) -> None:
    notice = Image.open(io.BytesIO(draw_notice(sentences)))
    assert notice.width == SHEET_WIDTH
    beside = np.asarray(notice.convert("L"))[:, SHEET_WIDTH - 3 :]
    assert beside.size == 0 or beside.min() > 200
