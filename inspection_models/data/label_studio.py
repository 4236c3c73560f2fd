"""Layout `label-studio`: an export of Label Studio, JSON or JSON-MIN, with its photographs anywhere beneath the root.

An image's classes are its choices (of several controls of choices the one named like classes; those about a single
region are left out) or, where there are none, the labels of its regions; submitted without either it is
good. Rectangles, polygons, ellipses and brush strokes become marks. Of several annotations of a task the ground truth
counts, else the last one submitted. Tasks without an annotation, and cancelled ones, are left out and counted.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from inspection_models.data.dataset import GOOD, Box, Polygon, RunLengths, is_good_name
from inspection_models.data.files import files_with, images_below
from inspection_models.data.json_files import JsonError, load_json
from inspection_models.data.label_studio_regions import Region, draw, label_of
from inspection_models.data.reading import Findings, Reading
from inspection_models.images import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# Label Studio puts eight characters of a random number before the name of an uploaded file.
_UPLOAD = re.compile(r"[0-9a-f]{8}-(.+)")
_OWN_FIELDS = frozenset(
    {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "comment", "inner_id"}
)
# The desk's own control for the smart tool: what is drawn with it is a question, no mark.
_QUESTIONS = "ask"
_CHOICE_WORDS = ("choice", "class", "label", "verdict", "defect")


@dataclass
class _Task:
    """A task as both formats give it: what it names as image, its choices, also by their controls, and its regions."""

    where: str
    image: str
    controls: dict[str, list[str]] = field(default_factory=dict)
    choices: list[str] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)


class _Shelf:
    """Finds photographs by what tasks call them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in images_below(root):
            self._by_name[path.name].append(path)

    def find(self, text: str) -> list[Path]:
        """The photographs that a task may mean: those of its name whose folders agree with it furthest."""
        address = urlsplit(text.replace("\\", "/"))
        named = parse_qs(address.query).get("d", [unquote(address.path)])[0]
        words = [word for word in named.split("/") if word not in ("", ".", "..")]
        if not words:
            return []
        match = _UPLOAD.fullmatch(words[-1])
        names = [words[-1], *([match[1]] if match else [])]
        found = next((self._by_name[name] for name in names if name in self._by_name), [])
        agreeing = {path: self._agreement(path, words) for path in found}
        return [path for path in found if agreeing[path] == max(agreeing.values())]

    def _agreement(self, path: Path, words: list[str]) -> int:
        folders = path.relative_to(self._root).parts[-2::-1]
        count = 0
        for own, named in zip(folders, words[-2::-1], strict=False):
            if own != named:
                break
            count += 1
        return count


def fits(root: Path) -> bool:
    """Whether an export lies here."""
    return bool(_exports(root))


def read(root: Path) -> Reading:
    """All samples.

    Raises:
        DatasetError: several exports, a photograph that is missing or that several files could be, or a region that is
            none.
    """
    findings = Findings(root)
    exports = _exports(root)
    if len(exports) != 1:
        findings.problems.add(
            f"{exports[0]} and {exports[1]} are both exports of Label Studio; leave one of them here"
            if exports
            else f"{root} has no export of Label Studio; put its .json here"
        )
        return findings.reading()
    path = exports[0]
    findings.use(path)
    content = load_json(path)
    kinds: Counter[str] = Counter()
    tasks = _full_tasks(findings, path, content, kinds) if _is_full(content) else _min_tasks(findings, path, content)
    shelf = _Shelf(root)
    for task in tasks:
        found = shelf.find(task.image)
        if len(found) != 1:
            findings.problems.add(
                f"{task.where}: there is no photograph {task.image!r} below {root}; put it there"
                if not found
                else f"{task.where}: {task.image!r} could be {found[0]} or {found[1]}; give them different names"
            )
            continue
        _add(findings, task, found[0], kinds)
    if kinds:
        left_out = ", ".join(f"{count} of {kind}" for kind, count in sorted(kinds.items()))
        findings.note(f"results that are no choice and no area are left out: {left_out}")
    return findings.reading()


def _exports(root: Path) -> list[Path]:
    found = []
    for path in files_with(root, ".json"):
        try:
            content = load_json(path)
        except JsonError:
            continue
        if _is_full(content) or _is_min(content):
            found.append(path)
    return found


