"""The tables of attribution-speed: on a processor, and on an NVIDIA card where the report has one."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import machine_line


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


def _spread(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return "–"
    return f"{ratio['median']:.1f} ({ratio['lowest']:.1f}–{ratio['highest']:.1f})"
