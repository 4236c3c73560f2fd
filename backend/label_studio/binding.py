"""Which label of a labeling configuration stands for which class of the model.

A class is bound to a label in this order: by the explicit mapping; by the label's value or alias exactly; without
regard to case; without regard to case and with every run of spaces, underscores and hyphens read as one. The first of
these that finds a label decides, and only where it finds exactly one for the class and no other class has as good a
claim on it. Whatever stays open is told in `Binding.unbound`, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from backend.label_studio.labeling_config import (
    REASONS_NAME,
    Control,
    ControlKind,
    ImageObject,
    Label,
    LabelingConfig,
)

RegionKind = Literal["polygonlabels", "brushlabels", "rectanglelabels"]
REGION_KINDS: tuple[RegionKind, ...] = ("polygonlabels", "brushlabels", "rectanglelabels")
"""The kinds of regions the backend draws, the preferred one first."""
REGION_TAGS: Mapping[ControlKind, str] = {
    "polygonlabels": "PolygonLabels",
    "brushlabels": "BrushLabels",
    "rectanglelabels": "RectangleLabels",
}
_SEPARATORS = re.compile(r"[\s_-]+")
SETTING = "INSPECTION_LABEL_MAPPING"

ClassMapping = Mapping[str, str | Sequence[str]]
"""Class to label, or to several where choices and regions use other words: `{"scratches": ["reject", "Kratzer"]}`."""


@dataclass(frozen=True)
class RegionBinding:
    """Where and as what the regions of one class are drawn; `label` is what results hold."""

    control: str
    kind: RegionKind
    label: str


@dataclass(frozen=True)
class FurtherImage:
    """A further image of the same part, and where the regions of each class are drawn on it."""

    image: ImageObject
    regions: Mapping[str, RegionBinding]


@dataclass(frozen=True)
class Binding:
    """A configuration's labels and a model's classes, brought together.

    Where inspectors draw on several images, they are images of one part: `image` is the first, `regions` are those on
    it, and `further` are the others. One verdict is given on the part, wherever its choices stand.

    `choices` maps a class to the stored value of `choice_control`, `regions` a defect class to its label;
    `takes_several` says whether more than one choice can be ticked;
    `choice_classes` (by spelling) and `label_classes` (by control and spelling) read the inspector's answers back:
    several classes where a mapping lets them share a label. `questions` are the controls whose regions only ask the
    model about a place: they are neither drawn nor counted as what the inspector says. `reasons` is the control of the
    inspector's reasons for a correction, and `summaries` are, by image, the places for what the model says of it.
    `unbound` holds one sentence for each thing that cannot be said in this configuration, with what to do about it.
    """

    classes: tuple[str, ...]
    good_class: str | None
    image: ImageObject | None
    choice_control: str | None
    takes_several: bool
    choices: Mapping[str, str]
    regions: Mapping[str, RegionBinding]
    choice_classes: Mapping[str, tuple[str, ...]]
    label_classes: Mapping[tuple[str, str], tuple[str, ...]]
    unbound: tuple[str, ...]
    questions: frozenset[str] = frozenset()
    reasons: str | None = None
    summaries: Mapping[str, str] = field(default_factory=dict)
    choice_image: str | None = None
    further: tuple[FurtherImage, ...] = ()

    @property
    def images(self) -> tuple[ImageObject, ...]:
        """All images that are judged, in document order."""
        first = () if self.image is None else (self.image,)
        return (*first, *(one.image for one in self.further))

    def regions_on(self, image: str) -> Mapping[str, RegionBinding]:
        """Where the regions of each class are drawn on an image, by its name."""
        if self.image is not None and image == self.image.name:
            return self.regions
        return next((one.regions for one in self.further if one.image.name == image), {})

    @property
    def usable(self) -> bool:
        """Whether anything at all can be answered in this configuration."""
        return self.image is not None and bool(self.choices or self.regions or any(one.regions for one in self.further))

    @property
    def unsayable(self) -> tuple[str, ...]:
        """The classes that neither a choice nor a region can say. Without choices, no region means good."""
        if not self.usable:
            return self.classes
        silent = {self.good_class} if self.choice_control is None else set()
        drawn = set(self.regions).intersection(*(one.regions for one in self.further))
        return tuple(name for name in self.classes if name not in {*self.choices, *drawn, *silent})


def bind(
    config: LabelingConfig, classes: Sequence[str], good_class: str | None = None, mapping: ClassMapping | None = None
) -> Binding:
    """Bind a model's classes to the labels of a configuration.

    `good_class` is the class that stands for no defect (None where there is none): it needs a choice, no region.
    Raises ValueError for classes that are empty or named twice, and for a good or mapped class that is none of them.
    """
    wanted = _wanted(classes, good_class, mapping or {})
    controls = tuple(control for control in config.controls if not control.per_region)
    reasons = _reasons(controls)
    choice_control, choices, choice_problems = _bind_choices([one for one in controls if one != reasons], wanted)
    images = _inspected(config, controls, choice_control)
    names = {image.name for image in images}
    controls = tuple(control for control in controls if control.image in names)
    questions = _questions(controls)
    problems: list[str] = []
    if not any(control.kind in (*REGION_KINDS, "choices") for control in controls):
        problems.append(
            "the labeling configuration has no Choices, PolygonLabels, BrushLabels or RectangleLabels on the image "
            f"'{images[0].name}'; add at least one of them"
        )
    label_classes: dict[tuple[str, str], tuple[str, ...]] = {}
    drawn: list[FurtherImage] = []
    for image in images:
        there = [control for control in controls if control.image == image.name]
        regions, read_back, region_problems = _bind_regions(there, questions, wanted, good_class)
        label_classes |= read_back
        drawn.append(FurtherImage(image, regions))
        choice_problems = [*choice_problems, *region_problems]
    spellings: dict[str, tuple[str, ...]] = {}
    for name, stored in choices.items():
        label = choice_control.label(stored) if choice_control else None
        for spelling in label.spellings if label else ():
            spellings[spelling] = (*spellings.get(spelling, ()), name)
    return Binding(
        classes=tuple(classes),
        good_class=good_class,
        image=images[0],
        choice_control=choice_control.name if choice_control else None,
        takes_several=choice_control is not None and choice_control.multiple,
        choices=choices,
        regions=drawn[0].regions,
        choice_classes=spellings,
        label_classes=label_classes,
        unbound=(*problems, *choice_problems),
        questions=questions,
        reasons=reasons.name if reasons else None,
        summaries=config.summaries,
        choice_image=choice_control.image if choice_control else None,
        further=tuple(drawn[1:]),
    )


def bind_known(
    config: LabelingConfig, classes: Sequence[str], good_class: str | None, mapping: ClassMapping
) -> Binding:
    """Bind as `bind` does, and tell of mapped classes that the model does not have rather than refuse them.

    A mapping is a setting of the desk, and outlives the model it was written for.
    """
    strangers = sorted(set(mapping) - set(classes))
    binding = bind(config, classes, good_class, {name: mapping[name] for name in mapping if name in classes})
    told = tuple(f"{SETTING} maps '{name}', which is no class of this model" for name in strangers)
    return replace(binding, unbound=(*binding.unbound, *told))


def _wanted(classes: Sequence[str], good_class: str | None, mapping: ClassMapping) -> dict[str, tuple[str, ...]]:
    """Each class with the labels the mapping names for it."""
    if not classes or len(set(classes)) != len(classes):
        raise ValueError(f"a model's classes are at least one and each named once, not {list(classes)}")
    strangers = sorted(({good_class} if good_class else set()) - set(classes)) + sorted(set(mapping) - set(classes))
    if strangers:
        raise ValueError(
            f"{', '.join(strangers)}: no class of the model (its classes: {', '.join(classes)}); "
            f"correct the good class or {SETTING}"
        )
    return {name: (entry,) if isinstance(entry := mapping.get(name, ()), str) else tuple(entry) for name in classes}


def _inspected(
    config: LabelingConfig, controls: Sequence[Control], choice_control: Control | None
) -> tuple[ImageObject, ...]:
    """Those with something to draw with and the one with the verdict; else the first that is asked about."""
    drawn_on = {control.image for control in controls if control.kind in REGION_KINDS}
    if choice_control is not None:
        drawn_on.add(choice_control.image)
    asked_about = {control.image for control in controls if control.kind == "choices"}
    for names in (drawn_on, asked_about):
        found = tuple(image for image in config.images if image.name in names)
        if found:
            return found if names is drawn_on else found[:1]
    return config.images[:1]


def _bind_choices(
    controls: Iterable[Control], wanted: Mapping[str, tuple[str, ...]]
) -> tuple[Control | None, dict[str, str], list[str]]:
    """The one Choices control that holds the verdict, and the classes it can say."""
    candidates = [control for control in controls if control.kind == "choices"]
    attempts = [(control, *_match(control, wanted)) for control in candidates]
    speaking = [attempt for attempt in attempts if attempt[1]]
    whole = [attempt for attempt in speaking if len(attempt[1]) == len(wanted)]
    chosen = whole if len(whole) == 1 else speaking
    if len(chosen) > 1:
        names = ", ".join(f"'{control.name}'" for control, _, _ in chosen)
        return (
            None,
            {},
            [
                f"the choice controls {names} could all hold the verdict; leave the classes' names in one of them "
                f"only, or map every class to a value that only one of them has ({SETTING})"
            ],
        )
    if not chosen:
        chosen = attempts[:1] if len(attempts) == 1 else []
        if not chosen and attempts:
            names = ", ".join(f"'{control.name}'" for control in candidates)
            return (
                None,
                {},
                [f"no class has a choice in any of the controls {names}; add their names as choices or set {SETTING}"],
            )
    if not chosen:
        return None, {}, []
    control, found, reasons = chosen[0]
    problems = [
        f"class '{name}' has no choice in control '{control.name}' ({reason}): "
        f'add <Choice value="{name}"/> to it or set {SETTING}'
        for name, reason in reasons.items()
    ]
    return (control if found else None), {name: label.stored for name, label in found.items()}, problems


def _reasons(controls: Sequence[Control]) -> Control | None:
    """The choices of that name; alone, they are the verdict's."""
    choices = [control for control in controls if control.kind == "choices"]
    return next((control for control in choices if control.name == REASONS_NAME), None) if len(choices) > 1 else None


