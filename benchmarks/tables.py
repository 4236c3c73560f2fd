"""Tables in documents from the reports in benchmarks/results; here the README's, of speed and quality."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

README = Path(__file__).parents[1] / "README.md"
_OWN = "quorum"
_QUALITY = (
    ("ap", "AP"),
    ("ebpg", "EBPG"),
    ("miou", "mIoU"),
    ("bbox", "Bbox"),
    ("drop_mean", "Drop, mean ↓"),
    ("drop_blur", "Drop, blur ↓"),
    ("insertion_blur", "insertion"),
)


def write_tables(document: Path, results: Path, tables: Mapping[str, Callable[[dict[str, Any]], str]]) -> None:
    """Put `tables`, made from the reports of their names, between their marks in a document.

    A report that is not there yet leaves its table as it is.

    Raises:
        ValueError: the document has no such marks.
    """
    text = document.read_text(encoding="utf-8")
    for name, table in tables.items():
        report = results / f"{name}.json"
        if report.is_file():
            text = replaced(text, name, table(json.loads(report.read_text(encoding="utf-8"))))
    document.write_text(text, encoding="utf-8")


def replaced(text: str, name: str, content: str) -> str:
    """`text` with `content` between the marks of that name."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"there is no <!-- {name} --> … <!-- /{name} --> to write between")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def speed_table(report: dict[str, Any]) -> str:
    """A row a network and method: seconds, and how many times faster than the two others, with the spread."""
    lines = [
        "| network | method | masks | seconds | × straightforward SISE | × ScoreCAM, a picture | × ScoreCAM, a mask |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in report["cases"]:
        for method, figures in case["contestants"].items():
            cells = (
                case["network"],
                method,
                str(figures["masks"]),
                f"{figures['seconds']:.2f}",
                _spread(figures["faster_than_straightforward"]),
                _spread(figures["faster_than_score_cam"]),
                _spread(figures["faster_than_score_cam_a_mask"]),
            )
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", machine_line(report["machine"])]
    if "accelerated" in report:
        lines += ["", accelerated_table(report["accelerated"])]
    return "\n".join(lines)


def accelerated_table(report: dict[str, Any]) -> str:
    """A row a network, size and method on the accelerator: masks a second, peak memory, and how much faster it is."""
    peers = report["batches_of_peers"]
    ratios = [f"× {peer}, a {unit}" for peer in peers for unit in ("picture", "mask")]
    lines = [
        f"| network, px | method | masks | seconds | masks a second | peak memory, MB | {' | '.join(ratios)} |",
        "|---" * 10 + "|",
    ]
    for case in report["cases"]:
        for method, figures in case["contestants"].items():
            name = f"{case['network']}, {case['input'][0]}"
            title = f"ScoreCAM of {method}, batches of {peers[method]}" if method in peers else method
            if figures["out_of_memory"]:
                cells = ["–", "out of memory", *("–",) * 6]
            else:
                rate, peak = figures["masks_a_second"], figures["peak_megabytes"]
                cells = [
                    str(figures["masks"]),
                    f"{figures['seconds']:.2f}",
                    "–" if rate is None else f"{rate:.0f}",
                    "–" if peak is None else f"{peak}",
                    *(_spread(figures[key][peer]) for peer in peers for key in ("faster_than", "faster_than_a_mask")),
                ]
            lines.append(f"| {name} | {title} | {' | '.join(cells)} |")
    accelerator, packages = report["machine"]["accelerator"], report["machine"]["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "grad-cam", "torchcam") if name in packages)
    where = f"{accelerator['name']}, CUDA {accelerator['cuda']}" if accelerator else report["machine"]["cpu"]
    return "\n".join([*lines, "", f"*{where}, float32; {versions}.*"])


def quality_table(report: dict[str, Any]) -> str:
    """A table a data set and network: every method's figures in per cent; and what the product's has more."""
    parts = []
    for case in report["cases"]:
        accuracy = ", ".join(f"{100 * value:.0f}" for value in case["balanced_accuracy"])
        parts += [
            f"**{case['data']}, {case['network']}** ({case['images']} defects, {case['small_defects']} of them under "
            f"1 % of the picture; balanced accuracy by seed {accuracy} %)",
            "",
            "| method | " + " | ".join(title for _, title in _QUALITY) + " | AP, small |",
            "|---" * (len(_QUALITY) + 2) + "|",
        ]
        small = {row["method"]: row for row in case["rows_small"]}
        for row in case["rows"]:
            method = row["method"]
            cells = [_figure(case, method, row, key) for key, _ in _QUALITY]
            least = f"{100 * small[method]['figures']['ap']['value']:.1f}" if method in small else "–"
            parts.append(f"| {method} | " + " | ".join(cells) + f" | {least} |")
        parts.append("")
    return "\n".join([*parts, machine_line(report["machine"])])


def _figure(case: dict[str, Any], method: str, row: dict[str, Any], key: str) -> str:
    """The figure, with what the product's method has more of it, as an interval."""
    value = f"{100 * row['figures'][key]['value']:.1f}"
    if method == _OWN:
        return f"**{value}**"
    difference = case["own_against"][method][key]
    return f"{value} [{100 * difference['low']:+.0f}, {100 * difference['high']:+.0f}]"


def _spread(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return "–"
    return f"{ratio['median']:.1f} ({ratio['lowest']:.1f}–{ratio['highest']:.1f})"


def machine_line(machine: dict[str, Any]) -> str:
    """What the figures above it were measured on, in italics."""
    packages = machine["packages"]
    names = [name for name in ("torch", "onnxruntime", "grad-cam", "captum") if packages.get(name)]
    versions = ", ".join(f"{name} {packages[name]}" for name in names)
    return f"*{machine['cpu']}, {machine['threads']} threads; {versions}.*"


README_TABLES = {"attribution-speed": speed_table, "explanation-quality": quality_table}
