"""A shift: 200 photographs, three inspectors at Label Studio's API and one at the screen, and everything goes wrong.

At its end one `inspection reconcile` brings SQL to say what Label Studio says, to the last annotation.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psycopg
import pytest

from backend.demo.label_studio_server import LabelStudioCredentials, LabelStudioServer
from backend.demo.processes import free_port
from backend.label_studio.client import LabelStudioClient
from tests.backend import desks
from tests.e2e import colours, shift_comparison
from tests.e2e.faults import Weather, WebhookFates
from tests.e2e.relay import relay
from tests.e2e.shift_desk import ShiftDesk, Watch, watched
from tests.e2e.shift_inspectors import (
    Crew,
    Inspector,
    Ledger,
    Made,
    patiently,
    sign_up,
    tasks_by_photograph,
)
from tests.e2e.shift_plan import (
    BROWSER,
    INSPECTORS,
    Photograph,
    Plan,
    chosen,
    miss,
    plan_shift,
    relabel,
)
from tests.e2e.shift_screen import inspect_at_screen
from tests.e2e.test_desk import DeskPlace, opened
from tests.postgresql import Server, find_binaries, running_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

SEED = 20_261
DESK = "desk"
"""The user whose key the desk has."""
_QUEUE_SECONDS = 150.0
_RUNS_IN_BAD_WEATHER = 10


@dataclass
class Shift:
    """All that takes part."""

    label_studio: LabelStudioServer
    administrator: LabelStudioClient
    postgresql: Server
    desk: ShiftDesk
    project: int
    plan: Plan
    camera: dict[str, bytes]
    camera_url: str
    fates: WebhookFates
    weather: Weather
    watch: Watch
    backend_url: str
    users: dict[str, LabelStudioCredentials]
    crew: Crew
    ledger: Ledger
    known: dict[int, dict[str, Any]] = field(default_factory=dict)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.desk.place.run(*arguments)

    def predict(self) -> dict[str, Any]:
        done = self.run("predict", "--project", str(self.project), "--json")
        assert done.stdout, done.stderr
        return dict(json.loads(done.stdout))

    def look_up(self, photographs: tuple[Photograph, ...]) -> None:
        """Note the tasks of a delivery as they are now."""
        self.known.update(tasks_by_photograph(self.administrator, self.project, photographs))

    def sql(self, statement: str) -> list[Any]:
        with psycopg.connect(self.desk.place.database_url, autocommit=True) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server that may be stopped, as no other test has its connections."""
    binaries = find_binaries()
    assert binaries is not None, "no PostgreSQL server found (initdb); install one, e.g. apt-get install postgresql"
    with running_server(binaries) as server:
        yield server


