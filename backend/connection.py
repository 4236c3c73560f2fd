"""A Label Studio project connected with this desk: ML backend, webhook with its token, model version shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.credentials import WEBHOOK_HEADER
from backend.label_studio.binding import bind_known
from backend.label_studio.client import webhook_fields
from backend.label_studio.labeling_config import parse
from backend.label_studio.payloads import ANNOTATION_ACTIONS
from backend.label_studio.template import labeling_configuration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.credentials import Credentials
    from backend.label_studio.binding import Binding, ClassMapping
    from backend.label_studio.client import LabelStudioClient
    from backend.label_studio.labeling_config import LabelingConfig
    from backend.models_in_use import ModelIdentity

BACKEND_TITLE = "Inspection"
WEBHOOK_PATH = "/webhook"


@dataclass(frozen=True)
class ConnectedProject:
    """What connecting came to.

    Attributes:
        project_id: of the project, found or made.
        title: its title.
        was_created: whether it was made now.
        url: where its tasks are.
        unbound: sentences on what the labeling configuration cannot say; empty when every class has its words.
    """

    project_id: int
    title: str
    was_created: bool
    url: str
    unbound: tuple[str, ...]


def create_project(client: LabelStudioClient, title: str, model: ModelIdentity, *, heading: str) -> int:
    """Make a project whose labeling configuration has a choice for each class and a polygon label for each defect.

    Raises:
        LabelStudioError: Label Studio refused.
    """
    config = labeling_configuration(model.classes, model.good_class, heading=heading, takes_several=model.names_several)
    # The queue brings first what the model leaves to the inspector, then what it is least sure of.
    project = client.create_project(
        title, config, show_collab_predictions=True, show_annotation_history=True, sampling="Uncertainty sampling"
    )
    return int(project["id"])


def connect(
    client: LabelStudioClient,
    project_id: int,
    *,
    backend_url: str,
    model: ModelIdentity,
    credentials: Credentials,
    mapping: ClassMapping,
    was_created: bool = False,
) -> ConnectedProject:
    """Connect a project; safe to repeat, also after the model, the address or the credentials changed.

    An earlier connection of this desk is known by its title, its address and its webhook's header, and is changed in
    place; other backends and webhooks of the project are left alone.

    Raises:
        LabelStudioError: Label Studio refused, or cannot reach the backend.
        LabelingConfigError: the project's labeling configuration cannot be answered.
    """
    project = client.project(project_id)
    config = parse(str(project.get("label_config") or ""))
    binding = bind_known(config, model.classes, model.good_class, mapping)
    backend_url = backend_url.rstrip("/")
    former = _connect_backend(client, project_id, backend_url, credentials)
    former_webhooks = frozenset(address + WEBHOOK_PATH for address in former)
    _connect_webhook(client, project_id, backend_url + WEBHOOK_PATH, credentials, former_webhooks)
    return ConnectedProject(
        project_id=project_id,
        title=str(project["title"]),
        was_created=was_created,
        url=f"{client.url}/projects/{project_id}/data",
        unbound=what_cannot_be_said(config, binding, model),
    )


def what_cannot_be_said(config: LabelingConfig, binding: Binding, model: ModelIdentity) -> tuple[str, ...]:
    """What of a model's answers a labeling configuration has no words for, a sentence each."""
    told = (*config.notes, *binding.unbound)
    if model.names_several and binding.choice_control is not None and not binding.takes_several:
        told += (
            f"the model can name several defects of one image, and control '{binding.choice_control}' takes one, so "
            'only the most probable is ticked; give it choice="multiple"',
        )
    return told


def _connect_backend(client: LabelStudioClient, project_id: int, url: str, credentials: Credentials) -> frozenset[str]:
    """Leave exactly one ML backend that is this desk; gives the addresses it was known by.

    Label Studio asks the first backend of a project alone, so one left at a former address would answer for this one.
    """
    known = {int(backend["id"]): backend for backend in client.ml_backends(project_id)}
    ours = [number for number, backend in known.items() if _is_our_backend(backend, url)]
    if not ours:
        client.add_ml_backend(project_id, url, BACKEND_TITLE, user=credentials.username, password=credentials.password)
        return frozenset({url})
    client.update_ml_backend(
        ours[0],
        project=project_id,
        url=url,
        title=BACKEND_TITLE,
        auth_method="BASIC_AUTH",
        basic_auth_user=credentials.username,
        basic_auth_pass=credentials.password,
    )
    for twin in ours[1:]:
        client.delete_ml_backend(twin)
    return frozenset({url, *(_address(known[number]) for number in ours)})


def _connect_webhook(
    client: LabelStudioClient, project_id: int, url: str, credentials: Credentials, former_urls: frozenset[str]
) -> None:
    """Leave exactly one webhook to this backend: with the token, and for annotations only.

    Label Studio adds one by itself when a backend is connected, for every action and without credentials.
    """
    headers = {WEBHOOK_HEADER: credentials.webhook_token}
    ours = [hook for hook in client.webhooks(project_id) if _is_our_webhook(hook, former_urls | {url})]
    if not ours:
        client.add_webhook(project_id, url, headers=headers, actions=ANNOTATION_ACTIONS)
        return
    client.update_webhook(int(ours[0]["id"]), url=url, **webhook_fields(headers, ANNOTATION_ACTIONS))
    for twin in ours[1:]:
        client.delete_webhook(int(twin["id"]))


def _is_our_backend(backend: Mapping[str, Any], url: str) -> bool:
    return backend.get("title") == BACKEND_TITLE or _address(backend) == url


def _is_our_webhook(hook: Mapping[str, Any], urls: frozenset[str]) -> bool:
    carries_token = any(str(name).lower() == WEBHOOK_HEADER.lower() for name in hook.get("headers") or {})
    return _address(hook) in urls or (carries_token and _address(hook).endswith(WEBHOOK_PATH))


def _address(connected: Mapping[str, Any]) -> str:
    return str(connected.get("url", "")).rstrip("/")
