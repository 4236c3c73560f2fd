"""A Label Studio project connected with this desk: ML backend, webhook with its token, model version shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import tostring  # nosec B405: writes only

from backend.credentials import WEBHOOK_HEADER
from backend.label_studio.binding import bind_known
from backend.label_studio.client import webhook_fields
from backend.label_studio.errors import LabelStudioError, LabelStudioFailedError, LabelStudioUnreachableError
from backend.label_studio.labeling_config import parse
from backend.label_studio.payloads import WEBHOOK_ACTIONS
from backend.label_studio.template import TEMPLATES, evidence_tag, labeling_configuration
from backend.map_addresses import has_maps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.credentials import Credentials
    from backend.label_studio.binding import Binding, ClassMapping
    from backend.label_studio.client import LabelStudioClient
    from backend.label_studio.labeling_config import LabelingConfig
    from backend.map_addresses import MapAddresses
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
        map_tag: what to write into the labeling configuration to see the maps; None where they are shown, and where the
            project is blind.
        is_blind: whether the project hides predictions from its inspectors.
    """

    project_id: int
    title: str
    was_created: bool
    url: str
    unbound: tuple[str, ...]
    map_tag: str | None
    is_blind: bool


def create_project(
    client: LabelStudioClient,
    title: str,
    model: ModelIdentity,
    *,
    heading: str,
    maps: MapAddresses,
    template: str = "default",
    images: int | None = None,
    is_blind: bool = False,
) -> int:
    """Make a project whose labeling configuration has a choice for each class and a label for each defect.

    It is not connected yet. The maps stand beside the image; their address holds the project's number, which it has
    only now, so `connect` brings that up to date.

    A blind project shows nothing of what the model says: no predictions, no maps, no answers, no order by its doubts.

    Args:
        template: one of `TEMPLATES`.
        images: how many each part has, where the template is for several.

    Raises:
        LabelStudioError: Label Studio refused, or did not say whether it has made the project.
    """
    chosen = TEMPLATES[template]
    if images is not None and chosen.images > 1:
        chosen = replace(chosen, images=images)
    config = labeling_configuration(
        model.classes,
        model.good_class,
        heading=heading,
        takes_several=model.names_several,
        template=chosen,
        is_blind=is_blind,
        maps=None if is_blind else maps.of_none,
    )
    # The queue brings first what the model leaves to the inspector, then what it is least sure of.
    sampling = "Uniform sampling" if is_blind else "Uncertainty sampling"
    try:
        project = client.create_project(
            title, config, show_collab_predictions=not is_blind, show_annotation_history=True, sampling=sampling
        )
    except (LabelStudioUnreachableError, LabelStudioFailedError) as error:
        raise type(error)(
            f"{error}. If Label Studio lists a new project “{title}” all the same, go on with `inspection connect "
            "--project NUMBER`; if not, run this again",
            error.status,
        ) from error
    return int(project["id"])


def connect(
    client: LabelStudioClient,
    project_id: int,
    *,
    backend_url: str,
    model: ModelIdentity,
    credentials: Credentials,
    mapping: ClassMapping,
    maps: MapAddresses,
    was_created: bool = False,
) -> ConnectedProject:
    """Connect a project; safe to repeat, also after the model, the address or the credentials changed.

    An earlier connection of this desk is known by its title, its address and its webhook's header, and is changed in
    place; other backends and webhooks of the project are left alone. Where the labeling configuration shows maps, their
    address is brought up to date, and nothing else is changed in it.

    Raises:
        LabelStudioError: Label Studio refused, or cannot reach the backend. Of a project that was made now it says so,
            and how to go on.
        LabelingConfigError: the project's labeling configuration cannot be answered.
    """
    try:
        return _connected(client, project_id, backend_url, model, credentials, mapping, maps, was_created=was_created)
    except LabelStudioError as error:
        if not was_created:
            raise
        raise type(error)(
            f"project {project_id} was made, and is not connected yet: {error}. Mend that and go on with "
            f"`inspection connect --project {project_id}`",
            error.status,
        ) from error