@pytest.fixture
def shift(label_studio: LabelStudioServer, postgresql: Server, tmp_path: Path) -> Iterator[Shift]:
    """A desk whose every connection with Label Studio leads through a relay, its users, and a plan for them."""
    plan, fates, weather, camera = plan_shift(SEED), WebhookFates(SEED), Weather(SEED), dict[str, bytes]()
    database_url = postgresql.new_database()
    with ExitStack() as stack:
        administrator = stack.enter_context(LabelStudioClient(label_studio.url, label_studio.credentials.legacy_token))
        to_label_studio = stack.enter_context(relay(label_studio.url, free_port(), weather))
        camera_url = stack.enter_context(desks.image_server(camera))
        users = {name: sign_up(label_studio.url, administrator, name) for name in (*INSPECTORS, BROWSER, DESK)}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("INSPECTION_")},
            "INSPECTION_DATA_DIR": str(tmp_path),
            "INSPECTION_DATABASE_URL": database_url,
            "INSPECTION_MODEL": str(colours.write_model(tmp_path / "model")),
            "INSPECTION_PORT": str(free_port()),
            "INSPECTION_LABEL_STUDIO_URL": to_label_studio,
            "INSPECTION_LABEL_STUDIO_API_KEY": str(users[DESK].personal_access_token),
            "INSPECTION_ALLOWED_IMAGE_HOSTS": "127.0.0.1",
            "INSPECTION_RECONCILE_SECONDS": "0",
        }
        port = int(environment["INSPECTION_PORT"])
        place = DeskPlace(port, environment, database_url, label_studio.credentials.legacy_token)
        assert place.run("db", "upgrade").returncode == 0
        desk = ShiftDesk(place)
        desk.start()
        stack.callback(desk.kill)
        to_desk = stack.enter_context(relay(place.url, free_port(), fates))
        connected = place.run("connect", "--new", "Shift", "--backend-url", to_desk, "--json")
        assert connected.returncode == 0, connected.stderr
        project = int(json.loads(connected.stdout)["project_id"])
        config = administrator.project(project)["label_config"]
        watch = stack.enter_context(watched(desk, project, config))
        ledger, known, inspectors = Ledger(), dict[int, dict[str, Any]](), []
        for place_in_row, name in enumerate(INSPECTORS):
            # Either kind of token.
            kinds = (users[name].personal_access_token, users[name].legacy_token)
            client = stack.enter_context(LabelStudioClient(label_studio.url, str(kinds[place_in_row % 2])))
            inspectors.append(Inspector(client, plan.deeds[name], ledger, known, f"{SEED} {name}"))
        yield Shift(
            label_studio, administrator, postgresql, desk, project, plan, camera, camera_url, fates, weather,
            watch, to_desk, users, Crew(inspectors), ledger, known,
        )  # fmt: skip


def test_a_shift_in_which_everything_goes_wrong_ends_in_full_agreement(shift: Shift) -> None:
    deliver_first(shift)
    began, sent_home = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as screen:
        who = (shift.label_studio.url, shift.users[BROWSER], shift.project)
        at_the_screen = screen.submit(inspect_at_screen, *who, shift.known, shift.plan, shift.ledger, began, sent_home)
        try:
            ordinary_work(shift)
            kill_the_desk_in_mid_review(shift)
            assert began.wait(120)
            restart_label_studio(shift)
            deliver_the_second_and_kill_the_desk_while_it_predicts(shift)
            let_label_studio_answer_413_429_and_500(shift)
            rotate_every_secret(shift)
            take_the_database_away(shift)
            finish_the_work(shift)
        except BaseException:
            sent_home.set()
            raise
        at_the_screen.result(timeout=300)
    supervise(shift)
    replace_photographs(shift)
    settle(shift)
    require_that_something_went_wrong(shift)
    reconcile_once(shift)
    compare(shift)


def deliver_first(shift: Shift) -> None:
    first = upload(shift, 1)
    assert shift.predict()["predicted"] == len(first)
    require_kinds(shift, first)


def upload(shift: Shift, number: int) -> tuple[Photograph, ...]:
    """A delivery whose files lie in Label Studio."""
    delivery = shift.plan.of_delivery(number)
    shift.administrator.import_files(shift.project, [(one.name, file_of(one)) for one in delivery])
    return delivery


def deliver_to_camera(shift: Shift, number: int) -> tuple[Photograph, ...]:
    """A delivery that Label Studio knows by the addresses of its files alone."""
    delivery = shift.plan.of_delivery(number)
    shift.camera.update({one.name: file_of(one) for one in delivery if one.fate != "gone"})
    tasks = [{"data": {"image": f"{shift.camera_url}/data/upload/{one.name}", "part": one.name}} for one in delivery]
    path = f"api/projects/{shift.project}/import"
    shift.administrator._api.call("POST", path, "import tasks", json=tasks, timeout=60)
    return delivery


def ordinary_work(shift: Shift) -> None:
    shift.crew.begin(8)()


def kill_the_desk_in_mid_review(shift: Shift) -> None:
    finish = shift.crew.begin(16)
    shift.desk.kill()
    time.sleep(3)
    shift.desk.start()
    finish()


