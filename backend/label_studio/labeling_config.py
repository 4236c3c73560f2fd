"""A project's labeling configuration, read from its XML into what a backend needs to know of it.

Only the tags that stand on an image matter here; everything else a configuration may hold (headers, styles, text,
video) is tolerated and left alone. Label Studio's frontend compares tag names without case, so this reader does too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast
from xml.etree.ElementTree import Element, ParseError  # nosec B405: types only, the parser is defusedxml's

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

ANSWER_NAME = "answer"
"""The text area in which the labeling page shows what was answered to a question."""
SUMMARY_NAME = "model"
"""The text area in which the labeling page shows, in one line, what the model says of an image; of several images each
has one of its own, with a number: `model_1`."""
REASONS_NAME = "reason"
"""The choices in which an inspector says why they corrected the model."""
BLIND_CLASS = "inspection-blind"
"""The class of a view whose inspectors are to see nothing of what the model says."""
MAX_CONFIG_CHARACTERS = 500_000
MAX_CONFIG_DEPTH = 100
"""Tags within tags; readers that follow them, here and in Label Studio's SDK, go no deeper than some hundreds."""

ControlKind = Literal["choices", "polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels", "keypointlabels"]
"""A control's type as Label Studio writes it into each result."""

_KINDS: frozenset[str] = frozenset(
    {"choices", "polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels", "keypointlabels"}
)
_LABEL_TAGS = frozenset({"label", "choice"})
_SUMMARY = re.compile(rf"{SUMMARY_NAME}(_[0-9]+)?")
_VARIABLE = re.compile(r"\$([\w.]+)")


class LabelingConfigError(ValueError):
    """The labeling configuration cannot be read, or holds nothing a backend could answer."""


@dataclass(frozen=True)
class Label:
    """One `<Label>` or `<Choice>`: what the page shows and, where given, the alias that results carry in its place."""

    value: str
    alias: str | None = None

    @property
    def stored(self) -> str:
        """What a result holds for this label: the alias where there is one."""
        return self.alias or self.value

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every name Label Studio accepts for this label."""
        return (self.value,) if self.alias in (None, self.value) else (self.value, self.stored)


@dataclass(frozen=True)
class ImageObject:
    """An `<Image>` tag; `variable` is the key of the task's data that holds its address."""

    name: str
    variable: str

    def address(self, task_data: Mapping[str, Any]) -> str:
        """The image's address in a task's data; dots in the variable step into nested objects.

        Raises LabelingConfigError where the task has no such text.
        """
        value: Any = task_data.get(self.variable)
        if value is None:
            value = task_data
            for key in self.variable.split("."):
                value = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(value, str) or not value.strip():
            keys = ", ".join(map(str, task_data)) or "nothing"
            raise LabelingConfigError(
                f"the task's data has no image address under '{self.variable}' (it has: {keys}), "
                f'where <Image name="{self.name}"> of the labeling configuration reads it'
            )
        return value.strip()


@dataclass(frozen=True)
class Control:
    """A control on an image: choices, or labels that are drawn as one kind of region.

    `asks`: it belongs to the smart tool alone, so what is drawn with it is a question and no statement.
    """

    name: str
    kind: ControlKind
    image: str
    labels: tuple[Label, ...]
    multiple: bool = False
    per_region: bool = False
    asks: bool = False

    def label(self, spelling: str) -> Label | None:
        """The label Label Studio would understand by `spelling` (exactly as written), or None."""
        return next((label for label in self.labels if spelling in label.spellings), None)


@dataclass(frozen=True)
class LabelingConfig:
    """The images and their controls, in document order; `notes` says which controls were left out and why.

    `answers_on` is the image of the text area `ANSWER_NAME`, which tells what was answered to a question; None where
    there is none. `summaries` are, by image, the text areas that tell what the model says of it. `is_blind` says
    whether the model's answers are kept from Label Studio.
    """

    images: tuple[ImageObject, ...]
    controls: tuple[Control, ...]
    notes: tuple[str, ...] = ()
    answers_on: str | None = None
    summaries: Mapping[str, str] = field(default_factory=dict)
    is_blind: bool = False

    def control(self, name: str) -> Control | None:
        """The control of that name, or None."""
        return next((control for control in self.controls if control.name == name), None)


def parse(label_config: str) -> LabelingConfig:
    """Read a labeling configuration.

    Raises LabelingConfigError for text that is not XML, is too long, too deep or uses entities, and for a configuration
    without an image, with two tags of one name, or with a control whose `toName` names nothing.
    """
    root = _xml(label_config)
    named = _named_tags(root)
    images = _images(root)
    if not images:
        raise LabelingConfigError(
            "the labeling configuration has no <Image>; "
            'add <Image name="image" value="$image"/> and point its controls at it'
        )
    image_names = {image.name for image in images}
    controls: list[Control] = []
    notes: list[str] = []
    for element in root.iter():
        if "toName" not in element.attrib:
            continue
        control, note = _control(element, image_names, named)
        controls += [control] if control else []
        notes += [note] if note else []
    texts = _text_areas(root, image_names)
    summaries = {image: name for name, image in reversed(texts) if is_summary(name)}
    answers_on = next((image for name, image in texts if name == ANSWER_NAME), None)
    is_blind = any(BLIND_CLASS in element.attrib.get("className", "").split() for element in root.iter())
    return LabelingConfig(images, tuple(controls), tuple(notes), answers_on, summaries, is_blind)


def is_summary(name: str) -> bool:
    """Whether a text area of this name tells what the model says."""
    return _SUMMARY.fullmatch(name) is not None