def _entries(content: Any) -> list[dict[str, Any]]:
    return [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []


def _is_full(content: Any) -> bool:
    return any("data" in entry and isinstance(entry.get("annotations"), list) for entry in _entries(content))


def _is_min(content: Any) -> bool:
    return any("annotation_id" in entry and "annotator" in entry for entry in _entries(content))


def _full_tasks(findings: Findings, path: Path, content: list[Any], kinds: Counter[str]) -> list[_Task]:
    tasks: list[_Task] = []
    unlabelled = several = 0
    for number, entry in enumerate(content, 1):
        where = f"{path} task {entry.get('id', number) if isinstance(entry, dict) else number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("data"), dict):
            findings.problems.add(f"{where}: it has no data; export the project again")
            continue
        given = entry.get("annotations")
        given = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
        submitted = [one for one in given if not one.get("was_cancelled")]
        if not submitted:
            unlabelled += 1
            continue
        several += len(submitted) > 1
        chosen = max(submitted, key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at", ""))))
        results = [result for result in chosen.get("result") or () if isinstance(result, dict)]
        results = [result for result in results if result.get("from_name") != _QUESTIONS]
        image = _image_of(entry["data"], results)
        if image is None:
            findings.problems.add(f"{where}: its data names no image; export the project again")
            continue
        task = _Task(where, image)
        _take(task, results, kinds)
        tasks.append(task)
    control = _control(findings, path, {name for task in tasks for name in task.controls})
    for task in tasks:
        task.choices = task.controls.get(control, [])
    if unlabelled:
        findings.note(f"{unlabelled} tasks without a submitted annotation are left out")
    if several:
        findings.note(f"{several} tasks have several annotations; the ground truth or the last one counts")
    return tasks


def _take(task: _Task, results: list[dict[str, Any]], kinds: Counter[str]) -> None:
    """Put the results of an annotation into its task; what is neither a choice nor an area is counted."""
    areas = {str(result["id"]) for result in results if "id" in result and result.get("type") != "choices"}
    for result in results:
        value = result.get("value")
        value = value if isinstance(value, dict) else {}
        region = Region.of(value, result)
        if result.get("type") != "choices":
            if region:
                task.regions.append(region)
            else:
                kinds[str(result.get("type"))] += 1
        elif region or str(result.get("id")) in areas:
            kinds["choices about a single area"] += 1
        else:
            choices = task.controls.setdefault(str(result.get("from_name", "")), [])
            choices += [str(choice) for choice in value.get("choices") or ()]


def _control(findings: Findings, path: Path, names: set[str]) -> str:
    """The control whose choices are the classes: the only one, or the only one that is named like it."""
    likely = {name for name in names if any(word in name.lower() for word in _CHOICE_WORDS)}
    if len(names) > 1 and len(likely) != 1:
        findings.problems.add(
            f"{path}: any of the controls {', '.join(sorted(names))} could hold the classes; leave only that one in "
            "the project, or name it `verdict` and the others otherwise, and export it again"
        )
    if len(names) > 1 and len(likely) == 1:
        others = ", ".join(sorted(names - likely))
        findings.note(f"the choices of {min(likely)} are the classes; those of {others} are left out")
        return min(likely)
    return min(names, default="")


def _image_of(data: dict[str, Any], results: list[dict[str, Any]]) -> str | None:
    """The field of a task that is its image: the one whose value ends like a file of an image."""
    candidates = [value for value in data.values() if isinstance(value, str) and _names_image(value)]
    if len(candidates) > 1:
        names = {str(result.get("to_name")) for result in results}
        return next((data[name] for name in names if data.get(name) in candidates), candidates[0])
    return candidates[0] if candidates else None


def _names_image(text: str) -> bool:
    address = urlsplit(text)
    return any(part.lower().endswith(tuple(SUFFIXES)) for part in (address.path, address.query))


def _min_tasks(findings: Findings, path: Path, content: list[Any]) -> Iterator[_Task]:
    last: dict[Any, dict[str, Any]] = {}
    for number, entry in enumerate(_entries(content), 1):
        key = entry.get("id", -number)
        if key not in last or str(entry.get("updated_at", "")) >= str(last[key].get("updated_at", "")):
            last[key] = entry
    if several := len(_entries(content)) - len(last):
        findings.note(f"{several} earlier annotations of tasks that have a later one are left out")
    for key, entry in last.items():
        where = f"{path} task {key}"
        image = _image_of(entry, [])
        if image is None:
            findings.problems.add(f"{where}: it names no image; export the project again")
            continue
        task = _Task(where, image)
        words: dict[str, list[str]] = {}
        for name, value in entry.items():
            if name in (*_OWN_FIELDS, _QUESTIONS) or value == image:
                continue
            if isinstance(value, list):
                regions = [Region.of(one, one) for one in value if isinstance(one, dict)]
                task.regions += [region for region in regions if region]
            elif isinstance(value, dict) and isinstance(value.get("choices"), list):
                words[name] = [str(choice) for choice in value["choices"]]
            elif isinstance(value, str):
                words[name] = [value]
        task.choices = _choices(findings, where, words)
        yield task


def _choices(findings: Findings, where: str, words: dict[str, list[str]]) -> list[str]:
    """Which of a task's words are its choices, for JSON-MIN does not tell them from its data."""
    if len(words) > 1:
        likely = {name: found for name, found in words.items() if any(word in name.lower() for word in _CHOICE_WORDS)}
        if len(likely) != 1:
            findings.problems.add(
                f"{where}: any of the fields {', '.join(sorted(words))} could be the class; export the project as JSON"
            )
            return []
        words = likely
    return next(iter(words.values()), [])


def _add(findings: Findings, task: _Task, path: Path, kinds: Counter[str]) -> None:
    size = findings.size_of(path)
    if size is None:
        return
    boxes: list[Box] = []
    polygons: list[Polygon] = []
    runs: list[RunLengths] = []
    drawn: set[str] = set()
    for region in task.regions:
        label = label_of(region, task.choices)
        if label is None:
            kinds["areas without a label"] += 1
            continue
        try:
            mark = draw(region, label, size)
        except ValueError as error:
            findings.problems.add(f"{task.where}: {error}; correct the region and export the project again")
            continue
        drawn.add(mark.label)
        if isinstance(mark, Box):
            boxes.append(mark)
        elif isinstance(mark, Polygon):
            polygons.append(mark)
        else:
            runs.append(mark)
    good = next((choice for choice in task.choices if is_good_name(choice)), None)
    if good and (against := sorted(drawn - {good})):
        findings.problems.add(
            f"{task.where}: it is said to be {good!r}, but {', '.join(against)} is drawn in it; correct one of the two "
            "and export the project again"
        )
        return
    labels: Iterable[str] = task.choices or drawn or {GOOD}
    findings.add(path, labels, boxes=boxes, polygons=polygons, runs=runs)