def restart_label_studio(shift: Shift) -> None:
    finish = shift.crew.begin(12)
    shift.label_studio.stop()
    shift.label_studio.start()
    finish()


def deliver_the_second_and_kill_the_desk_while_it_predicts(shift: Shift) -> None:
    delivery = deliver_to_camera(shift, 2)
    predicting = shift.desk.begin("predict", "--project", str(shift.project), "--json")
    finish = shift.crew.begin(16)
    wait_for(lambda: shift.sql("SELECT count(*) FROM prediction")[0][0] > len(shift.plan.of_delivery(1)) + 4)
    shift.desk.kill()
    shift.desk.start()
    finish()
    output, told = predicting.communicate(timeout=300)
    gone = {one.name for one in delivery if one.fate == "gone"}
    assert predicting.returncode == 1, told
    require_kinds(shift, delivery)
    done = json.loads(output)
    by_task = {shift.known[one.number]["id"]: one for one in delivery}
    assert {by_task[one["task"]].name for one in done["failed"]} == gone, told
    assert all("404" in one["reason"] or "no such" in one["reason"] for one in done["failed"]), done["failed"]


def let_label_studio_answer_413_429_and_500(shift: Shift) -> None:
    """Whatever becomes of predicting meanwhile, the next run goes on."""
    delivery = upload(shift, 3)
    shift.weather.is_bad = True
    finish = shift.crew.begin(12)
    for _ in range(_RUNS_IN_BAD_WEATHER):
        shift.run("predict", "--project", str(shift.project))
        if shift.weather.met.keys() >= set(Weather.KINDS):
            break
    finish()
    shift.weather.is_bad = False
    assert failed_photographs(shift, shift.predict()) == {"gone"}
    require_kinds(shift, delivery)


def rotate_every_secret(shift: Shift) -> None:
    """Label Studio's key of the desk, first run out, then void; and the desk's own password and token."""
    finish = shift.crew.begin(8)
    shift.weather.void_tokens()
    delivery = upload(shift, 4)
    assert failed_photographs(shift, shift.predict()) == {"gone"}
    require_kinds(shift, delivery)
    finish()
    finish = shift.crew.begin(8)
    old = shift.desk.place.environment["INSPECTION_LABEL_STUDIO_API_KEY"]
    answer = httpx.post(
        f"{shift.label_studio.url}/api/token/rotate/",
        json={"refresh": old},
        headers={"Authorization": f"Token {shift.users[DESK].legacy_token}"},
        timeout=30,
    )
    shift.weather.void_tokens()
    refused = shift.run("reconcile")
    assert refused.returncode == 1
    assert "make a new one in Label Studio" in refused.stderr
    shift.desk.place.environment["INSPECTION_LABEL_STUDIO_API_KEY"] = answer.raise_for_status().json()["refresh"]
    shift.desk.kill()
    shift.desk.start()
    assert shift.run("credentials", "rotate").returncode == 0
    connect = ("connect", "--project", str(shift.project), "--backend-url", shift.backend_url)
    assert shift.run(*connect).returncode == 0
    forgotten = shift.run("credentials", "forget")
    assert forgotten.returncode == 0, forgotten.stderr
    finish()


def take_the_database_away(shift: Shift) -> None:
    finish = shift.crew.begin(12)
    with psycopg.connect(shift.desk.place.database_url) as connection:
        connection.execute("LOCK TABLE job, review IN ACCESS EXCLUSIVE MODE")
        time.sleep(5)
    finish()
    finish = shift.crew.begin(12)
    shift.postgresql.stop()
    time.sleep(5)
    shift.postgresql.start()
    finish()


def finish_the_work(shift: Shift) -> None:
    shift.crew.begin(max(one.left for one in shift.crew.inspectors))()
    assert all(one.left == 0 for one in shift.crew.inspectors)


