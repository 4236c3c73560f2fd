"""Label Studio and SQL compared by another road than the product's: its own reading of either, and what was meant."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from sqlalchemy import text

from db.engine import Database
from tests.e2e.shift_inspectors import Ledger, Made
from tests.e2e.shift_plan import REGIONS, Change, chosen

Json = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What is said of an annotation: by the plan, by Label Studio's content, or by SQL."""

    outcome: str | None
    label: str | None
    changes: frozenset[Change]


@dataclass(frozen=True)
class Standing:
    """What one side has of an annotation now. `editor` is the user who changed it last, by Label Studio's number."""

    task: int
    updated_at: datetime
    was_cancelled: bool
    regions: str
    editor: int
    verdict: Verdict


def listed_tasks(url: str, legacy_token: str, project: int) -> list[Json]:
    """All tasks in full, page by page."""
    found: list[Json] = []
    with httpx.Client(base_url=url, headers={"Authorization": f"Token {legacy_token}"}, timeout=120) as http:
        while True:
            query = {"project": project, "fields": "all", "page": len(found) // 50 + 1, "page_size": 50}
            answer = http.get("/api/tasks", params=query).raise_for_status().json()
            found += answer["tasks"]
            if len(found) == answer["total"]:
                return found


def in_label_studio(tasks: Sequence[Json], ledger: Ledger) -> dict[int, Standing]:
    """What Label Studio has, by the annotation's number. Which prediction was judged is known by the ledger."""
    return {
        one["id"]: Standing(
            task=task["id"],
            updated_at=datetime.fromisoformat(one["updated_at"].replace("Z", "+00:00")),
            was_cancelled=one["was_cancelled"],
            regions=_regions_as_text(one["result"]),
            editor=one["updated_by"] or one["completed_by"],
            verdict=read(one, ledger.made[one["id"]].prediction),
        )
        for task in tasks
        for one in task["annotations"]
    }


def meant(made: Made) -> Verdict:
    """What the plan says."""
    return Verdict(made.meant.outcome, made.meant.label, frozenset(made.meant.changes))


def read(annotation: Mapping[str, Any], prediction: Mapping[str, Any] | None) -> Verdict:
    """What an annotation says beside a prediction, in the words of the record."""
    if prediction is None:
        return Verdict(None, None, frozenset())
    if annotation["was_cancelled"]:
        return Verdict("skipped", None, frozenset())
    before, after = chosen(prediction["result"]), chosen(annotation["result"])
    changes = _changes(prediction["result"], annotation["result"])
    if before == after == "good" and changes:
        [drawn] = changes
        return Verdict("missed", drawn.label_after, changes)
    return Verdict(_outcome(before, after, changes), after, changes)


def _outcome(before: str | None, after: str | None, changes: frozenset[Change]) -> str:
    if after is None:
        return "skipped"
    if before is None:
        return "decided"
    if before != after:
        return {(True, False): "missed", (False, True): "rejected"}.get(
            (before == "good", after == "good"), "relabelled"
        )
    return "accepted" if all(change.kind == "kept" for change in changes) else "adjusted"


def _changes(predicted: Sequence[Json], final: Sequence[Json]) -> frozenset[Change]:
    before = {one["id"]: one["value"] for one in predicted if one["from_name"] == REGIONS}
    after = {one["id"]: one["value"] for one in final if one["from_name"] == REGIONS}
    found = set()
    for number in before.keys() | after.keys():
        was, now = before.get(number), after.get(number)
        labels = tuple(one["polygonlabels"][0] if one is not None else None for one in (was, now))
        if was is None or now is None:
            kind = "added" if was is None else "removed"
            found.add(Change(kind, number if was else None, number if now else None, *labels))  # type: ignore[arg-type]
        else:
            same = was["points"] == now["points"]
            kind = "relabelled" if labels[0] != labels[1] else "kept" if same else "moved"
            found.add(Change(kind, number, number, *labels))  # type: ignore[arg-type]
    return frozenset(found)


def in_sql(database: Database, project: int) -> dict[int, Standing]:
    """What SQL says of each annotation that it takes for present: the latest state by Label Studio's clock."""
    rows = _rows(database, "SELECT * FROM review WHERE project_id = :project", project=project)
    gone = {row["annotation_id"] for row in rows if row["action"] == "deleted"}
    users = {row["actor_id"]: row["ls_user_id"] for row in _rows(database, "SELECT actor_id, ls_user_id FROM actor")}
    present = [row for row in rows if row["annotation_id"] not in gone]
    standing: dict[int, Standing] = {}
    for row in sorted(present, key=lambda row: _instant(row["annotation_updated_at"])):
        standing[row["annotation_id"]] = Standing(
            task=row["task_id"],
            updated_at=_instant(row["annotation_updated_at"]),
            was_cancelled=bool(row["was_cancelled"]),
            regions=_regions_as_text(json.loads(row["regions_final"])),
            editor=users[row["actor_id"]],
            verdict=Verdict(row["outcome"], row["label_final"], _recorded_changes(row["region_changes"])),
        )
    return standing


def doubled_reviews(database: Database, project: int) -> list[Json]:
    """States of annotations that stand in SQL more than once; a deletion is a state."""
    rows = _rows(
        database,
        "SELECT annotation_id, action = 'deleted' AS gone, annotation_updated_at, count(*) AS often FROM review "
        "WHERE project_id = :project GROUP BY 1, 2, 3 HAVING count(*) > 1",
        project=project,
    )
    return [dict(row) for row in rows]


def counted_outcomes(database: Database, project: int) -> Counter[str | None]:
    """How often each outcome stands, counted by SQL."""
    rows = _rows(
        database,
        "SELECT outcome, count(*) AS often FROM (SELECT outcome, row_number() OVER (PARTITION BY annotation_id "
        "ORDER BY CASE action WHEN 'deleted' THEN 0 ELSE 1 END, annotation_updated_at DESC) AS place, action "
        "FROM review WHERE project_id = :project) AS latest WHERE place = 1 AND action <> 'deleted' GROUP BY outcome",
        project=project,
    )
    return Counter({row["outcome"]: row["often"] for row in rows})


def judged_images(database: Database, project: int) -> dict[int, list[str]]:
    """Hashes of the files that each task's predictions were made of, in the order in which they were sent."""
    rows = _rows(
        database,
        "SELECT p.task_id, d.image_sha256 FROM prediction p JOIN decision d ON d.decision_id = p.decision_id "
        "WHERE p.project_id = :project ORDER BY p.sent_at",
        project=project,
    )
    found: dict[int, list[str]] = {}
    for row in rows:
        found.setdefault(row["task_id"], []).append(row["image_sha256"])
    return found


def seen_predictions(database: Database, project: int) -> dict[int, set[tuple[int | None, bool | None]]]:
    """Of each annotation the prediction that it was made from, by Label Studio's number, and whether it was shown."""
    rows = _rows(
        database,
        "SELECT annotation_id, parent_prediction, model_output_shown FROM review "
        "WHERE project_id = :project AND action <> 'deleted'",
        project=project,
    )
    found: dict[int, set[tuple[int | None, bool | None]]] = {}
    for row in rows:
        shown = None if row["model_output_shown"] is None else bool(row["model_output_shown"])
        found.setdefault(row["annotation_id"], set()).add((row["parent_prediction"], shown))
    return found


def _recorded_changes(written: str | None) -> frozenset[Change]:
    names = ("change", "region_predicted", "region_final", "label_before", "label_after")
    return frozenset(Change(*(one[name] for name in names)) for one in json.loads(written or "[]"))


def _regions_as_text(result: Sequence[Json]) -> str:
    """All but the class, with numbers in one spelling: SQL keeps 3.0 as 3."""
    regions = [item for item in result if item["from_name"] == REGIONS]
    return json.dumps(json.loads(json.dumps(regions), parse_int=float), sort_keys=True)


def _instant(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(str(value))


def _rows(database: Database, statement: str, **values: object) -> list[Mapping[str, Any]]:
    with database.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(statement), values).mappings()]
