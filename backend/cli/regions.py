"""`inspection regions`: learn, for a trained model, how its regions are to be drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from backend.cli.progress import counting
from backend.cli.risks import share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inspection_models.classifier import DefectClassifier
    from inspection_models.data import Sample
    from inspection_models.region_learning import MarkedImage


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("regions")(learn)


def learn(
    model: Annotated[Path, typer.Argument(help="Model directory (weights.safetensors and model.json).")],
    data: Annotated[Path, typer.Option("--data", help="Photographs with masks, boxes or outlines of their defects.")],
    out: Annotated[Path, typer.Option("--out", help="Model directory to write; the network stays the same.")],
    layout: Annotated[
        str | None, typer.Option("--layout", help="Layout of the data; told by itself if left out.")
    ] = None,
    coverage: Annotated[
        str | None, typer.Option("--coverage", help="Share of a defect that its regions hold on average, as 90%.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of drawing images and of the head's first weights.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON report.")] = False,
) -> int:
    """Learn where to cut the map, whether to snap, and a head that draws; write a new version of the model.

    The head learns from the training part, the choice is made on the validation part: regions that overlap best with
    what is marked or, with --coverage, the smallest that hold so much of a defect. The overlap with what is
    marked is printed for the test part, before and after, with 95 % intervals over groups of alike images.
    """
    from inspection_models import DefectClassifier  # noqa: PLC0415
    from inspection_models.classifier import check_target  # noqa: PLC0415
    from inspection_models.data import load_dataset  # noqa: PLC0415
    from inspection_models.metrics import choose_part  # noqa: PLC0415
    from inspection_models.region_learning import learn_regions, marked_images  # noqa: PLC0415

    stated = None if coverage is None else share(coverage, "--coverage")
    check_target(out.absolute(), overwrite=overwrite)
    before = DefectClassifier.load(model)
    # Which class is good is the model's to say, not the data set's.
    dataset = load_dataset(data, layout=layout, good_class="")
    train, validation, test = (choose_part(before.card, dataset, part) for part in ("train", "validation", "test"))
    _check_marks(before, train.samples, validation.samples)
    with counting("starting") as tell:
        learned = learn_regions(
            before,
            train.samples,
            validation.samples,
            data_sha256=dataset.sha256,
            seed=seed,
            coverage=stated,
            progress=tell,
        )
        after = learned.classifier
        images = marked_images(before, test.samples, progress=tell)
        figures = _figures(before, after, images)
    after, attachments = _with_list(model, before, after, (*train.samples, *validation.samples))
    after.save(out, overwrite=overwrite, attachments=attachments)
    report = {
        "model": str(out),
        "version": after.version.version,
        "drawn_by": {"before": before.card.regions.drawn_by, "after": after.card.regions.drawn_by},
        "notes": list(test.notes),
        "origin": after.card.regions.origin,
        "test": figures,
    }
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _print(report, Console())
    return 0


def _check_marks(model: DefectClassifier, train: Sequence[Sample], validation: Sequence[Sample]) -> None:
    """Refuse data of which nothing could be learned, lest a head that is there be lost for nothing."""
    from inspection_models.data import DatasetError  # noqa: PLC0415
    from inspection_models.data.markings import is_marked  # noqa: PLC0415
    from inspection_models.region_learning import FEWEST_TO_JUDGE, FEWEST_TO_LEARN  # noqa: PLC0415

    learn, judge = (
        sum(sample.label != model.good_class and is_marked(sample) for sample in part) for part in (train, validation)
    )
    if learn < FEWEST_TO_LEARN and judge < FEWEST_TO_JUDGE:
        raise DatasetError(
            f"defects are marked in {learn} images of the training part and {judge} of the validation part; a head "
            f"needs {FEWEST_TO_LEARN}, the choice of how to draw {FEWEST_TO_JUDGE}: add masks, boxes or outlines"
        )


def _with_list(
    model: Path, before: DefectClassifier, after: DefectClassifier, samples: Sequence[Sample]
) -> tuple[DefectClassifier, dict[str, bytes]]:
    """The new version with the list of images that the former had seen, and those that its regions come from."""
    from inspection_models.training_record import (  # noqa: PLC0415
        HASH_KEY,
        IMAGES_FILE,
        images_sha256,
        read_list,
        seen_images,
        with_images,
    )

    listed = read_list(model, before.card)
    if listed is None:
        return after, {}
    known = seen_images(model, before.card) or frozenset()
    # Scores do not depend on them, as they do not on images that only lines were drawn from.
    listed = with_images(listed, [sample for sample in samples if sample.sha256 not in known], "lines")
    training = {**after.card.training, HASH_KEY: images_sha256(listed)}
    return after.with_settings(version=after.card.version, training=training), {IMAGES_FILE: listed}


def _figures(before: DefectClassifier, after: DefectClassifier, images: Sequence[MarkedImage]) -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415

    from inspection_models.metrics import mean_interval, paired_difference  # noqa: PLC0415
    from inspection_models.region_learning import head_maps_of, overlaps_of  # noqa: PLC0415

    if not images:
        return {}
    groups = [one.group for one in images]
    old, new = (
        overlaps_of(images, one.thresholds.region, one.card.regions, head_maps_of(one, images))
        for one in (before, after)
    )
    return {
        "before": asdict(mean_interval(old, groups=groups)),
        "after": asdict(mean_interval(new, groups=groups)),
        "more": asdict(paired_difference(new, old, groups=groups)),
    }


def _print(report: dict[str, Any], console: Console) -> None:
    for note in report["notes"]:
        console.print(f"note: {note}", style="yellow", highlight=False)
    table = Table(title="overlap of regions with what is marked (mean IoU)", title_justify="left")
    for column in ("part", "regions", "images", "mean", "95 %"):
        table.add_column(column)
    rows = [("validation", way, one) for way, one in report["origin"]["validation_mean_iou"].items()]
    rows += [("test", name, one) for name, one in report["test"].items()]
    for part, name, one in rows:
        table.add_row(part, name, str(one["of"]), f"{one['value']:.3f}", f"{one['low']:.3f} – {one['high']:.3f}")
    console.print(table)
    console.print(
        f"regions are drawn by: {report['drawn_by']['after']} (before: {report['drawn_by']['before']}); "
        f"version {report['version']} written to {report['model']}",
        highlight=False,
    )
