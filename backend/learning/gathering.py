"""From the reviews in SQL to labelled photographs on disk, with everything that is left out named."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.label_studio.binding import bind_known
from backend.label_studio.image_addresses import address_sha256
from backend.label_studio.image_source import ImageLoginError, ImageSourceError
from backend.label_studio.labeling_config import LabelingConfigError, parse
from backend.learning.marks import MarkError, Marks, marks_of
from backend.learning.photographs import Photographs, ReplacedImageError
from backend.learning.verdicts import LeftOut, place_of, verdicts_of
from db import lessons
from inspection_models.data import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from backend.label_studio.client import LabelStudioClient
    from backend.label_studio.image_source import ImageSource
    from backend.learning.verdicts import Verdict
    from backend.settings import Settings
    from db.engine import Database
    from db.lessons import StandingReview

REPLACED = "the image was replaced since it was judged"
UNREADABLE = "the image cannot be read any more"
UNDRAWN = "taught by class alone, as a region cannot be drawn"


# More photographs than this, and than this share of all, are not of one part.
_MOST_OF_A_PART, _LARGEST_SHARE = 8, 0.1


class LearningError(RuntimeError):
    """Nothing can be learned as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Gathered:
    """What was gathered.

    Attributes:
        verdicts: that are learned from.
        samples: the same in the same order, as labelled files.
        good_class: of the models that judged them.
        left_out: photographs that nothing is learned from.
        undrawn: photographs whose regions are not learned from, though an inspector drew them.
        blind: sha256 of what blind projects hold.
        notes: what a reader must know, each a sentence.
    """

    verdicts: tuple[Verdict, ...]
    samples: tuple[Sample, ...]
    good_class: str | None
    left_out: tuple[LeftOut, ...]
    undrawn: tuple[LeftOut, ...]
    blind: frozenset[str]
    notes: tuple[str, ...]

    @property
    def outcomes(self) -> dict[str, int]:
        """How many photographs by the outcome of the latest review of each."""
        return dict(Counter(str(verdict.reviews[0].outcome) for verdict in self.verdicts))


