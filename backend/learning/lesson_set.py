"""The data set of the next version: reviewed photographs, the original folder, and without what is held."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.learning.gathering import LearningError
from backend.learning.manifest import MANIFEST_FILE, manifest_csv, manifest_sha256
from backend.model_listing import LEARNED_KEY
from backend.models_in_use import store_of, version_in_use
from db import model_locations, model_versions, reviews
from inspection_models.data import is_marked, load_dataset
from inspection_models.data.joining import HeldOut, held_out, join
from inspection_models.model_card import CARD_FILE, ModelError, read_card
from inspection_models.training import Lessons
from inspection_models.training_record import images_tested_on

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from backend.learning.gathering import Gathered
    from backend.learning.verdicts import LeftOut
    from backend.settings import Settings
    from db.engine import Database

HELD_BY_HASH = "held for measurement: the very file"
HELD_AS_TWIN = "held for measurement: a near-duplicate"
_EXAMPLES = 20


@dataclass(frozen=True)
class LessonRequest:
    """What to learn from, beside the reviews.

    Attributes:
        projects: whose reviews; None for all.
        data: the original training folder; None for none.
        layout, good_class: see `load_dataset`.
        hold_out: folders of photographs that nothing may be learned from.
    """

    projects: tuple[int, ...] | None
    data: Path | None = None
    layout: str | None = None
    good_class: str | None = None
    hold_out: tuple[Path, ...] = ()


@dataclass(frozen=True)
class LessonSet:
    """What a training learns from, and `summary`, the same in numbers and names for people."""

    lessons: Lessons
    summary: dict[str, Any]


def assemble(
    request: LessonRequest,
    gathered: Gathered,
    settings: Settings,
    database: Database,
    progress: Callable[[str, int, int], None],
) -> LessonSet:
    """Join reviewed photographs with the folder, and leave out what is held.

    Raises:
        LearningError: nothing was reviewed that could be learned from.
        DatasetError: the folder cannot be read, or what is left makes no data set.
        ModelError: the record of the model in use is damaged.
        DatabaseError: the database is away.
    """
    if not gathered.samples:
        raise LearningError(
            "no reviewed photograph can be learned from; " + (_told(gathered.left_out) or "nothing was reviewed yet")
        )
    folder = None
    if request.data is not None:
        folder = load_dataset(
            request.data.absolute(),
            layout=request.layout,
            good_class=request.good_class,
            max_pixels=settings.max_image_pixels,
            progress=lambda done, total: progress("looking at the folder", done, total),
        )
    held = held_out((*settings.held_out, *request.hold_out), max_pixels=settings.max_image_pixels)
    held = HeldOut(held.sha256 | gathered.blind, held.thumbnails)
    good = request.good_class
    if good is None:
        good = _good_class(folder.good_class if folder is not None else None, gathered.good_class)
    joined = join(
        gathered.samples,
        folder,
        held,
        good_class=good,
        max_pixels=settings.max_image_pixels,
        progress=lambda done, total: progress("looking at reviewed photographs", done, total),
    )
    tested, classes, notes = _in_use(request.projects, settings, database)
    if missing := sorted(classes - set(joined.dataset.classes)):
        raise LearningError(
            f"the model in use knows {', '.join(missing)}, and no photograph to learn from shows it, so the next "
            "version would not know it; give the original photographs, too: --data DIR, or for Label Studio's button "
            "INSPECTION_TRAINING_OPTIONS"
        )
    kept = {sample.sha256 for sample in joined.dataset.samples}
    verdicts = [verdict for verdict in gathered.verdicts if verdict.image.sha256 in kept]
    if not verdicts:
        raise LearningError("no reviewed photograph can be learned from: all of them are held for measurement")
    manifest = manifest_csv(verdicts)
    marked = {sample.sha256 for sample in gathered.samples if is_marked(sample)}
    about = {
        "manifest_sha256": manifest_sha256(manifest),
        "photographs": len(verdicts),
        "reviews": len({review.review_id for verdict in verdicts for review in verdict.reviews}),
        "projects": sorted({review.project_id for verdict in verdicts for review in verdict.reviews}),
        "outcomes": dict(sorted(Counter(str(verdict.reviews[0].outcome) for verdict in verdicts).items())),
        "with_regions_by_hand": len(marked & kept),
        "folder_sha256": folder.sha256 if folder is not None else None,
        "also_in_the_folder": joined.same,
        "labelled_otherwise_in_the_folder": joined.relabelled,
        "held": {
            "by_hash": len(joined.held_by_hash),
            "near_duplicates": len(joined.held_as_twins),
            "of_blind_projects": len(gathered.blind),
            "tested_only": len(kept & tested),
        },
        "left_out": dict(sorted(Counter(one.reason for one in gathered.left_out).items())),
    }
    named: dict[str, list[str]] = defaultdict(list)
    for one in (*gathered.left_out, *gathered.undrawn):
        named[one.reason].append(one.what)
    for reason, paths in ((HELD_BY_HASH, joined.held_by_hash), (HELD_AS_TWIN, joined.held_as_twins)):
        named[reason] += [path.name for path in paths]
    summary = {
        **about,
        "left_out": {reason: {"count": len(what), "named": what[:_EXAMPLES]} for reason, what in named.items() if what},
        "notes": [*gathered.notes, *notes],
    }
    lessons = Lessons(joined.dataset, frozenset(tested), {LEARNED_KEY: about}, {MANIFEST_FILE: manifest})
    return LessonSet(lessons, summary)


def refuse_nothing_new(lesson_set: LessonSet, database: Database) -> None:
    """Make sure that no registered version learned from these very reviews and this very folder.

    Raises:
        LearningError: one did.
        DatabaseError: the database is away.
    """
    about = lesson_set.lessons.about[LEARNED_KEY]
    with database.read() as session:
        known = model_versions.everything(session)
    for version in known:
        former = version.training.get(LEARNED_KEY)
        if isinstance(former, dict) and all(
            former.get(key) == about[key] for key in ("manifest_sha256", "folder_sha256")
        ):
            raise LearningError(
                f"no review is new since {version.name} {version.version} learned from these {about['reviews']} "
                f"reviews of {about['photographs']} photographs on {version.created_at:%Y-%m-%d}; review more, or give "
                "--again to train on the same once more"
            )


def _good_class(of_folder: str | None, of_reviews: str | None) -> str | None:
    if of_folder is not None and of_reviews is not None and of_folder != of_reviews:
        raise LearningError(
            f"good parts are called {of_folder!r} in the folder and {of_reviews!r} by the model that was reviewed; "
            "rename the folder's class"
        )
    return of_folder if of_folder is not None else of_reviews


def _in_use(
    projects: Collection[int] | None, settings: Settings, database: Database
) -> tuple[frozenset[str], frozenset[str], list[str]]:
    """Of the models in use: files that they were tested on, which the next version may be tested on, too, and nothing
    else; their classes; and what is to be told of them."""
    if projects is None:
        with database.read() as session:
            projects = reviews.projects(session, instance=settings.label_studio_url)
    tested: set[str] = set()
    classes: set[str] = set()
    notes, names = [], {}
    for number in (None, *projects):
        try:
            model = version_in_use(settings, database, number)
        except ModelError:
            continue
        names[model.fingerprint] = model.model_version
        classes |= set(model.classes)
    for fingerprint, name in names.items():
        with database.read() as session:
            recorded = model_locations.of(session, fingerprint)
        directory = store_of(settings).locate(fingerprint, (*recorded, str(settings.resolved_model)))
        listed = images_tested_on(directory, read_card(directory / CARD_FILE))
        if listed is None:
            notes.append(
                f"{name}, which is in use, has no list of the photographs that it was tested on; they cannot be held"
            )
        tested |= listed or frozenset()
    return frozenset(tested), frozenset(classes), notes


def _told(left_out: Sequence[LeftOut]) -> str:
    counted = Counter(one.reason for one in left_out)
    return "; ".join(f"{count} {reason}" for reason, count in counted.most_common())
