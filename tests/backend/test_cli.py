"""The program as a person meets it: exit statuses, one clear line when something is wrong, files where they belong."""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.cli import program
from backend.cli.program import run
from backend.demo import session as demo_session
from inspection_models import environment
from tests.backend import desks


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return desks.write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(autouse=True)
def _own_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECTION_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(program, "DEFAULT_DATA_DIR", tmp_path / "home")


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["explain"],
        ["train", "--data", "x"],
        ["demo", "--backend-port", "0"],
        ["connect"],
        ["connect", "--project", "7", "--blind"],
    ],
)
def test_wrong_use_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["demo", "train", "explain", "serve", "worker", "connect", "predict", "reconcile", "failures", "doctor"]
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert len(capsys.readouterr().out) > 200


@pytest.mark.slow
def test_explain_writes_record_map_and_figure(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "part.png").write_bytes(desks.png(90, 60))
    out = tmp_path / "out"
    assert run(["explain", str(model), str(tmp_path / "part.png"), "--out", str(out), "--json"]) == 0
    [printed] = json.loads(capsys.readouterr().out)
    record = json.loads((out / "part.json").read_text())
    assert record == printed
    assert record["predicted"]["class"] == record["explained_class"] == "crack"
    assert sum(score["probability"] for score in record["scores"].values()) == pytest.approx(1, abs=1e-6)
    assert record["settings"]["method"] == "sise"
    attribution_map = np.load(out / "part.npy")
    assert attribution_map.shape == (60, 90)
    assert attribution_map.dtype == np.float32
    assert 0 <= attribution_map.min() <= attribution_map.max() <= 1
    for region in record["regions"]:
        points = np.array(region["polygon"])
        assert points.min() >= 0
        assert (points <= (90, 60)).all()
        x, y, width, height = (int(v) for v in region["box"])
        assert attribution_map[y : y + height, x : x + width].max() == pytest.approx(region["peak"])
    figure = Image.open(io.BytesIO((out / "part.overlay.png").read_bytes()))
    assert figure.width > 600


@pytest.mark.slow
def test_explain_a_chosen_class_the_same_way_twice(model: Path, tmp_path: Path) -> None:
    (tmp_path / "part.png").write_bytes(desks.png())
    maps = []
    for name in ("a", "b"):
        out = tmp_path / name
        assert run(["explain", str(model), str(tmp_path / "part.png"), "--out", str(out), "--class", "stain"]) == 0
        assert json.loads((out / "part.json").read_text())["explained_class"] == "stain"
        maps.append((out / "part.npy").read_bytes())
    assert maps[0] == maps[1]