def supervise(shift: Shift) -> None:
    """The supervisor corrects what others made, and deletes tasks."""
    supervisor = Inspector(shift.administrator, (), shift.ledger, shift.known, f"{SEED} supervisor")
    fates = {shift.known[one.number]["id"]: one for one in shift.plan.photographs if one.fate}
    crack = [
        made
        for _, made in sorted(shift.ledger.made.items())
        if made.task not in fates and made.meant.label == "crack" and made.meant.outcome == "accepted"
    ]
    for made in crack[:4]:
        assert made.prediction is not None
        supervisor.change(made.annotation, relabel(made.prediction["result"], Random(SEED)))
    deleted = [number for number, one in fates.items() if one.fate == "task deleted"]
    body = {"selectedItems": {"all": False, "included": deleted}, "project": shift.project}
    path, params = "api/dm/actions/", {"id": "delete_tasks", "project": shift.project}
    patiently(lambda: shift.administrator._api.call("POST", path, "delete", params=params, json=body, timeout=60))
    for number in [number for number, made in shift.ledger.made.items() if made.task in deleted]:
        shift.ledger.dropped.add(number)
        del shift.ledger.made[number]


def replace_photographs(shift: Shift) -> None:
    """Under the same address stands another photograph; what was predicted of the former is deleted and asked anew."""
    replaced = tuple(one for one in shift.plan.photographs if one.fate == "replaced")
    for place, one in enumerate(replaced):
        shift.camera[one.name] = colours.photograph("good", 5000 + place)
    # Until somebody asks anew, what was predicted stays.
    before = [shift.known[one.number]["predictions"][0]["id"] for one in replaced]
    assert shift.predict()["predicted"] == 0
    for number in before:
        shift.administrator._api.call("DELETE", f"api/predictions/{number}/", "delete a prediction")
    assert shift.predict()["predicted"] == len(replaced)
    shift.look_up(replaced)
    for one in replaced:
        task = shift.known[one.number]
        [prediction] = task["predictions"]
        assert chosen(prediction["result"]) == "good"
        meant = miss(prediction["result"], Random(one.number))
        made = shift.administrator.create_annotation(
            task["id"], meant.result, parent_prediction=prediction["id"], lead_time=2.0
        )
        shift.ledger.made[made["id"]] = Made(made["id"], task["id"], prediction, True, meant)


def settle(shift: Shift) -> None:
    """Let what is on its way arrive, and the queue be worked off."""
    shift.fates.end()
    wait_for(
        lambda: not shift.sql("SELECT 1 FROM job WHERE kind = 'webhook' AND state IN ('queued', 'running') LIMIT 1"),
        _QUEUE_SECONDS,
    )


def require_that_something_went_wrong(shift: Shift) -> None:
    assert set(shift.fates.met) == set(WebhookFates.FATES), shift.fates.met
    assert set(shift.weather.met) >= {*Weather.KINDS, "token has run out"}, shift.weather.met
    assert shift.watch.answered > 100
    assert shift.watch.missed == []


