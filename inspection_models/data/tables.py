"""Tables in text files: encoding, delimiter and header found out, every row with its line."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_DELIMITERS = (",", ";", "\t", "|")
_LONGEST_HEADER = 1 << 16
_UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff")


class TableError(ValueError):
    """A table cannot be read; the message names the file and, where there is one, the line."""


@dataclass(frozen=True)
class Row:
    """A row: the line that it ends in, counted from 1, and its cells by column, without spaces about them."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A table: its columns as they are written, and its rows without empty ones."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8 or, with a byte order mark, UTF-16.

    Raises:
        TableError: it cannot be read or is in another encoding.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path} cannot be read ({error.strerror or error}); repair or remove it") from error
    try:
        text = data.decode("utf-16" if data.startswith(_UTF16_STARTS) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise TableError(f"{path} line {line}: not UTF-8 text; save the file as UTF-8") from error
    return io.StringIO(text, newline=None).readlines()


def read_header(path: Path) -> tuple[str, ...]:
    """The cells of a table's first line, whatever is wrong with the others; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(_LONGEST_HEADER)
    except OSError:
        return ()
    text = start.decode("utf-16" if start.startswith(_UTF16_STARTS) else "utf-8-sig", errors="replace")
    try:
        found = _cells(path, io.StringIO(text, newline=None).readlines()[:1])
    except TableError:
        return ()
    return found[0][1] if found else ()


def read_table(path: Path, columns: tuple[str, ...] | None = None) -> Table:
    """Read a table whose first line names the columns, or has none: then `columns` does.

    The delimiter is the one of comma, semicolon, tab and bar that the first line has most of.

    Raises:
        TableError: it cannot be read, is empty, a quote is left open, or a row has more or fewer cells than columns.
    """
    found = _cells(path, read_lines(path))
    if columns is None:
        if not found:
            raise TableError(f"{path} is empty; export it again")
        (_, columns), *found = found
    rows = []
    for line, cells in found:
        if len(cells) != len(columns):
            raise TableError(
                f"{path} line {line}: {len(cells)} cells for {len(columns)} columns ({', '.join(columns)}); "
                "repair the line"
            )
        rows.append(Row(line, dict(zip(columns, cells, strict=True))))
    return Table(columns, tuple(rows))


def _cells(path: Path, lines: list[str]) -> list[tuple[int, tuple[str, ...]]]:
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO("".join(lines), newline=""), delimiter=delimiter, strict=True)
    found = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((reader.line_num, tuple(cell.strip() for cell in cells)))
    except csv.Error as error:
        raise TableError(f"{path} line {reader.line_num}: {error}; repair the line") from error
    return found
