"""Random edits of a prediction's regions, in every tool: outcome and changes are exactly those edits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.label_studio.binding import bind
from backend.label_studio.labeling_config import parse
from backend.review_comparison import compare
from inspection_models import brush_rle

CLASSES = ("good", "scratch", "pit", "stain")
DEFECTS = CLASSES[1:]
TOOLS = {"rectangle": "RectangleLabels", "polygon": "PolygonLabels", "brush": "BrushLabels"}
HEIGHT, WIDTH, CELL = 200, 300, 50
CELLS = [(x, y) for y in range(0, HEIGHT, CELL) for x in range(0, WIDTH, CELL)]
CONFIG = (
    '<View><Image name="photo" value="$image"/><Choices name="verdict" toName="photo">'
    + "".join(f'<Choice value="{name}"/>' for name in CLASSES)
    + "</Choices>"
    + "".join(
        f'<{tag} name="{tool}" toName="photo">{"".join(f"""<Label value="{name}"/>""" for name in DEFECTS)}</{tag}>'
        for tool, tag in TOOLS.items()
    )
    + "</View>"
)
BINDING = bind(parse(CONFIG), CLASSES, "good", None)


@dataclass(frozen=True)
class Drawn:
    """A block of whole pixels, drawn with a tool. `padded` writes a brush's code in another way."""

    id: str
    tool: str
    label: str
    x: int
    y: int
    width: int = 20
    height: int = 20
    padded: bool = False

    def pixels(self) -> np.ndarray:
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        mask[self.y : self.y + self.height, self.x : self.x + self.width] = True
        return mask

    def item(self) -> dict[str, Any]:
        left, top = self.x / WIDTH * 100, self.y / HEIGHT * 100
        width, height = self.width / WIDTH * 100, self.height / HEIGHT * 100
        value: Mapping[str, Any] = {
            "rectangle": {"x": left, "y": top, "width": width, "height": height, "rotation": 0},
            "polygon": {
                "points": [[left, top], [left + width, top], [left + width, top + height], [left, top + height]],
                "closed": True,
            },
            "brush": {"format": "rle", "rle": brush_rle.encode(self.pixels()) + [0] * self.padded},
        }[self.tool]
        return {
            "id": self.id,
            "from_name": self.tool,
            "to_name": "photo",
            "type": f"{self.tool}labels",
            "original_width": WIDTH,
            "original_height": HEIGHT,
            "image_rotation": 0,
            "value": {**value, f"{self.tool}labels": [self.label]},
        }


def tick(name: str) -> dict[str, Any]:
    chosen = {"id": "c", "from_name": "verdict", "to_name": "photo", "type": "choices"}
    return {**chosen, "value": {"choices": [name]}}


def overlap(one: Drawn, other: Drawn) -> float:
    mine, theirs = one.pixels(), other.pixels()
    return float((mine & theirs).sum() / (mine | theirs).sum())


@st.composite
def edited(draw: st.DrawFn, region: Drawn) -> Drawn | None:
    """What an inspector leaves of a region: None where they deleted it."""
    if draw(st.integers(0, 5)) == 0:
        return None
    changes: dict[str, Any] = {"padded": draw(st.booleans())}
    if draw(st.booleans()):
        changes |= {"width": draw(st.integers(14, 30)), "height": draw(st.integers(14, 30))}
    if draw(st.booleans()):
        changes |= {"x": region.x + draw(st.integers(-4, 4)), "y": region.y + draw(st.integers(-4, 4))}
    if draw(st.booleans()):
        changes["tool"] = draw(st.sampled_from(sorted(TOOLS)))
    if draw(st.booleans()):
        changes["label"] = draw(st.sampled_from(DEFECTS))
    if draw(st.booleans()):
        changes["id"] = f"lost {region.id}"
    return replace(region, **changes)


def fate(before: Drawn, after: Drawn | None) -> tuple[Any, ...]:
    """Change, labels, overlap and tools, as `compare` is to tell them."""
    if after is None:
        return "removed", before.label, None, 0.0, f"{before.tool}labels", None
    iou = overlap(before, after)
    same = iou == 1.0 and before.tool == after.tool
    kind = "relabelled" if before.label != after.label else "kept" if same else "moved"
    return kind, before.label, after.label, iou, f"{before.tool}labels", f"{after.tool}labels"


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_exactly_the_edits_made_are_found_in_every_tool(data: st.DataObject) -> None:
    """Regions live in cells of their own, so which one became which is certain."""
    cells = data.draw(st.permutations(CELLS))
    before = [
        Drawn(f"r{n}", data.draw(st.sampled_from(sorted(TOOLS))), data.draw(st.sampled_from(DEFECTS)), x + 10, y + 10)
        for n, (x, y) in enumerate(cells[: data.draw(st.integers(0, 4))])
    ]
    after = [data.draw(edited(region)) for region in before]
    added = [
        Drawn(f"a{n}", data.draw(st.sampled_from(sorted(TOOLS))), data.draw(st.sampled_from(DEFECTS)), x + 5, y + 5)
        for n, (x, y) in enumerate(cells[len(before) : len(before) + data.draw(st.integers(0, 2))])
    ]
    label, final = data.draw(st.sampled_from(DEFECTS)), data.draw(st.sampled_from(CLASSES))
    drawn = [region.item() for region in (*after, *added) if region is not None]

    comparison = compare(
        [tick(label), *(region.item() for region in before)],
        data.draw(st.permutations([tick(final), *drawn])),
        binding=BINDING,
        decided=(label,),
    )

    found = [
        (one.kind, one.label_before, one.label_after, one.iou, one.control_before, one.control_after)
        for one in comparison.regions
    ]
    expected = [fate(*pair) for pair in zip(before, after, strict=True)]
    assert found[: len(before)] == expected
    assert sorted(found[len(before) :], key=str) == sorted(
        [("added", None, one.label, 0.0, None, f"{one.tool}labels") for one in added], key=str
    )
    ious = [one[3] for one in expected] + [0.0] * len(added)
    assert comparison.mean_iou == (pytest.approx(sum(ious) / len(ious)) if ious else None)
    if final == label:
        outcome = "accepted" if {one[0] for one in expected} <= {"kept"} and not added else "adjusted"
    else:
        outcome = "rejected" if final == "good" else "relabelled"
    assert (comparison.outcome, comparison.label_predicted, comparison.label_final) == (outcome, label, final)