def _connected(
    client: LabelStudioClient,
    project_id: int,
    backend_url: str,
    model: ModelIdentity,
    credentials: Credentials,
    mapping: ClassMapping,
    maps: MapAddresses,
    *,
    was_created: bool,
) -> ConnectedProject:
    project = client.project(project_id)
    text = str(project.get("label_config") or "")
    config = parse(text)
    if (refreshed := maps.refreshed(text, project_id)) != text:
        client.update_project(project_id, label_config=refreshed)
    binding = bind_known(config, model.classes, model.good_class, mapping)
    backend_url = backend_url.rstrip("/")
    is_blind = project.get("show_collab_predictions") is False
    asks = not is_blind and any(control.asks for control in config.controls)
    former = _connect_backend(client, project_id, backend_url, credentials, is_interactive=asks)
    former_webhooks = frozenset(address + WEBHOOK_PATH for address in former)
    _connect_webhook(client, project_id, backend_url + WEBHOOK_PATH, credentials, former_webhooks)
    return ConnectedProject(
        project_id=project_id,
        title=str(project["title"]),
        was_created=was_created,
        url=f"{client.url}/projects/{project_id}/data",
        unbound=what_cannot_be_said(config, binding, model),
        map_tag=None if is_blind else _missing_map_tag(text, binding, maps.of(project_id)),
        is_blind=is_blind,
    )


def _missing_map_tag(label_config: str, binding: Binding, address: str) -> str | None:
    if has_maps(label_config) or binding.image is None:
        return None
    tags = [
        evidence_tag(address, image.variable, place if len(binding.images) > 1 else None)
        for place, image in enumerate(binding.images, start=1)
    ]
    return "".join(tostring(tag, encoding="unicode") for tag in tags)


def connected_projects(client: LabelStudioClient, webhook_token: str) -> frozenset[int]:
    """The numbers of the projects whose webhooks carry this desk's token.

    Raises:
        LabelStudioError: Label Studio is away or refuses.
    """
    return frozenset(
        int(hook["project"])
        for hook in client.all_webhooks()
        if hook.get("project") is not None
        and webhook_token in {value for name, value in (hook.get("headers") or {}).items() if _is_token_header(name)}
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


def _connect_backend(
    client: LabelStudioClient, project_id: int, url: str, credentials: Credentials, *, is_interactive: bool
) -> frozenset[str]:
    """Leave exactly one ML backend that is this desk; gives the addresses it was known by.

    Label Studio asks the first backend of a project alone, so one left at a former address would answer for this one.
    """
    known = {int(backend["id"]): backend for backend in client.ml_backends(project_id)}
    ours = [number for number, backend in known.items() if _is_our_backend(backend, url)]
    if not ours:
        client.add_ml_backend(
            project_id,
            url,
            BACKEND_TITLE,
            user=credentials.username,
            password=credentials.password,
            is_interactive=is_interactive,
        )
        return frozenset({url})
    client.update_ml_backend(
        ours[0],
        project=project_id,
        url=url,
        title=BACKEND_TITLE,
        auth_method="BASIC_AUTH",
        basic_auth_user=credentials.username,
        basic_auth_pass=credentials.password,
        is_interactive=is_interactive,
    )
    for twin in ours[1:]:
        client.delete_ml_backend(twin)
    return frozenset({url, *(_address(known[number]) for number in ours)})


def _connect_webhook(
    client: LabelStudioClient, project_id: int, url: str, credentials: Credentials, former_urls: frozenset[str]
) -> None:
    """Leave exactly one webhook to this backend: with the token, and for annotations and changed settings only.

    Label Studio adds one by itself when a backend is connected, for every action and without credentials.
    """
    headers = {WEBHOOK_HEADER: credentials.webhook_token}
    ours = [hook for hook in client.webhooks(project_id) if _is_our_webhook(hook, former_urls | {url})]
    if not ours:
        client.add_webhook(project_id, url, headers=headers, actions=WEBHOOK_ACTIONS)
        return
    client.update_webhook(int(ours[0]["id"]), url=url, **webhook_fields(headers, WEBHOOK_ACTIONS))
    for twin in ours[1:]:
        client.delete_webhook(int(twin["id"]))


def _is_our_backend(backend: Mapping[str, Any], url: str) -> bool:
    return backend.get("title") == BACKEND_TITLE or _address(backend) == url


def _is_our_webhook(hook: Mapping[str, Any], urls: frozenset[str]) -> bool:
    carries_token = any(_is_token_header(name) for name in hook.get("headers") or {})
    return _address(hook) in urls or (carries_token and _address(hook).endswith(WEBHOOK_PATH))


def _is_token_header(name: object) -> bool:
    return str(name).lower() == WEBHOOK_HEADER.lower()


def _address(connected: Mapping[str, Any]) -> str:
    return str(connected.get("url", "")).rstrip("/")