def _questions(controls: Sequence[Control]) -> frozenset[str]:
    """The controls that only ask. Where nothing else draws regions, the answers can be drawn by these alone."""
    drawn = [control for control in controls if control.kind in REGION_KINDS]
    if drawn and all(control.asks for control in drawn):
        return frozenset()
    return frozenset(control.name for control in controls if control.asks)


def _bind_regions(
    controls: Sequence[Control],
    questions: frozenset[str],
    wanted: Mapping[str, tuple[str, ...]],
    good_class: str | None,
) -> tuple[dict[str, RegionBinding], dict[tuple[str, str], tuple[str, ...]], list[str]]:
    """One region control a defect class, the preferred kind that has a label for it; and every label read back."""
    drawn = [control for control in controls if control.kind != "choices"]
    matches = {control.name: _match(control, wanted) for control in drawn}
    label_classes: dict[tuple[str, str], tuple[str, ...]] = {}
    for control in drawn:
        for name, label in matches[control.name][0].items():
            for spelling in label.spellings:
                key = (control.name, spelling)
                label_classes[key] = (*label_classes.get(key, ()), name)
    regions: dict[str, RegionBinding] = {}
    problems: list[str] = []
    for name in wanted:
        if name == good_class:
            continue
        able = [control for control in drawn if control.kind in REGION_KINDS and control.name not in questions]
        hits = [control for control in able if name in matches[control.name][0]]
        best = min((REGION_KINDS.index(cast("RegionKind", control.kind)) for control in hits), default=None)
        first = [control for control in hits if best is not None and control.kind == REGION_KINDS[best]]
        if len(first) == 1:
            label = matches[first[0].name][0][name]
            regions[name] = RegionBinding(first[0].name, cast("RegionKind", first[0].kind), label.stored)
        elif first:
            names = " and ".join(f"'{control.name}'" for control in first)
            problems.append(
                f"class '{name}' has a label in the {REGION_TAGS[first[0].kind]} controls {names} alike, so its "
                "regions are not drawn: keep it in one of them"
            )
        elif able:
            reasons = "; ".join(f"'{control.name}': {matches[control.name][1][name]}" for control in able)
            preferred = min(able, key=lambda control: REGION_KINDS.index(cast("RegionKind", control.kind)))
            problems.append(
                f"class '{name}' has no label to draw its regions with ({reasons}): "
                f"add <Label value=\"{name}\"/> to '{preferred.name}' or set {SETTING}"
            )
    return regions, label_classes, problems