def reconcile_once(shift: Shift) -> None:
    done = shift.run("reconcile", "--project", str(shift.project), "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["agrees"], told["failed"], told["waiting"]) == (0, True, 0, 0), done
    assert all(told["found"].values()), told["found"]


def compare(shift: Shift) -> None:
    """Label Studio, SQL and the plan, each read by itself."""
    tasks = shift_comparison.listed_tasks(
        shift.label_studio.url, shift.label_studio.credentials.legacy_token, shift.project
    )
    there = shift_comparison.in_label_studio(tasks, shift.ledger)
    with opened(shift.desk.place.database_url) as database:
        recorded = shift_comparison.in_sql(database, shift.project)
        assert recorded.keys() == there.keys() == shift.ledger.made.keys()
        plan = {number: shift_comparison.meant(made) for number, made in shift.ledger.made.items()}
        read = {number: standing.verdict for number, standing in there.items()}
        assert [(number, plan[number], read[number]) for number in plan if plan[number] != read[number]] == []
        assert [(one, recorded[number]) for number, one in there.items() if one != recorded[number]] == []
        outcomes = Counter(standing.verdict.outcome for standing in there.values())
        assert shift_comparison.counted_outcomes(database, shift.project) == outcomes
        assert shift_comparison.doubled_reviews(database, shift.project) == []
        judged = shift_comparison.judged_images(database, shift.project)
        seen = shift_comparison.seen_predictions(database, shift.project)
    require_seen_predictions(shift, seen)
    every = {"accepted", "adjusted", "relabelled", "rejected", "missed", "decided", "skipped", None}
    assert outcomes.keys() == every
    assert {standing.editor for standing in there.values()} == numbers_of_editors(shift)
    assert shift.ledger.dropped.isdisjoint(there)
    bare = {task["id"] for task in tasks if not task["annotations"]}
    assert bare & shift.ledger.drafted
    require_one_prediction_each(shift, tasks, judged)


def require_seen_predictions(shift: Shift, seen: dict[int, set[tuple[int | None, bool | None]]]) -> None:
    """That SQL knows from which prediction each annotation was made, and claims it of no other."""
    replaced = {shift.known[one.number]["id"] for one in shift.plan.photographs if one.fate == "replaced"}
    for number, made in shift.ledger.made.items():
        if made.prediction is None:
            assert seen[number] == {(None, None)}
        elif made.was_shown:
            # Label Studio forgets it with the prediction; what came by webhook before that stands.
            forgotten = {(None, None)} if made.task in replaced else set()
            assert seen[number] - forgotten <= {(made.prediction["id"], True)}, number
        else:
            assert seen[number] == {(None, None)}, number


def require_one_prediction_each(shift: Shift, tasks: list[dict[str, Any]], judged: dict[int, list[str]]) -> None:
    present = {task["id"] for task in tasks}
    for photograph in shift.plan.photographs:
        number = shift.known[photograph.number]["id"]
        of_files = [] if photograph.fate == "gone" else [file_of(photograph)]
        if photograph.fate == "replaced":
            of_files.append(shift.camera[photograph.name])
        assert judged.get(number, []) == [hashlib.sha256(one).hexdigest() for one in of_files], photograph
        assert (number in present) == (photograph.fate != "task deleted")
    for task in tasks:
        versions = [one["model_version"] for one in task["predictions"]]
        assert len(versions) == len(judged.get(task["id"], [])[:1]), task["id"]


def numbers_of_editors(shift: Shift) -> set[int]:
    """All inspectors, and the supervisor."""
    emails = {user.email for name, user in shift.users.items() if name != DESK}
    emails.add(shift.label_studio.credentials.email)
    users = shift.administrator._api.list("api/users/", "list the users")
    return {int(one["id"]) for one in users if one["email"] in emails}


def file_of(photograph: Photograph) -> bytes:
    """A photograph as it was delivered."""
    return colours.photograph(photograph.kind, photograph.number)


def require_kinds(shift: Shift, delivery: tuple[Photograph, ...]) -> None:
    """Note a delivery's tasks, and that the model says once of each photograph what was meant to be on it."""
    shift.look_up(delivery)
    for photograph in delivery:
        said = [chosen(one["result"]) for one in shift.known[photograph.number]["predictions"]]
        expected = {"unsure": [None]}.get(photograph.kind, [photograph.kind])
        assert said == ([] if photograph.fate == "gone" else expected), photograph


def failed_photographs(shift: Shift, done: dict[str, Any]) -> set[str]:
    """The fates of the photographs that could not be predicted."""
    numbers = {one["task"] for one in done["failed"]}
    return {one.fate for one in shift.plan.photographs if shift.known.get(one.number, {}).get("id") in numbers}


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
