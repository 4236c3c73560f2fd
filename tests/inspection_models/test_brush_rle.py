from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from label_studio_sdk.converter.brush import decode_rle, encode_rle, mask2rle

from inspection_models.brush_rle import BrushCodeError, decode, encode

MASKS = npst.arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24)))


@given(MASKS)
def test_codes_exactly_as_the_library_does(mask: np.ndarray) -> None:
    assert encode(mask) == mask2rle(mask.astype(np.uint8) * 255)


@given(MASKS)
def test_reads_what_the_library_reads(mask: np.ndarray) -> None:
    code = mask2rle(mask.astype(np.uint8) * 255)
    theirs = decode_rle(code).reshape(*mask.shape, 4)[:, :, 3] > 0
    np.testing.assert_array_equal(decode(code, *mask.shape), theirs)
    np.testing.assert_array_equal(decode(code, *mask.shape), mask)


@pytest.mark.parametrize("shape", [(300, 400), (1, 70_000), (257, 255)])
@pytest.mark.parametrize("fill", [False, True])
def test_runs_beyond_the_longest_one(shape: tuple[int, int], fill: bool) -> None:
    mask = np.full(shape, fill)
    mask[-1, -1] = not fill
    code = encode(mask)
    assert code == mask2rle(mask.astype(np.uint8) * 255)
    np.testing.assert_array_equal(decode(code, *shape), mask)


@settings(max_examples=30)
@given(npst.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(4))))
def test_reads_colours_and_soft_edges(picture: np.ndarray) -> None:
    """A brush stroke drawn in the page has colours, and an alpha between 0 and 255 at its edges."""
    code = encode_rle(picture.ravel().astype(int))
    np.testing.assert_array_equal(decode(code, *picture.shape[:2]), picture[:, :, 3] > 0)


def test_reads_literals() -> None:
    """The page's own encoder writes values that do not repeat as one literal block."""
    values = bytes(range(1, 17))
    bits = f"{16:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += "0" + "01" + f"{15:04b}" + "".join(f"{value:08b}" for value in values)
    bits += "0" * (-len(bits) % 8)
    code = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert list(decode_rle(code)) == list(values)
    np.testing.assert_array_equal(decode(code, 2, 2), np.ones((2, 2), dtype=bool))


def test_reads_a_captured_mask(payloads: Path) -> None:
    result = json.loads((payloads / "api_prediction.json").read_text(encoding="utf-8"))["result"]
    code = next(item["value"]["rle"] for item in result if item["type"] == "brushlabels")
    mask = decode(code, 480, 640)
    np.testing.assert_array_equal(mask, decode_rle(code).reshape(480, 640, 4)[:, :, 3] > 0)
    assert 0 < mask.mean() < 0.1
    assert decode(encode(mask), 480, 640).tobytes() == mask.tobytes()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ([], "cut off"),
        ([0, 0, 0, 16], "cut off"),
        ([0, 0, 0, 256], "0 to 255"),
        (["a"], "0 to 255"),
        ([1.5], "0 to 255"),
    ],
)
def test_refuses_what_is_no_code(code: list[int], said: str) -> None:
    with pytest.raises(BrushCodeError, match=said):
        decode(code, 2, 2)


@given(MASKS, st.data())
def test_a_cut_or_foreign_code_is_refused_and_never_crashes(mask: np.ndarray, data: st.DataObject) -> None:
    code = encode(mask)
    with pytest.raises(BrushCodeError):
        decode(code[: data.draw(st.integers(0, len(code) - 3))], *mask.shape)
    with pytest.raises(BrushCodeError, match="pixels"):
        decode(code, mask.shape[0] + 1, mask.shape[1])


def test_refuses_a_mask_that_is_none() -> None:
    with pytest.raises(BrushCodeError, match="shape"):
        encode(np.zeros((0, 3), dtype=bool))
