"""Whether the gate lets a better model through and stops a worse one, by the rules that come with the product.

Synthetic strip only, made here. Two models of the same recipe, one trained on four times as many photographs as the
other, are compared on frozen sets that neither has seen: the better one as the candidate, the worse one as the
candidate, and the better one again on a tenth of the photographs.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from backend.gate import GateRequest, render_page, report_json, run_gate
from benchmarks.machine import described
from inspection_models.data import write_synthetic_steel
from inspection_models.gate import default_rules, parse_rules
from inspection_models.training import TrainingRequest, train

if TYPE_CHECKING:
    from pathlib import Path

_SIDE = 160
_EPOCHS = 4
# Photographs a class, of seven, and the seed they are made from.
_TRAINED = {"first": (30, 31), "second": (120, 32)}
_GOLDEN = {"whole": (160, 33), "tenth": (16, 34)}


@dataclass(frozen=True)
class Comparison:
    """Which model would replace which, and on which frozen set that is asked."""

    candidate: str
    service: str
    golden: str


COMPARISONS = (
    Comparison("second", "first", "whole"),
    Comparison("first", "second", "whole"),
    Comparison("second", "first", "tenth"),
)


def run(folder: Path) -> dict[str, Any]:
    """Train both, make the frozen sets and compare; the reports stay in the folder."""
    torch.set_num_threads(1)
    models = {name: _model(folder, name) for name in _TRAINED}
    golden = {name: _made(folder / f"golden-{name}", *what) for name, what in _GOLDEN.items()}
    rules = parse_rules(default_rules(), "rules.toml")
    found = []
    for one in COMPARISONS:
        begun = time.monotonic()
        request = GateRequest(models[one.candidate], models[one.service], golden[one.golden], rules)
        result = run_gate(request)
        report = report_json(result)
        place = folder / f"gate-{one.candidate}-against-{one.service}-{one.golden}"
        place.mkdir(exist_ok=True)
        (place / "gate.html").write_text(render_page(result, report), encoding="utf-8")
        (place / "gate.json").write_text(report, encoding="utf-8")
        content = json.loads(report)
        found.append(
            {
                "candidate": _TRAINED[one.candidate][0],
                "service": _TRAINED[one.service][0],
                "verdict": result.verdict.words,
                "images": content["data"]["images"],
                "defective": content["data"]["defective"],
                "groups": content["data"]["groups"],
                "changed": len(content["changed"]),
                "seconds": round(time.monotonic() - begun, 1),
                "rules": [
                    {name: rule[name] for name in ("rule", "says", "outcome", "because", "further_parts", "measured")}
                    for rule in content["rules"]["outcomes"]
                ],
            }
        )
    return {"machine": described(), "classes": 7, "input": [_SIDE, _SIDE], "epochs": _EPOCHS, "comparisons": found}


def _model(folder: Path, name: str) -> Path:
    """The trained model's directory; that of an earlier run where there is one."""
    output = folder / f"model-{name}"
    if not output.is_dir():
        data = _made(folder / f"photographs-{name}", *_TRAINED[name])
        train(TrainingRequest(data=data, output=output, size=(_SIDE, _SIDE), epochs=_EPOCHS, seed=0))
    return output


def _made(target: Path, per_class: int, seed: int) -> Path:
    if not target.is_dir():
        making = target.with_name(f"{target.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        write_synthetic_steel(making, per_class=per_class, size=256, seed=seed)
        making.rename(target)
    return target
