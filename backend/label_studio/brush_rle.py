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
    return [int(byte) for byte in np.packbits(np.concatenate([stream, padding]))]


def decode(code: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The mask [height, width] of a code; a pixel is in the mask where its alpha is above 0.

    Raises BrushCodeError for a code that is cut off, is not made of bytes, or is of another number of pixels.
    """
    try:
        data = bytes(code)
    except (TypeError, ValueError) as error:
        raise BrushCodeError(f"a brush mask's code is a list of whole numbers from 0 to 255: {error}") from error
    reader = _BitReader(data)
    count = reader.read(32)
    if count != height * width * _CHANNELS:
        raise BrushCodeError(
            f"the brush mask has {count / _CHANNELS:g} pixels, the image {width} × {height} has {height * width}"
        )
    word_bits = reader.read(5) + 1
    if word_bits != _WORD_BITS:
        raise BrushCodeError(f"the brush mask's words have {word_bits} bits, not 8")
    length_bits = [reader.read(4) + 1 for _ in _LENGTH_BITS]
    values = np.zeros(count, dtype=np.uint8)
    at = 0
    while at < count:
        kind = reader.read(3)
        length = reader.read(length_bits[kind & 0b11]) + 1
        end = min(at + length, count)
        if kind & 0b100:
            values[at:end] = reader.read(_WORD_BITS)
        else:
            values[at:end] = np.frombuffer(reader.read_bytes(length), dtype=np.uint8)[: end - at]
        at = end
    return values.reshape(height, width, _CHANNELS)[:, :, 3] > 0


class _BitReader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, bits: int) -> int:
        """The next `bits` (at most 32) as a number."""
        first, end = self._at >> 3, self._at + bits
        if end > len(self._data) * 8:
            raise BrushCodeError("the brush mask's code is cut off")
        window = self._data[first : first + 8].ljust(8, b"\0")
        self._at = end
        return (int.from_bytes(window, "big") >> (64 - (end - first * 8))) & ((1 << bits) - 1)

    def read_bytes(self, count: int) -> bytes:
        """The next `count` bytes, wherever in a byte they begin."""
        first, end = self._at >> 3, self._at + count * 8
        if end > len(self._data) * 8:
            raise BrushCodeError("the brush mask's code is cut off")
        last = (end + 7) >> 3
        number = int.from_bytes(self._data[first:last], "big") >> (last * 8 - end)
        self._at = end
        return (number & ((1 << (count * 8)) - 1)).to_bytes(count, "big")


def _header_bits(count: int) -> NDArray[np.uint8]:
    text = f"{count:032b}{_WORD_BITS - 1:05b}" + "".join(f"{bits - 1:04b}" for bits in _LENGTH_BITS)
    return np.frombuffer(text.encode(), dtype=np.uint8) - ord("0")


def _bits(words: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Words of differing sizes, one after another, bit by bit."""
    ends = np.cumsum(sizes)
    shift = np.repeat(ends, sizes) - 1 - np.arange(ends[-1])
    return ((np.repeat(words, sizes) >> shift) & 1).astype(np.uint8)
