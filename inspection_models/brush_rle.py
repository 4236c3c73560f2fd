"""Label Studio's run-length code for brush masks: a bit stream over the four channels of an RGBA picture.

Layout, most significant bit first: 32 bits number of values, 5 bits word size − 1, four times 4 bits run-size − 1;
then blocks of 1 bit (run or literal), 2 bits (which run-size), that many bits length − 1, and one word (run) or
`length` words (literal). The mask is the alpha channel. Written here because importing the library's codec takes
seconds and decoding a large mask with it takes several more; the tests hold the two equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WORD_BITS = 8
_LENGTH_BITS = (3, 4, 8, 16)
_LONGEST_RUN = 1 << 16
_CHANNELS = 4


class BrushCodeError(ValueError):
    """A brush mask's code is cut off, is not made of bytes, or does not belong to an image of this size."""


def encode(mask: NDArray[np.bool_]) -> list[int]:
    """The code of a mask [h, w] of bools, as a list of bytes (0..255): True is drawn opaque."""
    if mask.ndim != 2 or mask.size == 0:
        raise BrushCodeError(f"a brush mask is a picture of rows and columns, this one has the shape {mask.shape}")
    flat = mask.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    lengths = np.diff(ends, prepend=0) * _CHANNELS
    values = np.where(flat[ends - 1], 255, 0)

    parts = -(-lengths // _LONGEST_RUN)
    values = np.repeat(values, parts)
    last = np.cumsum(parts) - 1
    runs = np.full(values.size, _LONGEST_RUN)
    runs[last] = lengths - (parts - 1) * _LONGEST_RUN

    size_index = np.searchsorted([8, 16, 256], runs)
    length_bits = np.asarray(_LENGTH_BITS)[size_index]
    words = ((((0b100 | size_index) << length_bits) | (runs - 1)) << _WORD_BITS) | values
    stream = np.concatenate([_header_bits(flat.size * _CHANNELS), _bits(words, 3 + length_bits + _WORD_BITS)])
    # A whole spare byte where the stream already ends on a byte: so does the library, and the codes stay comparable.
    padding = np.zeros(8 - stream.size % 8, dtype=np.uint8)
    code: list[int] = np.packbits(np.concatenate([stream, padding])).tolist()
    return code


def decode(code: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The mask [height, width] of a code; a pixel is in the mask where its alpha is above 0.

    Raises BrushCodeError for a code that is cut off, is not made of bytes, or is of another number of pixels.
    """
    try:
        data = bytes(code)
    except (TypeError, ValueError) as error:
        raise BrushCodeError(f"a brush mask's code is a list of whole numbers from 0 to 255: {error}") from error
    count = _field(data, 0, 32)
    if count != height * width * _CHANNELS:
        raise BrushCodeError(
            f"the brush mask has {count / _CHANNELS:g} pixels, the image {width} × {height} has {height * width}"
        )
    word_bits = _field(data, 32, 5) + 1
    if word_bits != _WORD_BITS:
        raise BrushCodeError(f"the brush mask's words have {word_bits} bits, not 8")
    length_bits = [_field(data, 37 + 4 * index, 4) + 1 for index in range(len(_LENGTH_BITS))]
    values = _values(data, 37 + 4 * len(_LENGTH_BITS), length_bits, count)
    return values.reshape(height, width, _CHANNELS)[:, :, 3] > 0


def _values(data: bytes, at: int, length_bits: Sequence[int], count: int) -> NDArray[np.uint8]:
    """`count` values from the blocks that begin at bit `at`."""
    # One loop without calls: a large mask has millions of blocks.
    values = np.zeros(count, dtype=np.uint8)
    end_of_code = len(data) * 8
    padded = data + bytes(8)
    filled = 0
    while filled < count:
        # The block's head, length and first word all lie in these 64 bits, `below` of them not read yet.
        window = int.from_bytes(padded[at >> 3 : (at >> 3) + 8], "big")
        below = 61 - (at & 7)
        head = window >> below & 0b111
        bits = length_bits[head & 0b11]
        below -= bits
        length = (window >> below & ((1 << bits) - 1)) + 1
        at += 3 + bits + (_WORD_BITS if head & 0b100 else length * _WORD_BITS)
        if at > end_of_code:
            raise BrushCodeError("the brush mask's code is cut off")
        end = min(filled + length, count)
        if head & 0b100:
            values[filled:end] = window >> (below - _WORD_BITS) & 0xFF
        else:
            words = _field(data, at - length * _WORD_BITS, length * _WORD_BITS).to_bytes(length, "big")
            values[filled:end] = np.frombuffer(words, dtype=np.uint8)[: end - filled]
        filled = end
    return values


def _field(data: bytes, at: int, bits: int) -> int:
    """The number in `bits` bits from bit `at`."""
    last = (at + bits + 7) >> 3
    if last > len(data):
        raise BrushCodeError("the brush mask's code is cut off")
    return int.from_bytes(data[at >> 3 : last], "big") >> (last * 8 - at - bits) & ((1 << bits) - 1)


def _header_bits(count: int) -> NDArray[np.uint8]:
    text = f"{count:032b}{_WORD_BITS - 1:05b}" + "".join(f"{bits - 1:04b}" for bits in _LENGTH_BITS)
    return np.frombuffer(text.encode(), dtype=np.uint8) - ord("0")


def _bits(words: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Words of differing sizes, one after another, bit by bit."""
    ends = np.cumsum(sizes)
    shift = np.repeat(ends, sizes) - 1 - np.arange(ends[-1])
    return ((np.repeat(words, sizes) >> shift) & 1).astype(np.uint8)
