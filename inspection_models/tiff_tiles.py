"""How large the tiles of a TIFF claim to be, read from its first directory without decoding anything.

Read here because where a directory names a size twice, Pillow takes the last one and the decoder beneath it the first.
"""

from __future__ import annotations

import struct

_WIDTH, _LENGTH = 322, 323
# By TIFF type: bytes, shorts and longs, which stand in the entry itself.
_BYTES = {1: 1, 3: 2, 4: 4}
_BYTES_OF_BIG = {**_BYTES, 16: 8}
_BIG = 43


def largest_tile(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of the largest tile that the first directory of a TIFF names; 0, 0 if it names none.

    Raises:
        struct.error: the file ends within the directory.
        ValueError: a size is written so that the decoder might read another one than is read here.
    """
    order = ">" if data.startswith(b"MM") else "<"
    is_big = struct.unpack_from(f"{order}H", data, 2)[0] == _BIG
    first, count_form, entry, value_at = (8, "Q", 20, 12) if is_big else (4, "H", 12, 8)
    inline = _BYTES_OF_BIG if is_big else _BYTES
    start = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, first)[0]
    (entries,) = struct.unpack_from(f"{order}{count_form}", data, start)
    start += struct.calcsize(count_form)
    sides = {_WIDTH: 0, _LENGTH: 0}
    for at in range(start, start + entries * entry, entry):
        tag, kind, values = struct.unpack_from(f"{order}HH{'Q' if is_big else 'I'}", data, at)
        if tag in sides:
            if kind not in inline or values != 1:
                raise ValueError(f"the size of its tiles is given as {values} values of type {kind}")
            value = data[at + value_at : at + value_at + inline[kind]]
            sides[tag] = max(sides[tag], int.from_bytes(value, "big" if order == ">" else "little"))
    return sides[_WIDTH], sides[_LENGTH]
