"""The explanation as a figure: photograph, attribution map over it with its regions, and the class probabilities."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from inspection_models.regions import Region

_LONGEST_SIDE = 900
_MAP_COLOURS = "inferno"
_OUTLINE = "#00e5ff"
_WITHOUT_EVIDENCE = "#ff8a65"


@dataclass(frozen=True)
class OverlayContent:
    """What the figure shows.

    Attributes:
        pixels: uint8 [H, W, 3], RGB.
        attribution_map: float32 [H, W] in [0, 1], in the photograph's pixels.
        regions: outlined with their share of the evidence.
        classes: name and probability of every class.
        explained: the class that the map speaks for.
        title: first line, for example the file's name.
        strength: what the map is multiplied by on the absolute scale, shown in a panel of its own; None shows none.
        footnote: small print: model version, method, scale.
    """

    pixels: NDArray[np.uint8]
    attribution_map: NDArray[np.float32]
    regions: Sequence[Region]
    classes: Sequence[tuple[str, float]]
    explained: str
    title: str
    footnote: str
    strength: float | None = None


def blend(pixels: NDArray[np.uint8], attribution_map: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The map in colour over the photograph: uint8 [H, W, 3]. Where the map is zero the photograph stays as it is."""
    from matplotlib import colormaps  # noqa: PLC0415

    heat = colormaps[_MAP_COLOURS](attribution_map)[..., :3] * 255.0  # (H, W, 3)
    weight = 0.75 * np.sqrt(np.clip(attribution_map, 0.0, 1.0))[..., None]  # (H, W, 1)
    grey = pixels.mean(axis=2, keepdims=True)
    blended: NDArray[np.uint8] = np.clip(grey * (1 - weight) + heat * weight, 0, 255).astype(np.uint8)
    return blended


def draw_overlay(content: OverlayContent) -> bytes:
    """The figure as a PNG file's bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    pixels, heat, scale = _shrink(content.pixels, content.attribution_map)
    height, width = pixels.shape[:2]
    panel = 4.2 * min(1.6, max(0.5, width / height))
    panels = 2 if content.strength is None else 3
    figure = Figure(figsize=(panels * panel + 3.4, 5.4), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    photograph, explanation, *further, scores = figure.subplots(1, panels + 1, width_ratios=[panel] * panels + [2.6])
    photograph.imshow(pixels)
    photograph.set_title("photograph", fontsize=10)
    explanation.imshow(blend(pixels, heat))
    explanation.set_title(f"evidence for “{content.explained}”", fontsize=10)
    _outline(explanation, content.regions, scale)
    for absolute in further:
        absolute.imshow(blend(pixels, heat * np.float32(content.strength)))
        absolute.set_title(
            "the same, absolute" if content.strength else "the same, absolute: no more than on good parts", fontsize=10
        )
    for axes in (photograph, explanation, *further):
        axes.set_axis_off()
    _bars(scores, content.classes, content.explained)
    figure.suptitle(content.title, fontsize=12, fontweight="bold", x=0.02, ha="left")
    figure.text(0.02, 0.015, content.footnote, fontsize=7.5, color="#555555")
    figure.subplots_adjust(left=0.02, right=0.97, top=0.86, bottom=0.08, wspace=0.06)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _shrink(
    pixels: NDArray[np.uint8], attribution_map: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], float]:
    height, width = pixels.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    if scale == 1.0:
        return pixels, attribution_map, scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return small, cv2.resize(attribution_map, size, interpolation=cv2.INTER_AREA).astype(np.float32), scale


def _outline(axes: Axes, regions: Sequence[Region], scale: float) -> None:
    for region in regions:
        # imshow puts a pixel's centre on whole numbers, a region's outline its corner.
        outline = np.vstack([region.polygon, region.polygon[:1]]) * scale - 0.5
        axes.plot(outline[:, 0], outline[:, 1], color="black", linewidth=2.6, alpha=0.6)
        colour, dashes = (_OUTLINE, "solid") if region.has_evidence else (_WITHOUT_EVIDENCE, "dashed")
        axes.plot(outline[:, 0], outline[:, 1], color=colour, linewidth=1.4, linestyle=dashes)
        left, top = outline.min(axis=0)
        right = outline.max(axis=0)[0]
        # What is written at the right edge would run under the next panel.
        at_right = left > 0.7 * axes.get_xlim()[1]
        # Above the region, but at the upper edge, where the title stands, inside it.
        at_edge = top < 0.06 * axes.get_ylim()[0]
        axes.annotate(
            f"{region.evidence:.0%}" if region.has_evidence else "no evidence under it",
            (right if at_right else left, top),
            xytext=(3, -4) if at_edge else (0, 3),
            textcoords="offset points",
            verticalalignment="top" if at_edge else "bottom",
            horizontalalignment="right" if at_right else "left",
            fontsize=8,
            color="white",
            annotation_clip=False,
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "black", "alpha": 0.7, "edgecolor": "none"},
        )


def _bars(axes: Axes, classes: Sequence[tuple[str, float]], explained: str) -> None:
    ranked = sorted(classes, key=lambda entry: entry[1], reverse=True)[:8]
    names = [name for name, _ in ranked]
    colours = ["#d1495b" if name == explained else "#9aa5b1" for name in names]
    places = range(len(ranked))
    axes.barh(places, [probability for _, probability in ranked], color=colours, height=0.6)
    for place, (name, probability) in zip(places, ranked, strict=True):
        axes.text(0.0, place - 0.38, f"{name}  {probability:.3f}", fontsize=8.5, va="bottom", ha="left")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(ranked) - 0.4, -0.9)
    axes.set_yticks([])
    axes.set_xticks([0, 0.5, 1])
    axes.tick_params(labelsize=8)
    axes.set_title("probability", fontsize=10)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