def _text_areas(root: Element, images: set[str]) -> list[tuple[str, str]]:
    """Each text area on an image, by its name and that of the image."""
    areas = [element for element in root.iter() if _tag(element) == "textarea"]
    named = [(one.attrib.get("name", "").strip(), one.attrib.get("toName", "").strip()) for one in areas]
    return [(name, image) for name, image in named if image in images]


def _xml(text: str) -> Element:
    if len(text) > MAX_CONFIG_CHARACTERS:
        raise LabelingConfigError(
            f"the labeling configuration has {len(text)} characters; at most {MAX_CONFIG_CHARACTERS} are read"
        )
    try:
        root = cast("Element", fromstring(text, forbid_dtd=True))
    except DefusedXmlException as error:
        raise LabelingConfigError(
            f"the labeling configuration uses XML features that are refused here ({type(error).__name__}); "
            "remove its DOCTYPE and entities"
        ) from error
    except (ParseError, ValueError) as error:
        raise LabelingConfigError(f"the labeling configuration is not well-formed XML: {error}") from error
    _require_shallow(root)
    return root


def _require_shallow(root: Element) -> None:
    level, depth = [root], 0
    while level:
        depth += 1
        if depth > MAX_CONFIG_DEPTH:
            raise LabelingConfigError(
                f"the labeling configuration has tags within tags over {MAX_CONFIG_DEPTH} levels; make it flatter"
            )
        level = [inner for outer in level for inner in outer]


def _tag(element: Element) -> str:
    return element.tag.lower() if isinstance(element.tag, str) else ""


def _named_tags(root: Element) -> frozenset[str]:
    names = Counter(
        element.attrib["name"] for element in root.iter() if "name" in element.attrib and _tag(element) != "style"
    )
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        raise LabelingConfigError(f"the labeling configuration uses these names more than once: {', '.join(twice)}")
    return frozenset(names)


def _images(root: Element) -> tuple[ImageObject, ...]:
    """The images that tasks bring. One with another address, such as the desk's maps, is only there to be looked at;
    but where a control stands on it, or there is no other, it is told of as one that cannot be understood."""
    elements = [element for element in root.iter() if _tag(element) == "image"]
    targets = {target.strip() for element in root.iter() for target in element.attrib.get("toName", "").split(",")}
    brought = [element for element in elements if _VARIABLE.fullmatch(_value(element))]
    shown = [element for element in elements if element.attrib.get("name", "").strip() in targets]
    wanted = [element for element in elements if element in brought or element in shown or not brought]
    return tuple(_image(element) for element in wanted)


def _value(element: Element) -> str:
    return (element.attrib.get("value") or element.attrib.get("valueList") or "").strip()


def _image(element: Element) -> ImageObject:
    name = element.attrib.get("name", "").strip()
    value = _value(element)
    if not name:
        raise LabelingConfigError('an <Image> has no name; write <Image name="image" value="$image"/>')
    variable = _VARIABLE.fullmatch(value)
    if variable is None:
        raise LabelingConfigError(
            f"<Image name=\"{name}\"> takes its address from '{value}'; only one variable such as $image is understood"
        )
    return ImageObject(name, variable.group(1))


def _control(element: Element, images: set[str], named: frozenset[str]) -> tuple[Control | None, str | None]:
    """The control, or the reason it is left out (None for tags that could never say anything of a defect)."""
    name, kind = element.attrib.get("name", "").strip(), _tag(element)
    targets = [target.strip() for target in element.attrib["toName"].split(",")]
    lost = [target for target in targets if target not in named]
    if lost:
        raise LabelingConfigError(
            f"<{element.tag} name=\"{name}\"> points at '{', '.join(lost)}', which is no tag's name; "
            f"its toName must be one of: {', '.join(sorted(images))}"
        )
    if kind not in _KINDS:
        return None, None
    if not name:
        raise LabelingConfigError(f'a <{element.tag} toName="{",".join(targets)}"> has no name; give it one')
    on_images = [target for target in targets if target in images]
    if not on_images:
        return None, f"control '{name}' is left out: it stands on '{', '.join(targets)}', which is no image"
    if len(targets) > 1:
        return None, f"control '{name}' is left out: it stands on several objects ({', '.join(targets)})"
    labels = tuple(_labels(element))
    if not labels:
        return None, f"control '{name}' is left out: it lists no labels of its own"
    per_region = element.attrib.get("perRegion", "").lower() == "true"
    note = f"control '{name}' asks about each region, so it is not filled in" if per_region else None
    multiple = element.attrib.get("choice", "").lower() == "multiple"
    asks = kind != "choices" and _is_on(element, "smartOnly") and _is_on(element, "smart", default=True)
    return Control(name, cast("ControlKind", kind), on_images[0], labels, multiple, per_region, asks), note


def _is_on(element: Element, name: str, *, default: bool = False) -> bool:
    """A switch among a tag's attributes, whose names Label Studio reads without regard to case."""
    found = [value for key, value in element.attrib.items() if key.lower() == name.lower()]
    return found[-1].strip().lower() == "true" if found else default


def _labels(control: Element) -> Iterator[Label]:
    """The labels under a control through any layout tags; choices inside a choice are answers to another question."""
    for child in control:
        if _tag(child) not in _LABEL_TAGS:
            yield from _labels(child)
            continue
        value, alias = child.attrib.get("value", "").strip(), child.attrib.get("alias", "").strip()
        if value or alias:
            yield Label(value or alias, alias or None)