class Gathering:
    """Gathers what inspectors taught.

    Args:
        client: of the Label Studio that has the tasks; None where no key is set, which is enough where all photographs
            are kept already.
        source: reads task images.
    """

    def __init__(
        self, settings: Settings, database: Database, client: LabelStudioClient | None, source: ImageSource
    ) -> None:
        self._settings = settings
        self._database = database
        self._client = client
        self._photographs = Photographs(settings.data_dir / "learning" / "photographs", source)
        self._tasks: dict[int, dict[int, Mapping[str, Any]]] = {}
        self._configs: dict[int, str] = {}

    def gather(
        self,
        project_ids: Collection[int] | None,
        until: datetime | None = None,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Gathered:
        """Find the verdicts of these projects, or of all, and fetch the photographs that are not kept yet.

        Args:
            project_ids: whose reviews; None for all.
            until: without reviews that were received later; what blind projects hold by now is held all the same.
            progress: called with (photographs found, photographs there are).

        Raises:
            LearningError: photographs have to be fetched and there is no key, or one cannot be fetched now but may be
                later; or models disagree on what is good.
            LabelStudioError: Label Studio is away or refuses.
            DatabaseError: the database is away.
            OSError: a photograph cannot be kept.
        """
        with self._database.read() as session:
            standing = lessons.standing(session, instance=self._settings.label_studio_url, until=until)
            blind = lessons.blind_images(session, instance=self._settings.label_studio_url)
        if project_ids is not None:
            standing = tuple(one for one in standing if one.project_id in project_ids)
        found = verdicts_of(standing, blind)
        goods = {verdict.image.good_class for verdict in found.found}
        if len(goods) > 1:
            raise LearningError(
                f"the models that judged these photographs have different good classes ({', '.join(map(str, goods))}); "
                "learn from projects of one model at a time: --project"
            )
        good_class = goods.pop() if goods else None
        groups, notes = _groups(found.found)
        left_out, undrawn = list(found.left_out), []
        verdicts, samples = [], []
        for number, verdict in enumerate(found.found, start=1):
            path = self._photographs.find(verdict.image) or self._fetched(verdict)
            progress(number, len(found.found))
            if isinstance(path, LeftOut):
                left_out.append(path)
                continue
            try:
                marks = marks_of(verdict, good_class)
            except MarkError as error:
                marks = Marks()
                undrawn.append(LeftOut(UNDRAWN, f"{place_of(verdict.reviews[0])}: {error}"))
            verdicts.append(verdict)
            samples.append(_sample(verdict, path, marks, groups[verdict.image.sha256]))
        return Gathered(tuple(verdicts), tuple(samples), good_class, tuple(left_out), tuple(undrawn), blind, notes)

    def _fetched(self, verdict: Verdict) -> Path | LeftOut:
        """The photograph from the first of its tasks that still has it.

        Raises:
            LearningError: none gives it now, and one may do so later.
        """
        problem = LeftOut(UNREADABLE, place_of(verdict.reviews[0]))
        passing: tuple[str, ImageSourceError] | None = None
        for review in verdict.reviews:
            try:
                return self._photographs.fetch(verdict.image, self._address(review), review.task_id)
            except ReplacedImageError as error:
                problem = LeftOut(REPLACED, f"{place_of(review)}: {error}")
            except (ImageSourceError, LabelingConfigError, KeyError, ValueError) as error:
                problem = LeftOut(UNREADABLE, f"{place_of(review)}: {error}")
                if isinstance(error, ImageSourceError) and (error.retryable or isinstance(error, ImageLoginError)):
                    passing = place_of(review), error
        if passing is not None:
            place, why = passing
            raise LearningError(
                f"a photograph cannot be fetched now: {place}: {why}. Mend that or try again later; nothing was trained"
            ) from why
        return problem

    def _address(self, review: StandingReview) -> str:
        """Where a review's task says that its image is.

        Raises:
            ValueError: the task is gone, or names no image.
        """
        data = self._data(review)
        image = review.image
        if image is None or data is None:
            raise ValueError("Label Studio has no such task any more")
        for value in data.values():
            if isinstance(value, str) and address_sha256(value) == image.address_sha256:
                return value
        binding = bind_known(
            parse(self._configs[review.project_id]), image.classes, image.good_class, self._settings.label_mapping
        )
        if binding.image is None:
            raise ValueError("; ".join(binding.unbound) or "the labeling configuration shows no image")
        return binding.image.address(data)

    def _data(self, review: StandingReview) -> Mapping[str, Any] | None:
        if self._client is None:
            raise LearningError(
                "photographs have to be fetched from where Label Studio's tasks say; set "
                "INSPECTION_LABEL_STUDIO_API_KEY"
            )
        if review.project_id not in self._tasks:
            project = self._client.find_project(review.project_id)
            listed = self._client.tasks(review.project_id) if project is not None else ()
            self._configs[review.project_id] = str((project or {}).get("label_config") or "")
            self._tasks[review.project_id] = {int(task["id"]): task.get("data") or {} for task in listed}
        return self._tasks[review.project_id].get(review.task_id or 0)


def _groups(verdicts: Sequence[Verdict]) -> tuple[dict[str, str], tuple[str, ...]]:
    """What each photograph's group is called, by its hash, and notes: photographs of one part stay together.

    A serial number that many photographs have is that of a kind of parts.
    """
    counted = Counter(verdict.image.part_serial for verdict in verdicts)
    most = max(_MOST_OF_A_PART, _LARGEST_SHARE * len(verdicts))
    kinds = sorted(serial for serial, count in counted.items() if serial is not None and count > most)
    groups = {
        image.sha256: image.sha256 if image.part_serial in (None, *kinds) else f"part {image.part_serial}"
        for image in (verdict.image for verdict in verdicts)
    }
    notes = (
        f"{counted[serial]} photographs carry the part number {serial!r}, too many for one part; they are not kept "
        "together"
        for serial in kinds
    )
    return groups, tuple(notes)


def _sample(verdict: Verdict, path: Path, marks: Marks, group: str) -> Sample:
    return Sample(
        path=path.absolute(),
        label=verdict.labels[0],
        also=verdict.labels[1:],
        group=group,
        sha256=verdict.image.sha256,
        boxes=marks.boxes,
        polygons=marks.polygons,
        runs=marks.runs,
    )
