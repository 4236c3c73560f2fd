"""A small desk for tests: a real network with random weights, a real database, and a server that holds task images."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import SecretStr

from backend.desk import Desk
from backend.settings import Settings
from inspection_models.classifier import DefectClassifier
from inspection_models.networks import build_network
from inspection_models.preprocessing import Preprocessing

CLASSES = ("good", "crack", "stain")
PASSWORD, TOKEN = "p\u00e4ss:word", "hook-token"
CONFIG = """<View>
<Choices name="verdict" toName="img"><Choice value="Good"/><Choice value="Crack"/><Choice value="Stain"/></Choices>
<PolygonLabels name="where" toName="img"><Label value="Crack"/><Label value="Stain"/></PolygonLabels>
<Image name="img" value="$image"/></View>"""


def write_model(
    directory: Path,
    *,
    seed: int = 0,
    classes: tuple[str, ...] = CLASSES,
    favourite: str = "crack",
    certainty: float = 2.0,
    **fields: Any,
) -> Path:
    """A model directory whose random network always prefers one class, so that tests know what it will say.

    `certainty` is by how many logits it does, before squeezing.

    Further fields are those of its card, such as thresholds.
    """
    torch.manual_seed(seed)
    network = build_network("squeezenet1_1", len(classes), pretrained=False).eval()
    head = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        head.bias.zero_()
        head.bias[classes.index(favourite)] = certainty
    classifier = DefectClassifier.assemble(
        network,
        name="tiny",
        architecture="squeezenet1_1",
        classes=classes,
        good_class="good",
        preprocessing=Preprocessing(mode="letterbox", size=(64, 64), mean=(127.0,) * 3, std=(128.0,) * 3),
        **fields,
    )
    classifier.save(directory)
    return directory


def png(width: int = 48, height: int = 32, seed: int = 0) -> bytes:
    """A small photograph of nothing in particular."""
    pixels = np.random.default_rng(seed).integers(60, 200, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@contextmanager
def image_server(files: dict[str, bytes]) -> Iterator[str]:
    """Serves `/data/upload/<name>` on loopback, as Label Studio does; the dictionary may change meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path.removeprefix("/data/upload/"))
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def settings_for(directory: Path, model: Path, label_studio_url: str, database_url: str | None = None) -> Settings:
    """Settings of a desk in a folder of its own."""
    return Settings(
        data_dir=directory,
        model=model,
        label_studio_url=label_studio_url,
        database_url=SecretStr(database_url) if database_url else None,
        password=SecretStr(PASSWORD),
        webhook_token=SecretStr(TOKEN),
    )


def open_desk(settings: Settings, *, work_off_queue: bool = True) -> Desk:
    """A desk that is not started yet."""
    return Desk.open(settings, work_off_queue=work_off_queue)


def task(task_id: int, name: str, **data: object) -> dict[str, object]:
    """A task as Label Studio sends it, shortened to what is read."""
    return {"id": task_id, "data": {"image": f"/data/upload/{name}", **data}, "project": 1}
