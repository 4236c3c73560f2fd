"""Why, on one sheet: a class's map over the photograph at several strengths, the next class's below it.

Made to be looked at beside the photograph, a third of a screen wide, and to be zoomed into: the first map stands large,
as it is; the small ones below show its core alone, its faintest traces too, and how bright it is on the absolute scale,
on which a part that is no more suspicious than good ones is dark.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from inspection_models.overlay import blend
from inspection_models.preprocessing import resample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SHEET_WIDTH = 800
"""Pixels: some more than the place a page gives it, to be zoomed into, and few enough that letters stay legible."""

CORE, FAINT = 2.5, 0.4
"""Powers that a map in [0, 1] is raised to: so that only its brightest places stand out, and so that its traces do."""

_MARGIN = 10
_IN_A_ROW = 3
_MOST_CLASSES = 2
_JPEG_QUALITY = 88
_PAPER, _INK, _QUIET = (255, 255, 255), (20, 20, 20), (95, 95, 95)
# Of letters this high, in pixels, about a third is left on a page that gives the sheet 280 pixels.
_HEADING, _NOTICE, _REMARK, _CAPTION, _FOOTNOTE = 42, 38, 33, 30, 21


@dataclass(frozen=True)
class ClassEvidence:
    """What speaks for one class.

    Attributes:
        label: the class.
        probability: of the class, 0 to 1.
        attribution_map: float32 [h, w] in [0, 1], covering the photograph from edge to edge, of any size.
        strength: what the map is multiplied by on the absolute scale, 0 to 1; None where the model has none.
    """

    label: str
    probability: float
    attribution_map: NDArray[np.float32]
    strength: float | None


@dataclass(frozen=True)
class EvidenceSheet:
    """What the sheet shows.

    Attributes:
        pixels: the photograph, uint8 [H, W, 3], RGB.
        evidence: at most two classes are drawn, the first one large.
        remarks: sentences below the maps.
        footnote: small print: model version, method, decision.
    """

    pixels: NDArray[np.uint8]
    evidence: Sequence[ClassEvidence]
    remarks: Sequence[str]
    footnote: str


def draw_sheet(sheet: EvidenceSheet) -> bytes:
    """The sheet as a JPEG file's bytes, `SHEET_WIDTH` pixels wide."""
    width = SHEET_WIDTH - 2 * _MARGIN
    parts: list[Image.Image] = []
    for place, one in enumerate(sheet.evidence[:_MOST_CLASSES]):
        parts.append(_lines(f"{one.label}  {one.probability:.2f}", _HEADING, _INK))
        # Of a huge photograph the map is huge, too.
        heat = resample(one.attribution_map, _fitted(sheet.pixels.shape[0], sheet.pixels.shape[1], width))
        views = [("core" if place == 0 else "as it is", heat**CORE if place == 0 else heat)]
        views.append(("faint traces", heat**FAINT))
        if one.strength is not None:
            views.append((_absolute(one.strength), heat * np.float32(one.strength)))
        if place == 0:
            parts.append(_panel(sheet.pixels, heat, width))
        parts.append(_row(sheet.pixels, views))
    # Where there is nothing but remarks, they are what the inspector looks for.
    parts += [_lines(remark, _REMARK if sheet.evidence else _NOTICE, _INK) for remark in sheet.remarks]
    parts.append(_lines(sheet.footnote, _FOOTNOTE, _QUIET))
    return _jpeg(_stacked(parts))


def draw_notice(sentences: Sequence[str]) -> bytes:
    """A sheet that holds only text, for a photograph that there is nothing to show of: a JPEG file's bytes."""
    return _jpeg(_stacked([_lines(sentence, _NOTICE, _INK) for sentence in sentences]))


def _absolute(strength: float) -> str:
    return f"absolute × {strength:.2f}" if strength > 0 else "absolute: as on good parts"


def _row(pixels: NDArray[np.uint8], views: Sequence[tuple[str, NDArray[np.float32]]]) -> Image.Image:
    """Maps [h, w] over the photograph, each with its caption, side by side."""
    width = (SHEET_WIDTH - 2 * _MARGIN - (_IN_A_ROW - 1) * _MARGIN) // _IN_A_ROW
    columns = [
        _stacked([_panel(pixels, heat, width), _lines(caption, _CAPTION, _INK, width)], width)
        for caption, heat in views
    ]
    row = Image.new("RGB", (SHEET_WIDTH - 2 * _MARGIN, max(column.height for column in columns)), _PAPER)
    for place, column in enumerate(columns):
        row.paste(column, (place * (width + _MARGIN), 0))
    return row


def _panel(pixels: NDArray[np.uint8], heat: NDArray[np.float32], side: int) -> Image.Image:
    """The map over the photograph, as large as `side` allows in both directions."""
    size = _fitted(pixels.shape[0], pixels.shape[1], side)
    return Image.fromarray(blend(resample(pixels, size), np.clip(resample(heat, size), 0.0, 1.0)))


def _fitted(height: int, width: int, side: int) -> tuple[int, int]:
    factor = side / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _lines(text: str, size: int, colour: tuple[int, int, int], width: int = SHEET_WIDTH - 2 * _MARGIN) -> Image.Image:
    """A paragraph, broken between words where it is too long for a line, and within one that is."""
    font = _font(size)
    lines = [""]
    for word in text.split():
        candidate = f"{lines[-1]} {word}".strip()
        if font.getlength(candidate) <= width:
            lines[-1] = candidate
            continue
        lines += [""] if lines[-1] else []
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    leading = round(size * 1.3)
    image = Image.new("RGB", (width, leading * len(lines)), _PAPER)
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        pen.text((0, number * leading), line, fill=colour, font=font)
    return image


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    from matplotlib.font_manager import findfont  # noqa: PLC0415

    # Comes with matplotlib, and has the letters of most of Europe's languages.
    return ImageFont.truetype(findfont("DejaVu Sans"), size)


def _stacked(parts: Sequence[Image.Image], width: int = SHEET_WIDTH) -> Image.Image:
    margin = _MARGIN if width == SHEET_WIDTH else 0
    height = margin + sum(part.height + _MARGIN for part in parts)
    sheet = Image.new("RGB", (width, height), _PAPER)
    top = margin
    for part in parts:
        sheet.paste(part, (margin, top))
        top += part.height + _MARGIN
    return sheet


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
