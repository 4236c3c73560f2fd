"""What a data set holds, in numbers: for a person who is about to train on it."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any

from inspection_models.data.dataset import PARTS, class_counts
from inspection_models.data.markings import is_marked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inspection_models.data.dataset import Dataset, Sample
    from inspection_models.data.photographs import Photograph
    from inspection_models.data.splits import Split

# A 16-bit picture darker than this everywhere (of 255) uses 12 bits at most.
_DARK = 17


def summarise(dataset: Dataset, split: Split | None) -> dict[str, Any]:
    """A data set as a JSON object: classes by part, sizes, formats, pixel types, marks, twins, notes, ignored files.

    Args:
        dataset: as `load_dataset` gives it, with its photographs.
        split: its parts, or None where it cannot be split.
    """
    photographs = dataset.photographs
    parts = {part: class_counts(getattr(split, part), dataset.classes) for part in PARTS} if split else {}
    notes = [*dataset.notes, *(split.notes if split else ()), *_notes(photographs)]
    return {
        "root": str(dataset.root),
        "layout": dataset.layout,
        "sha256": dataset.sha256,
        "images": len(dataset.samples),
        "groups": len({sample.group for sample in dataset.samples}),
        "classes": list(dataset.classes),
        "good_class": dataset.good_class,
        "multi_label": dataset.multi_label,
        "images_with_several_classes": sum(bool(sample.also) for sample in dataset.samples),
        "counts": dataset.counts,
        "parts": parts,
        "width": _range([photograph.seen.size[1] for photograph in photographs]),
        "height": _range([photograph.seen.size[0] for photograph in photographs]),
        "formats": _counted(photographs, lambda one: one.seen.file_format),
        "pixel_types": _counted(photographs, lambda one: f"{one.seen.mode}, {one.seen.bits} bits"),
        "turned_by_exif": sum(one.seen.exif_orientation != 1 for one in photographs),
        "several_pages": sum(one.seen.frames > 1 for one in photographs),
        "marks": {label: _marks(dataset, label) for label in dataset.classes if label != dataset.good_class},
        "twins": {
            "families": len(dataset.twins),
            "images": sum(map(len, dataset.twins)),
            "largest": max(map(len, dataset.twins), default=0),
            "examples": [
                [path.relative_to(dataset.root).as_posix() for path in family]
                for family in sorted(dataset.twins, key=len, reverse=True)[:5]
            ],
        },
        "notes": notes,
        "ignored": list(dataset.ignored),
    }


def _marks(dataset: Dataset, label: str) -> dict[str, Any]:
    """How many images of a class are marked and how, and the share of their pixels that all marks of them cover."""
    own = [
        (sample, photograph)
        for sample, photograph in zip(dataset.samples, dataset.photographs, strict=True)
        if label in sample.labels
    ]
    shares = [photograph.defect_share for _, photograph in own if photograph.defect_share is not None]
    kinds: Counter[str] = Counter()
    for sample, _ in own:
        kinds.update(_kinds(sample, label))
    return {
        "images": len(own),
        "marked": sum(is_marked(sample, label) for sample, _ in own),
        "kinds": dict(kinds),
        "defect_share": _range(shares),
    }


def _kinds(sample: Sample, label: str) -> list[str]:
    found = ["mask"] if sample.mask_path is not None else []
    for kind, marks in (("boxes", sample.boxes), ("polygons", sample.polygons), ("run lengths", sample.runs)):
        found += [kind] if any(mark.label == label for mark in marks) else []
    return found


def _notes(photographs: Sequence[Photograph]) -> list[str]:
    notes = []
    if pages := sum(one.seen.frames > 1 for one in photographs):
        notes.append(f"{pages} files have several pages or frames; only the first is read")
    deep = [one for one in photographs if one.seen.bits == 16 and one.seen.mode.startswith("I")]
    if deep and all(int(one.seen.thumbnail.max()) < _DARK for one in deep):
        notes.append(
            f"the {len(deep)} images of 16 bits use little of their range and look nearly black; scale them to it, as "
            "cameras of 10 or 12 bits need"
        )
    return notes


def _range(values: Sequence[float]) -> dict[str, float] | None:
    return {"min": min(values), "median": median(values), "max": max(values)} if values else None


def _counted(photographs: Sequence[Photograph], key: Callable[[Photograph], str]) -> dict[str, int]:
    return dict(Counter(map(key, photographs)).most_common())