@pytest.mark.slow
def test_a_good_part_is_explained_without_regions(tmp_path: Path) -> None:
    model = desks.write_model(tmp_path / "model", favourite="good")
    (tmp_path / "part.png").write_bytes(desks.png())
    assert run(["explain", str(model), str(tmp_path / "part.png"), "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "part.json").read_text())
    assert record["predicted"]["class"] == record["explained_class"] == "good"
    assert record["regions"] == []


@pytest.mark.slow
def test_one_unreadable_image_does_not_stop_the_others(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "torn.png").write_bytes(desks.png()[:80])
    (tmp_path / "whole.png").write_bytes(desks.png())
    images = [str(tmp_path / name) for name in ("torn.png", "gone.png", "whole.png")]
    assert run(["explain", str(model), *images, "--out", str(tmp_path / "out")]) == 1
    assert (tmp_path / "out" / "whole.overlay.png").is_file()
    errors = "".join(capsys.readouterr().err.split())
    assert "torn.png" in errors
    assert "gone.png" in errors


def test_twins_by_name_are_refused_before_anything_is_written(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in ("a", "b"):
        (tmp_path / folder / "part.png").write_bytes(desks.png())
    images = [str(tmp_path / folder / "part.png") for folder in ("a", "b")]
    assert run(["explain", str(model), *images, "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("extra", "expected"), [(["--class", "rust"], "good, crack, stain"), (["--method", "magic"], "sise")]
)
def test_unknown_class_or_method_names_what_there_is(
    model: Path, tmp_path: Path, extra: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "part.png").write_bytes(desks.png())
    assert run(["explain", str(model), str(tmp_path / "part.png"), "--out", str(tmp_path), *extra]) == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert expected in line


def test_a_model_that_was_changed_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in model.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    weights = bytearray((copy / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(bytes(weights))
    (tmp_path / "part.png").write_bytes(desks.png())
    assert run(["explain", str(copy), str(tmp_path / "part.png"), "--out", str(tmp_path)]) == 1
    assert "changed or damaged" in capsys.readouterr().err


def test_database_commands_tell_the_state_and_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["db", "check"]) == 1
    assert "inspection db upgrade" in capsys.readouterr().out
    assert run(["db", "upgrade"]) == 0
    assert run(["db", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.split("\n", 1)[1])["ok"] is True
    assert run(["models", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_serve_without_a_model_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("INSPECTION_PORT", str(free()))
    assert run(["serve"]) == 1
    assert "not a model directory" in capsys.readouterr().err


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("INSPECTION_PORT", "many")
    assert run(["db", "check"]) == 2
    assert "INSPECTION_PORT" in capsys.readouterr().err


def test_doctor_finds_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 1
    findings = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    assert findings["OpenCV"]["ok"]
    assert not findings["model"]["ok"]
    assert "INSPECTION_MODEL" in findings["model"]["found"]
    assert "INSPECTION_LABEL_STUDIO_API_KEY" in findings["Label Studio"]["found"]


def fail_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(demo_session.DemoSession, "__enter__", broken)


def test_a_full_disk_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail_with(OSError(errno.ENOSPC, "No space left on device"), monkeypatch)
    assert run(["demo"]) == 1
    assert capsys.readouterr().err == "error: the disk is full; free some room and start again\n"


def test_what_nobody_foresaw_is_one_line_and_a_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(ZeroDivisionError("by zero"), monkeypatch)
    assert run(["demo"]) == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "ZeroDivisionError" in line
    assert "Traceback" in (tmp_path / "home" / "errors.log").read_text()


def test_photographs_without_a_model_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["demo", "--images", str(tmp_path), "--directory", str(tmp_path / "demo")]
    ports = ["--label-studio-port", str(free()), "--backend-port", str(free())]
    assert run([*arguments, *ports]) == 1
    assert "--images needs --model" in capsys.readouterr().err


def free() -> int:
    from backend.demo.processes import free_port

    return free_port()


def test_the_environment_names_what_could_change_bits() -> None:
    found = environment.environment()
    assert json.loads(json.dumps(found)) == found
    assert found["packages"]["torch"]
    assert found == environment.environment()


def test_failures_are_shown_and_failed_webhooks_start_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from datetime import timedelta

    from db import failures, jobs
    from db.engine import Database
    from db.records import NewFailure

    assert run(["db", "upgrade"]) == 0
    database = Database(f"sqlite:///{tmp_path / 'data' / 'inspection.db'}")
    with database.write() as session:
        failures.record(session, NewFailure(kind="predict", reason="the image is torn", task_id=7))
        jobs.enqueue(session, "webhook", {})
        job = jobs.claim(session, owner="w", lease=timedelta(minutes=1))
        assert job is not None
        jobs.fail(session, job, "refused", retry=False)
    capsys.readouterr()
    assert run(["failures"]) == 0
    shown = capsys.readouterr().out
    assert "torn" in shown
    assert "1 failed" in shown
    assert run(["failures", "--retry", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["requeued"] == 1
    assert told["queue"] == {
        "queued": 1,
        "running": 0,
        "done": 0,
        "failed": 0,
        "oldest_waiting_since": told["queue"]["oldest_waiting_since"],
    }
    assert told["failures"][0]["task_id"] == 7


@pytest.mark.slow
def test_training_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from inspection_models.data import write_synthetic_steel

    write_synthetic_steel(tmp_path / "steel", per_class=8, size=64, seed=1)
    arguments = ["--data", str(tmp_path / "steel"), "--out", str(tmp_path / "model"), "--size", "64", "--epochs", "0"]
    assert run(["train", *arguments, "--json"]) == 0
    shown = capsys.readouterr()
    assert "begins at random" not in shown.err
    summary = json.loads(shown.out)
    assert summary["good_class"] == "good"
    assert len(summary["test"]["confusion"]) == 7
    assert summary["notes"] == json.loads((tmp_path / "model" / "training_summary.json").read_text())["notes"]
    assert (tmp_path / "model" / "weights.safetensors").is_file()
    assert run(["train", *arguments]) == 1
    assert "holds a model already" in capsys.readouterr().err
    assert run(["train", *arguments, "--overwrite"]) == 0
    assert "balanced accuracy" in capsys.readouterr().out


@pytest.mark.slow
def test_a_network_that_begins_at_random_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from inspection_models.data import write_synthetic_steel

    write_synthetic_steel(tmp_path / "steel", per_class=8, size=64, seed=1)
    arguments = ["train", "--data", str(tmp_path / "steel"), "--size", "64", "--epochs", "0"]
    squeezed = [*arguments, "--network", "shufflenet_v2_x0_5"]
    assert run([*squeezed, "--out", str(tmp_path / "first")]) == 0
    assert "begins at random" in capsys.readouterr().err
    weights = tmp_path / "first" / "weights.safetensors"
    assert run([*squeezed, "--out", str(tmp_path / "second"), "--weights", str(weights)]) == 0
    assert "begins at random" not in capsys.readouterr().err
    courses = [
        json.loads((tmp_path / name / "training_summary.json").read_text(encoding="utf-8"))["epochs"]
        for name in ("first", "second")
    ]
    assert [len(course) for course in courses] == [0, 1]
    assert [(tmp_path / name / "learning_curves.png").is_file() for name in ("first", "second")] == [False, True]
    assert run([*arguments, "--network", "shufflenet", "--out", str(tmp_path / "third")]) == 1
    assert "begins at random" not in capsys.readouterr().err


@pytest.mark.slow
def test_models_are_listed_switched_taken_back_and_retired(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INSPECTION_MODEL", str(model))
    first, second = (desks.write_model(tmp_path / name, favourite=name) for name in ("stain", "good"))
    assert run(["db", "upgrade"]) == 0
    assert run(["models", "activate", str(first), "--note", "first try"]) == 0
    assert run(["models", "activate", str(second)]) == 0
    capsys.readouterr()
    assert run(["models", "activate", str(second), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["changed"], told["project"], told["projects"]) == (False, None, [])
    assert run(["models", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [bool(one["in_use_for"]) for one in listed] == [False, True]
    assert all(Path(one["directory"]).is_relative_to(tmp_path / "data" / "models") for one in listed)
    assert run(["models", "retire", listed[1]["fingerprint"]]) == 1
    assert "activate another version there first" in capsys.readouterr().err
    assert run(["models", "back", "--note", "too strict"]) == 0
    assert "is in use for the desk" in capsys.readouterr().out
    assert run(["models", "retire", listed[1]["fingerprint"], "--note", "too strict"]) == 0
    assert run(["models", "activate", listed[1]["version"]]) == 1
    assert "inspection models reinstate" in capsys.readouterr().err
    assert run(["models", "reinstate", listed[1]["version"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] is True
    assert run(["models", "history", "--json"]) == 0
    events = json.loads(capsys.readouterr().out)
    assert [event["what"] for event in events] == ["activated", "activated", "taken back", "retired", "reinstated"]
    assert [event["why"] for event in events] == ["first try", None, "too strict", "too strict", None]
    assert all("@" in event["who"] for event in events)
    assert events[2]["undoes"] == events[1]["id"]
    assert run(["models", "history"]) == 0
    shown = capsys.readouterr().out
    assert shown.count(f"tiny {listed[0]['version']}") == 2
    assert "strict" in shown
    assert run(["models", "list"]) == 0
    assert f"tiny {listed[0]['version']}" in (shown := capsys.readouterr().out)
    assert "the desk" in shown


@pytest.mark.slow
def test_doctor_looks_at_the_models_that_are_in_use(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INSPECTION_MODEL", str(model))
    assert run(["db", "upgrade"]) == 0
    assert run(["models", "activate", str(desks.write_model(tmp_path / "stain", favourite="stain"))]) == 0
    capsys.readouterr()
    run(["doctor", "--json"])
    findings = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    assert findings["model"]["ok"]
    assert "activated" in findings["model"]["found"]
    [kept] = (tmp_path / "data" / "models").iterdir()
    (kept / "weights.safetensors").write_bytes(b"")
    run(["doctor", "--json"])
    findings = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    assert not findings["model"]["ok"]
    assert "changed or damaged" in findings["model"]["found"]
    assert "the one before answers" in findings["model"]["found"]
    assert run(["models", "list", "--json"]) == 0
    [listed] = json.loads(capsys.readouterr().out)
    assert listed["directory"] is None
    assert "changed or damaged" in listed["problem"]
