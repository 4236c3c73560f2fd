"""The iron rule of the house: arrows point down only, and torchvision is imported through one door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "inspection_models": {
        "backend",
        "db",
        "sqlalchemy",
        "alembic",
        "fastapi",
        "uvicorn",
        "label_studio_ml",
        "label_studio_sdk",
    },
    "db": {
        "backend",
        "inspection_models",
        "torch",
        "torchvision",
        "fastapi",
        "uvicorn",
        "label_studio_ml",
        "label_studio_sdk",
    },
}


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_lower_rooms_do_not_look_up(package: str) -> None:
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules, f"no module found in {package}"
    offenders = {str(m.relative_to(ROOT)): imported_modules(m) & FORBIDDEN[package] for m in modules}
    assert not {m: names for m, names in offenders.items() if names}


def test_torchvision_comes_in_through_one_door() -> None:
    offenders = [
        str(module.relative_to(ROOT))
        for package in ("backend", "inspection_models", "db")
        for module in (ROOT / package).rglob("*.py")
        if module.name != "_torchvision.py" and "torchvision" in imported_modules(module)
    ]
    assert not offenders
