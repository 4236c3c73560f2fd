"""What each inspector does in a shift, by a seed, and what is to be recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from tests.e2e.colours import HEIGHT, KINDS, WIDTH, Kind

Json = dict[str, Any]
INSPECTORS = ("ada", "bela", "cleo")
"""Those who work through Label Studio's API."""
BROWSER = "dora"

CHOICES, REGIONS, IMAGE = "defect", "region", "image"


@dataclass(frozen=True)
class Change:
    """What becomes of a region; ids are those of the prediction and of the annotation."""

    kind: Literal["kept", "moved", "relabelled", "added", "removed"]
    before: str | None
    after: str | None
    label_before: str | None
    label_after: str | None


@dataclass(frozen=True)
class Meant:
    """What an annotation is to say, and what is to be recorded of it; the outcome of what judges nothing is None."""

    result: list[Json]
    outcome: str | None
    label: str | None
    changes: tuple[Change, ...] = ()
    was_cancelled: bool = False


Edit = Callable[[Sequence[Json], Random], Meant]
"""What an inspector makes of a prediction's result."""


def chosen(result: Sequence[Mapping[str, Any]]) -> str | None:
    """The class that is ticked."""
    return next((item["value"]["choices"][0] for item in result if item["from_name"] == CHOICES), None)


def _regions(result: Sequence[Json]) -> list[Json]:
    return [item for item in result if item["from_name"] == REGIONS]


def _label(region: Json) -> str:
    return str(region["value"]["polygonlabels"][0])


def _tick(label: str) -> Json:
    value = {"choices": [label]}
    return {"id": f"tick-{label}", "from_name": CHOICES, "to_name": IMAGE, "type": "choices", "value": value}


def _drawn(label: str, random: Random) -> Json:
    x, y = random.uniform(2, 70), random.uniform(2, 70)
    points = [[x, y], [x + 20, y], [x + 20, y + 15], [x, y + 15]]
    return {
        "id": f"drawn-{random.randrange(10**9)}", "from_name": REGIONS, "to_name": IMAGE, "type": "polygonlabels",
        "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0,
        "value": {"points": points, "closed": True, "polygonlabels": [label]},
    }  # fmt: skip


def _with(region: Json, **value: object) -> Json:
    return {**region, "value": {**region["value"], **value}}


def _kept(regions: Sequence[Json]) -> tuple[Change, ...]:
    return tuple(Change("kept", one["id"], one["id"], _label(one), _label(one)) for one in regions)


def _removed(regions: Sequence[Json]) -> tuple[Change, ...]:
    return tuple(Change("removed", one["id"], None, _label(one), None) for one in regions)


def _added(region: Json) -> Change:
    return Change("added", None, region["id"], None, _label(region))


def _other(label: str | None) -> str:
    return "stain" if label == "crack" else "crack"


def accept(result: Sequence[Json], _: Random) -> Meant:
    return Meant([*result], "accepted", chosen(result), _kept(_regions(result)))


def move(result: Sequence[Json], _: Random) -> Meant:
    """Smaller, towards its first corner: nothing leaves the picture."""
    first, *others = _regions(result)
    points = first["value"]["points"]
    (x, y), scale = points[0], 0.8
    moved = _with(first, points=[[x + (a - x) * scale, y + (b - y) * scale] for a, b in points])
    change = Change("moved", first["id"], first["id"], _label(first), _label(first))
    changed = [moved if item is first else item for item in result]
    return Meant(changed, "adjusted", chosen(result), (change, *_kept(others)))


def remove(result: Sequence[Json], _: Random) -> Meant:
    first, *others = _regions(result)
    left = [item for item in result if item is not first]
    return Meant(left, "adjusted", chosen(result), (*_removed([first]), *_kept(others)))


def draw(result: Sequence[Json], random: Random) -> Meant:
    region = _drawn(str(chosen(result)), random)
    return Meant([*result, region], "adjusted", chosen(result), (*_kept(_regions(result)), _added(region)))


