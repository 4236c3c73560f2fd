"""Inspectors of a shift: users of Label Studio with tokens of their own, who do what the plan says through its API."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

import httpx

from backend.demo.label_studio_server import LabelStudioCredentials
from backend.label_studio.client import LabelStudioClient
from backend.label_studio.errors import LabelStudioFailedError, LabelStudioMissingError, LabelStudioUnreachableError
from tests.e2e.shift_plan import Deed, Edit, Json, Meant, Photograph

_Given = TypeVar("_Given")
_PASSWORD = "Shift-0f-the-day"
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Made:
    """An annotation as its inspector left it, and the prediction that was before them."""

    annotation: int
    task: int
    prediction: Mapping[str, Any] | None
    was_shown: bool
    meant: Meant


@dataclass
class Ledger:
    """What all inspectors did. `dropped` are annotations that were deleted or taken back; `drafted` are tasks."""

    made: dict[int, Made] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    drafted: set[int] = field(default_factory=set)


def sign_up(url: str, administrator: LabelStudioClient, name: str) -> LabelStudioCredentials:
    """A new user of the organization, by its link of invitation, with a legacy and a personal access token."""
    invited = administrator._api.object("GET", "api/invite", "ask for the link of invitation")["invite_url"]
    email = f"{name}@example.com"
    with httpx.Client(base_url=url, follow_redirects=True, timeout=60, trust_env=False) as browser:
        page = browser.get(invited).text
        [hidden] = set(re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page))
        form = {"email": email, "password": _PASSWORD, "csrfmiddlewaretoken": hidden}
        browser.post(invited, data=form, headers={"Referer": url}).raise_for_status()
        legacy = browser.get("/api/current-user/token")
        legacy.raise_for_status()
        made = browser.post("/api/token/", headers={"X-CSRFToken": browser.cookies["csrftoken"], "Referer": url})
        made.raise_for_status()
    return LabelStudioCredentials(email, _PASSWORD, legacy.json()["token"], made.json()["token"])


class Inspector:
    """One who works through the API, as patient with a Label Studio that is away as a person.

    `known` are the tasks by photograph's number, and each task's prediction; the ledger is shared by all.
    """

    def __init__(
        self, client: LabelStudioClient, deeds: Sequence[Deed], ledger: Ledger, known: Mapping[int, Json], seed: str
    ) -> None:
        self.client = client
        self.number = int(client.whoami()["id"])
        self.done = 0
        self._deeds = deeds
        self._ledger = ledger
        self._known = known
        self._random = Random(seed)
        self._mine: dict[int, int] = {}

    @property
    def left(self) -> int:
        return len(self._deeds) - self.done

    def work(self, count: int) -> None:
        """The next deeds, one after the other."""
        for deed in self._deeds[self.done : self.done + count]:
            self._do(deed)
            self.done += 1

    def _do(self, deed: Deed) -> None:
        task = self._known[deed.photograph.number]
        if deed.what == "create":
            self._create(task, deed)
        elif deed.what == "draft":
            self._ledger.drafted.add(int(task["id"]))
            self._post(f"api/tasks/{task['id']}/drafts", self._meant(task, deed.edit).result)
        else:
            self._go_on(task, deed, self._mine[deed.photograph.number])

    def _create(self, task: Json, deed: Deed) -> None:
        meant, prediction = self._meant(task, deed.edit), _prediction(task)
        shown = prediction is not None and not deed.from_scratch
        fields: Json = {"was_cancelled": meant.was_cancelled, "lead_time": self._random.uniform(1, 30)}
        if prediction is not None and shown:
            fields["parent_prediction"] = prediction["id"]

        def create() -> int:
            # A call whose answer was lost may have been heard.
            there = self.client.annotations(task["id"])
            mine = [one["id"] for one in there if one["completed_by"] == self.number]
            return int((mine or [self.client.create_annotation(task["id"], meant.result, **fields)["id"]])[0])

        number = patiently(create)
        self._mine[deed.photograph.number] = number
        self._ledger.made[number] = Made(number, int(task["id"]), prediction, shown, meant)

    def _go_on(self, task: Json, deed: Deed, number: int) -> None:
        if deed.what == "change":
            self.change(number, self._meant(task, deed.edit))
        elif deed.what == "draft over":
            self._post(f"api/tasks/{task['id']}/annotations/{number}/drafts", self._meant(task, deed.edit).result)
        else:
            self._ledger.dropped.add(number)
            del self._ledger.made[number]
            patiently(lambda: self._drop(number, take_back=deed.what == "take back"))

    def change(self, number: int, meant: Meant) -> None:
        """Change an annotation, one's own or another's."""
        changes = {"result": meant.result, "was_cancelled": meant.was_cancelled}
        patiently(lambda: self.client.update_annotation(number, **changes))
        former = self._ledger.made[number]
        self._ledger.made[number] = Made(number, former.task, former.prediction, former.was_shown, meant)

    def _drop(self, number: int, *, take_back: bool) -> None:
        try:
            if take_back:
                self.client._api.call("POST", f"api/annotations/{number}/convert-to-draft", "take back", json={})
            else:
                self.client.delete_annotation(number)
        except LabelStudioMissingError:
            """Gone, by a call whose answer was lost."""

    def _post(self, path: str, result: Sequence[Json]) -> None:
        body = {"result": list(result), "lead_time": 1.0}
        patiently(lambda: self.client._api.call("POST", path, "keep a draft", json=body))

    def _meant(self, task: Json, edit: Edit) -> Meant:
        prediction = _prediction(task)
        return edit(prediction["result"] if prediction is not None else [], self._random)


class Crew:
    """The inspectors at work side by side.

    A step's deeds are the same whatever happens meanwhile: so many of each inspector, in their own order.
    """

    def __init__(self, inspectors: Sequence[Inspector]) -> None:
        self.inspectors = tuple(inspectors)

    def begin(self, count: int) -> Callable[[], None]:
        """Let each do so many deeds; gives what waits for their end. Returns once the first of them are done."""
        before = self._done()
        wanted = sum(min(count, one.left) for one in self.inspectors)
        failed: list[BaseException] = []
        threads = [threading.Thread(target=_kept, args=(one, count, failed)) for one in self.inspectors]
        for thread in threads:
            thread.start()

        def finish() -> None:
            for thread in threads:
                thread.join()
            if failed:
                raise failed[0]

        while self._done() - before < min(wanted, len(threads)) and any(thread.is_alive() for thread in threads):
            time.sleep(0.05)
        return finish

    def _done(self) -> int:
        return sum(one.done for one in self.inspectors)


def _kept(inspector: Inspector, count: int, failed: list[BaseException]) -> None:
    try:
        inspector.work(count)
    except BaseException as error:  # noqa: BLE001 - raised again where the crew is waited for
        failed.append(error)


def patiently(call: Callable[[], _Given]) -> _Given:
    """A call, again where Label Studio is away or fails, as a person presses the button again."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return call()
        except (LabelStudioUnreachableError, LabelStudioFailedError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def tasks_by_photograph(client: LabelStudioClient, project: int, photographs: Sequence[Photograph]) -> dict[int, Json]:
    """Each photograph's task as Label Studio lists it."""
    by_name = {str(one["data"]["image"]).rsplit("/", 1)[-1].rpartition("-")[2]: one for one in client.tasks(project)}
    return {one.number: by_name[one.name] for one in photographs if one.name in by_name}


def _prediction(task: Json) -> Json | None:
    return next(iter(task["predictions"]), None)
