"""Where a labeling page finds the maps of its project's photographs: addresses that nobody can guess.

An inspector's browser is not logged in at the desk, so the address itself says that it may be read: it carries a keyed
hash of the project's number. Who has it and the address of a photograph that was judged in that project, which the page
fills in, sees that photograph, small, under its maps. For any other address nothing is read, and the answer is the same
whatever lies there. The signed address stands in the project's labeling configuration, which is shown to whoever may
work on the project.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAPS_PATH = "/maps/"
# The largest number that every database takes; Label Studio counts its projects from 1.
_NO_PROJECT = 2**31 - 1
_PATH = re.compile(r"/maps/(?P<project>[1-9][0-9]{0,17})/(?P<token>[A-Za-z0-9_-]{43})\.jpg", re.ASCII)
_ADDRESS = re.compile(r"(?<=[\"'])[^\"'<>\s]*" + _PATH.pattern + r"(?=\?image=\$)", re.ASCII)


@dataclass(frozen=True)
class MapAddresses:
    """Makes and checks the addresses. `public_url` is the desk as inspectors' browsers reach it."""

    public_url: str
    key: str = field(repr=False)

    def of(self, project_id: int) -> str:
        """The address for a project; `?image=` and the photograph's own address are to be added."""
        return f"{self.public_url.rstrip('/')}{MAPS_PATH}{project_id}/{_token(self.key, project_id)}.jpg"

    @property
    def of_none(self) -> str:
        """An address for the configuration of a project that has no number yet: `refreshed` puts the right one there.

        What it shows until then is that there is no map.
        """
        return self.of(_NO_PROJECT)

    def refreshed(self, label_config: str, project_id: int) -> str:
        """A labeling configuration whose addresses of maps, of whatever desk and key, are those of today."""
        return _ADDRESS.sub(lambda _: self.of(project_id), label_config)


def without_permission(label_config: str) -> str:
    """A labeling configuration to be kept: what lets its reader see the maps is cut out of their addresses."""
    return _ADDRESS.sub("…", label_config)


def has_maps(label_config: str) -> bool:
    """Whether a labeling configuration shows maps."""
    return _ADDRESS.search(label_config) is not None


def allowed_project(path: str, keys: Iterable[str]) -> int | None:
    """The project whose maps a request's path may read; None for a path that was signed with none of `keys`."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    project_id = int(found["project"])
    # All are compared, so that the time taken does not tell which one was right.
    equal = [hmac.compare_digest(found["token"], _token(key, project_id)) for key in keys]
    return project_id if any(equal) else None


def _token(key: str, project_id: int) -> str:
    digest = hmac.new(key.encode(), f"maps of project {project_id}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