def rename(result: Sequence[Json], _: Random) -> Meant:
    """Another label for a region, and the class stays."""
    first, *others = _regions(result)
    other = _other(_label(first))
    renamed = [_with(item, polygonlabels=[other]) if item is first else item for item in result]
    change = Change("relabelled", first["id"], first["id"], _label(first), other)
    return Meant(renamed, "adjusted", chosen(result), (change, *_kept(others)))


def relabel(result: Sequence[Json], _: Random) -> Meant:
    label = _other(chosen(result))
    regions = _regions(result)
    renamed = [_with(one, polygonlabels=[label]) for one in regions]
    changes = tuple(Change("relabelled", one["id"], one["id"], _label(one), label) for one in regions)
    return Meant([_tick(label), *renamed], "relabelled", label, changes)


def reject(result: Sequence[Json], _: Random) -> Meant:
    return Meant([_tick("good")], "rejected", "good", _removed(_regions(result)))


def miss(result: Sequence[Json], random: Random) -> Meant:
    """A defect on what was called good, ticked and drawn."""
    region = _drawn("crack", random)
    return Meant([_tick("crack"), region], "missed", "crack", (*_removed(_regions(result)), _added(region)))


def miss_without_tick(result: Sequence[Json], random: Random) -> Meant:
    """A defect drawn while good stays ticked."""
    region = _drawn("stain", random)
    return Meant([*result, region], "missed", "stain", (_added(region),))


def decide_good(result: Sequence[Json], _: Random) -> Meant:
    return Meant([_tick("good")], "decided", "good", _removed(_regions(result)))


def decide_defect(result: Sequence[Json], _: Random) -> Meant:
    regions = _regions(result)
    label = _label(regions[0])
    return Meant([_tick(label), *regions], "decided", label, _kept(regions))


def leave_open(result: Sequence[Json], _: Random) -> Meant:
    """Submitted as it came, though the decision was the inspector's."""
    return Meant([*result], "skipped", None, _kept(_regions(result)))


def skip(result: Sequence[Json], _: Random) -> Meant:
    return Meant([*result], "skipped", None, was_cancelled=True)


def see_alone(_: Sequence[Json], random: Random) -> Meant:
    """On what the model has said nothing of."""
    region = _drawn("crack", random)
    return Meant([_tick("crack"), region], None, None)


EDITS: Mapping[Kind, tuple[Edit, ...]] = {
    "crack": (accept, accept, accept, move, remove, draw, rename, relabel, reject, skip),
    "stain": (accept, move, relabel, reject),
    "good": (accept, accept, accept, miss, miss_without_tick, skip),
    "unsure": (decide_good, decide_defect, decide_defect, leave_open, skip),
}


@dataclass(frozen=True)
class Photograph:
    """One of a shift's photographs; `delivery` says when it comes, `fate` what happens to its file or its task."""

    number: int
    kind: Kind
    delivery: int
    fate: Literal["", "gone", "replaced", "task deleted"] = ""

    @property
    def name(self) -> str:
        return f"part_{self.number:03d}.png"


@dataclass(frozen=True)
class Deed:
    """What an inspector does with a task: annotates it, changes, deletes or takes back their annotation, or drafts."""

    what: Literal["create", "change", "delete", "draft", "draft over", "take back"]
    photograph: Photograph
    edit: Edit = accept
    from_scratch: bool = False


COUNTS: Mapping[Kind, int] = {"crack": 85, "good": 60, "stain": 25, "unsure": 30}
# All deliveries but the second, which lies beside a camera, are uploaded to Label Studio.
_DELIVERIES = (150, 35, 8, 7)
_CYCLE, _ONLY_DRAFTED = 16, 15


@dataclass(frozen=True)
class Plan:
    """A shift: its photographs, what each inspector does one after the other, by delivery, and what is left to the one
    at the screen."""

    photographs: tuple[Photograph, ...]
    deeds: Mapping[str, tuple[Deed, ...]]
    at_the_screen: tuple[Photograph, ...]

    def of_delivery(self, number: int) -> tuple[Photograph, ...]:
        return tuple(one for one in self.photographs if one.delivery == number)