def _match(control: Control, wanted: Mapping[str, tuple[str, ...]]) -> tuple[dict[str, Label], dict[str, str]]:
    """The label of each class in one control, and the reason for each class that has none."""
    found: dict[str, tuple[int, Label]] = {}
    reasons: dict[str, str] = {}
    for name, mapped in wanted.items():
        tier, labels = _candidates(control, name, mapped)
        if len(labels) == 1:
            found[name] = (tier, labels[0])
        elif labels:
            reasons[name] = f"it could be {_values(labels)} alike"
        elif mapped:
            reasons[name] = f"the mapping says {', '.join(mapped)}; values: {_values(control.labels)}"
        else:
            reasons[name] = f"values: {_values(control.labels)}"
    for name, (tier, label) in list(found.items()):
        rivals = [other for other, (_, taken) in found.items() if other != name and taken == label]
        # Several classes may share a label where the mapping says so of each, never by likeness alone.
        beaten = [other for other in rivals if tier > 0 and found[other][0] <= tier]
        if beaten:
            reasons[name] = f"'{label.value}' stands for {', '.join(beaten)} as well"
    return {name: label for name, (_, label) in found.items() if name not in reasons}, reasons


def _candidates(control: Control, name: str, mapped: Sequence[str]) -> tuple[int, list[Label]]:
    """The labels of the first tier that has any; tier 0 is the explicit mapping."""
    if mapped:
        for read in _READINGS:
            hits = [label for wish in mapped for label in _spelled(control, wish, read)]
            if hits:
                return 0, list(dict.fromkeys(hits))
    for tier, read in enumerate(_READINGS, start=1):
        hits = _spelled(control, name, read)
        if hits:
            return tier, hits
    return 0, []


def _spelled(control: Control, text: str, read: Callable[[str], str]) -> list[Label]:
    return [label for label in control.labels if read(text) in {read(spelling) for spelling in label.spellings}]


def _plain(text: str) -> str:
    return _SEPARATORS.sub(" ", text.casefold()).strip()


_READINGS: tuple[Callable[[str], str], ...] = (str, str.casefold, _plain)
"""How a label's spelling may be read, the strictest first."""


def _values(labels: Iterable[Label]) -> str:
    return ", ".join(label.value if label.alias is None else f"{label.value} (alias {label.alias})" for label in labels)
