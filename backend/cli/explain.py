"""`inspection explain`: judge and explain image files with a model, without Label Studio or a database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

if TYPE_CHECKING:
    from backend.pipeline import ClassExplanation, DecisionPipeline, ExplainedImage


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("explain")(explain)


def explain(
    model: Annotated[Path, typer.Argument(help="Model directory (weights.safetensors and model.json).")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; made if absent.")],
    method: Annotated[
        str | None, typer.Option("--method", help="Attribution method; the model's own if left out.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="Class to explain; the predicted one if left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array instead of a table.")] = False,
) -> int:
    """Write <stem>.json, <stem>.npy (the map) and <stem>.overlay.png for every image.

    An image that cannot be read is reported and the others are still explained; the exit status is then 1.
    """
    from backend.pipeline import DecisionPipeline  # noqa: PLC0415
    from inspection_models import DefectClassifier  # noqa: PLC0415
    from inspection_models.images import ImageError  # noqa: PLC0415

    stems = [image.stem for image in images]
    twins = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twins:
        raise typer.BadParameter(f"two images would write the same files: {', '.join(twins)}; use one --out for each")
    console = Console(stderr=True)
    pipeline = DecisionPipeline(DefectClassifier.load(model))
    out.mkdir(parents=True, exist_ok=True)
    records, failures = [], 0
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for image in progress.track(images, description="explaining"):
            try:
                records.append(_explain_one(pipeline, image, out, method, label))
            except (ImageError, OSError) as error:
                failures += 1
                console.print(f"error: {image}: {_reason(error)}", style="red", highlight=False)
    if as_json:
        typer.echo(json.dumps(records, indent=2))
    else:
        _print_table(records, out)
    return 1 if failures else 0


def _reason(error: Exception) -> str:
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)


def _explain_one(
    pipeline: DecisionPipeline, image: Path, out: Path, method: str | None, label: str | None
) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415

    from inspection_models.overlay import OverlayContent, draw_overlay  # noqa: PLC0415

    data = image.read_bytes()
    # A good part deserves an answer to "why" too, so the predicted class is explained whatever it is.
    explained = pipeline.explain(data, classes=[label] if label else None, only_predicted=not label, method=method)
    first = explained.explanations[0]
    record = _record(pipeline, image, explained, first)
    (out / f"{image.stem}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    np.save(out / f"{image.stem}.npy", first.attribution_map)
    version = pipeline.classifier.version
    content = OverlayContent(
        pixels=explained.image.pixels,
        attribution_map=first.attribution_map,
        regions=first.regions,
        classes=[(name, entry["probability"]) for name, entry in record["scores"].items()],
        explained=first.label,
        strength=_strength(pipeline, first),
        title=f"{image.name}: {explained.prediction.label} ({explained.prediction.probability:.1%})",
        footnote=(
            f"{version.name} {version.version} · {first.attribution.settings['method']} · "
            f"{_masks(first)}{_tiles(first)}percentages: share of the evidence inside a region"
        ),
    )
    (out / f"{image.stem}.overlay.png").write_bytes(draw_overlay(content))
    return record


def _strength(pipeline: DecisionPipeline, explanation: ClassExplanation) -> float | None:
    """On the absolute scale, which is learned of maps that speak for a defect."""
    if explanation.label == pipeline.classifier.good_class:
        return None
    return pipeline.classifier.card.regions.strength(explanation.probability)


def _masks(explanation: ClassExplanation) -> str:
    count = explanation.masks_scored
    return f"{count} masks · " if count else ""


def _tiles(explanation: ClassExplanation) -> str:
    tiles = explanation.tiles
    return "" if tiles is None else f"{len(tiles.shown)} of {tiles.looked_at} tiles explained · "


def _record(
    pipeline: DecisionPipeline, image: Path, explained: ExplainedImage, explanation: ClassExplanation
) -> dict[str, Any]:
    from inspection_models.stitching import map_step  # noqa: PLC0415

    classifier, prediction = pipeline.classifier, explained.prediction
    height, width = explained.image.pixels.shape[:2]
    return {
        "image": {"file": image.name, "sha256": explained.image.sha256, "width": width, "height": height},
        "model": {
            "name": classifier.version.name,
            "version": classifier.version.version,
            "fingerprint": classifier.version.fingerprint,
        },
        "predicted": {"class": prediction.label, "probability": prediction.probability, "defect": prediction.is_defect},
        "scores": {
            name: {"probability": float(p), "logit": float(z)}
            for name, p, z in zip(classifier.classes, prediction.probabilities, prediction.logits, strict=True)
        },
        "explained_class": explanation.label,
        "map_strength": _strength(pipeline, explanation),
        "regions": [
            {
                "class": explanation.label,
                "evidence": region.evidence,
                "drawn_by": region.drawn_by,
                "has_evidence": region.has_evidence,
                "peak": region.peak,
                "area": region.area,
                "box": [float(v) for v in region.box],
                "polygon": region.polygon.tolist(),
                "holes": [hole.tolist() for hole in region.holes],
            }
            for region in explanation.regions
        ],
        "settings": {
            **explanation.attribution.settings,
            "blocks": [
                {"name": b.name, "channels": b.channels, "size": list(b.size)} for b in explanation.attribution.blocks
            ],
            "masks_scored": explanation.masks_scored,
        },
        # Without tiles the image was looked at whole; a map's cell is so many image pixels wide and high.
        "tiles": None if explanation.tiles is None else explanation.tiles.to_dict(),
        "map_step": 1 if explanation.tiles is None else map_step((height, width)),
        "timings_ms": dict(explained.timings_ms),
    }


def _print_table(records: list[dict[str, Any]], out: Path) -> None:
    table = Table(title=f"written to {out}", title_justify="left")
    for column in ("image", "class", "probability", "explained", "regions", "evidence in regions"):
        table.add_column(column)
    for record in records:
        share = sum(region["evidence"] for region in record["regions"])
        table.add_row(
            record["image"]["file"],
            record["predicted"]["class"],
            f"{record['predicted']['probability']:.3f}",
            record["explained_class"],
            str(len(record["regions"])),
            f"{share:.0%}" if record["regions"] else "–",
        )
    Console().print(table)