def plan_shift(seed: int) -> Plan:
    """The whole of a shift; equal for equal seeds."""
    random = Random(seed)
    photographs = _photographs(random)
    at_the_screen = _for_the_screen(photographs)
    shared = [one for one in photographs if one not in at_the_screen]
    queues: dict[str, list[Photograph]] = {name: shared[place::3] for place, name in enumerate(INSPECTORS)}
    for place, name in enumerate(INSPECTORS):
        # Some tasks have several annotators.
        others = queues[INSPECTORS[place - 1]][:60]
        queues[name] += random.sample([one for one in others if not one.fate], 5)
    deeds = {
        name: tuple(
            deed
            for delivery in range(1, len(_DELIVERIES) + 1)
            for deed in _deeds([one for one in queue if one.delivery == delivery], random)
        )
        for name, queue in queues.items()
    }
    return Plan(photographs, deeds, at_the_screen)


def _photographs(random: Random) -> tuple[Photograph, ...]:
    kinds = [kind for kind in KINDS for _ in range(COUNTS[kind])]
    random.shuffle(kinds)
    deliveries = [number for number, size in enumerate(_DELIVERIES, start=1) for _ in range(size)]
    bare = [Photograph(*one) for one in zip(range(len(kinds)), kinds, deliveries, strict=True)]
    cracks = [one.number for one in bare if one.kind == "crack"]
    first = [number for number in cracks if bare[number].delivery == 1]
    late = [number for number in cracks if bare[number].delivery == 2]
    fates = {
        **dict.fromkeys(first[-4:], "task deleted"),
        **dict.fromkeys(late[:3], "gone"),
        **dict.fromkeys(late[3:6], "replaced"),
    }
    return tuple(Photograph(one.number, one.kind, one.delivery, fates.get(one.number, "")) for one in bare)


def _for_the_screen(photographs: Sequence[Photograph]) -> tuple[Photograph, ...]:
    """One of each that is done at the screen: accepted, adjusted, rejected; missed; decided."""
    kinds: tuple[Kind, ...] = ("crack", "crack", "crack", "good", "unsure")
    found: list[Photograph] = []
    for kind in kinds:
        found.append(next(one for one in photographs if one.kind == kind and one.delivery == 1 and one not in found))
    return tuple(found)


def _deeds(photographs: Sequence[Photograph], random: Random) -> list[Deed]:
    """Each photograph annotated once, and of some what comes of that later."""
    order = [*photographs]
    random.shuffle(order)
    deeds = [_first_deed(place, one, random) for place, one in enumerate(order)]
    for place, first in enumerate([*deeds]):
        for later in _later_deeds(place, first, random):
            after = max(deeds.index(one) for one in deeds if one.photograph == first.photograph)
            deeds.insert(random.randint(after + 1, min(len(deeds), after + 12)), later)
    return deeds


def _first_deed(place: int, photograph: Photograph, random: Random) -> Deed:
    if photograph.fate == "gone":
        return Deed("create", photograph, see_alone, from_scratch=True)
    edit = random.choice(EDITS[photograph.kind])
    if place % _CYCLE == _ONLY_DRAFTED:
        return Deed("draft", photograph, edit)
    return Deed("create", photograph, edit, from_scratch=random.random() < 0.1)


def _later_deeds(place: int, first: Deed, random: Random) -> list[Deed]:
    """Every eighth is changed, every sixteenth twice, and so on: each kind comes about whatever the seed."""
    photograph = first.photograph
    if photograph.fate == "gone" or first.what == "draft":
        return []
    again = [Deed("change", photograph, edit) for edit in random.sample(EDITS[photograph.kind], 2)]
    kinds: Mapping[int, list[Deed]] = {
        1: again[:1],
        3: [Deed("delete", photograph)],
        5: again,
        7: [Deed("draft over", photograph)],
        9: again[:1],
        11: [again[0], Deed("delete", photograph)],
        13: [Deed("take back", photograph)],
    }
    return kinds.get(place % _CYCLE, [])
