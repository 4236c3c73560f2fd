"""A desk whose inspectors have judged photographs of synthetic steel, and a server that has the tasks and files."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from backend.label_studio.image_addresses import address_sha256
from db import decisions, model_versions, predictions, reviews
from db.engine import Database
from inspection_models.data.synthetic_steel import make_steel
from tests.db import samples

CLASSES = ("good", "patches", "scratches")
SIZE = 64
PROJECT, BLIND = 3, 8
CONFIG = """<View><Image name="img" value="$image"/>
<Choices name="verdict" toName="img">
<Choice value="good"/><Choice value="patches"/><Choice value="scratches"/></Choices>
<RectangleLabels name="where" toName="img"><Label value="patches"/><Label value="scratches"/></RectangleLabels>
</View>"""
RECTANGLE = {
    "id": "r1", "type": "rectanglelabels", "from_name": "where", "to_name": "img",
    "original_width": SIZE, "original_height": SIZE, "image_rotation": 0,
    "value": {"x": 25, "y": 25, "width": 50, "height": 25, "rotation": 0, "rectanglelabels": ["scratches"]},
}  # fmt: skip


def photograph(label: str, index: int, seed: int = 1) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(make_steel(label, SIZE, seed, index).pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@dataclass
class Studio:
    """What the server has: files by name, and each project's tasks with the name of their file.

    `refused` are the files that it answers another status for.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tasks: dict[int, dict[int, str]] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)

    def answer(self, path: str) -> bytes | None:
        where = urlsplit(path)
        words = where.path.strip("/").split("/")
        if words[:2] == ["data", "upload"]:
            self.fetched.append(words[2])
            return self.files.get(words[2])
        if words[:2] == ["api", "projects"]:
            return json.dumps({"id": int(words[2]), "label_config": CONFIG}).encode()
        if words[:2] == ["api", "tasks"]:
            of = self.tasks.get(int(parse_qs(where.query)["project"][0]), {})
            listed = [{"id": task, "data": {"image": f"/data/upload/{name}"}} for task, name in sorted(of.items())]
            return json.dumps({"tasks": listed, "total": len(listed)}).encode()
        return None


@contextmanager
def studio() -> Iterator[Studio]:
    """A Label Studio as far as learning asks it."""
    has = Studio()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = has.answer(self.path)
            status = has.refused.get(self.path.rpartition("/")[2], 200 if body is not None else 404)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    has.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield has
    finally:
        server.shutdown()
        server.server_close()


class Shift:
    """Inspectors at work: each photograph becomes a task, a decision, a prediction and what was said of it."""

    def __init__(self, database: Database, has: Studio) -> None:
        self._database = database
        self._studio = has
        self._annotations = 0
        with database.write() as session:
            model_versions.register(session, samples.model(classes=CLASSES))

    def show(self, content: bytes, *, project: int = PROJECT, part: str | None = None) -> tuple[int, Any, Any]:
        """A task with the model's answer: its number, and the ids of decision and prediction."""
        digest = hashlib.sha256(content).hexdigest()
        of = self._studio.tasks.setdefault(project, {})
        task = 1000 * project + len(of) + 1
        of[task] = name = f"{task}.png"
        self._studio.files[name] = content
        new = samples.decision(
            image_sha256=digest, image_width=SIZE, image_height=SIZE, image_media_type="image/png",
            predicted_class="scratches", labels=("scratches",), exif_orientation=1,
            scores=dict.fromkeys(CLASSES, 0.3), explanations=(),
        )  # fmt: skip
        with self._database.write() as session:
            decided = decisions.record(session, new).id
            sent = samples.prediction(
                decided, instance=self._studio.url, project_id=project, task_id=task, part_serial=part,
                image_uri=f"/data/upload/{name}", image_address_sha256=address_sha256(f"/data/upload/{name}"),
            )  # fmt: skip
            return task, decided, predictions.record(session, sent).id

    def say(self, shown: tuple[int, Any, Any], label: str | None, **changes: Any) -> int:
        """A review of what was shown; its annotation's number."""
        task, decided, sent = shown
        self._annotations += 1
        fields: dict[str, Any] = {
            "instance": self._studio.url, "project_id": task // 1000, "task_id": task, "decision_id": decided,
            "prediction_id": sent, "annotation_id": self._annotations, "model_output_shown": True,
            "label_final": label, "labels_final": None if label is None else (label,), "regions_final": [],
            "region_changes": [], "outcome": "accepted" if label == "scratches" else "relabelled",
            "payload_sha256": samples.sha(f"payload {self._annotations}"),
        }  # fmt: skip
        return self._record({**fields, **changes})

    def say_again(self, annotation: int, label: str, shown: tuple[int, Any, Any], **changes: Any) -> None:
        later = samples.NOON + timedelta(hours=1)
        self.say(
            shown, label, annotation_id=annotation, action="updated", annotation_updated_at=later,
            payload_sha256=samples.sha(f"again {annotation} {label}"), **changes,
        )  # fmt: skip

    def delete(self, annotation: int, shown: tuple[int, Any, Any]) -> None:
        self.say(
            shown, None, annotation_id=annotation, action="deleted", outcome=None, annotation_updated_at=None,
            payload_sha256=samples.sha(f"gone {annotation}"),
        )  # fmt: skip

    def judge(self, label: str, indices: range, **changes: Any) -> list[tuple[int, Any, Any]]:
        """Photographs of a class, shown and called so."""
        shown = [self.show(photograph(label, index)) for index in indices]
        for one in shown:
            self.say(one, label, **changes)
        return shown

    def _record(self, fields: dict[str, Any]) -> int:
        with self._database.write() as session:
            reviews.record(session, samples.review(**fields))
        return int(fields["annotation_id"])
