"""A demo's own record in `demo.json`: Label Studio's port, and each project with what was uploaded to it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RECORD_FILE = "demo.json"


class DemoRecordError(RuntimeError):
    """The demo's record is damaged; the message says what to do."""


@dataclass(frozen=True)
class KeptProject:
    """One project of the demo.

    Attributes:
        project_id: its number in Label Studio.
        title: its title there.
        images: where its images come from: an absolute folder, or "synthetic".
        classes: of the model that its labeling configuration was made for.
        uploaded: name and SHA-256 of each file that was uploaded to it.
    """

    project_id: int
    title: str
    images: str
    classes: tuple[str, ...]
    uploaded: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class DemoRecord:
    """Label Studio's port, which its address in the database holds, and the projects."""

    label_studio_port: int
    projects: tuple[KeptProject, ...] = ()

    def project_for(self, images: str, classes: tuple[str, ...]) -> KeptProject | None:
        """The project of these images and classes."""
        return next((one for one in self.projects if (one.images, one.classes) == (images, classes)), None)

    def with_project(self, project: KeptProject) -> DemoRecord:
        """The record with this project, in place of an earlier one for the same images and classes."""
        others = (p for p in self.projects if (p.images, p.classes) != (project.images, project.classes))
        return replace(self, projects=(*others, project))


def read_record(directory: Path) -> DemoRecord | None:
    """The record in a demo's folder; None before its first start.

    Raises:
        DemoRecordError: it is damaged.
        OSError: it cannot be read.
    """
    path = directory / RECORD_FILE
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return DemoRecord(int(kept["label_studio_port"]), tuple(_project(one) for one in kept["projects"]))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, LookupError) as error:
        raise DemoRecordError(f"{path} is damaged; move {directory} away to begin anew") from error


def write_record(directory: Path, record: DemoRecord) -> None:
    """Keep the record, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    path = directory / RECORD_FILE
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def _project(kept: dict[str, object]) -> KeptProject:
    classes, uploaded = kept["classes"], kept["uploaded"]
    if not (isinstance(classes, list) and isinstance(uploaded, list)):
        raise TypeError("classes and uploaded files are lists")
    return KeptProject(
        int(str(kept["project_id"])),
        str(kept["title"]),
        str(kept["images"]),
        tuple(str(name) for name in classes),
        tuple((str(name), str(sha256)) for name, sha256 in uploaded),
    )
