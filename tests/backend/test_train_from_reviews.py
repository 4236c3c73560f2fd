"""`inspection train --from-reviews`: what it learns from, what it holds and leaves out, and what it leaves behind."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.cli.program import run
from backend.desk import image_source
from backend.learning import gathering, lesson_set, verdicts
from backend.settings import Settings
from db import lessons, model_versions
from db.engine import Database
from inspection_models.data.synthetic_steel import write_synthetic_steel
from inspection_models.model_card import CARD_FILE, read_card
from inspection_models.training_record import IMAGES_FILE
from tests.backend import desks
from tests.backend.learning_material import (
    BLIND,
    CLASSES,
    PROJECT,
    RECTANGLE,
    SIZE,
    Shift,
    Studio,
    photograph,
    studio,
)

TINY = ["--network", "squeezenet1_1", "--size", "64", "--epochs", "1", "--tiling", "off", "--explanation", "grad-cam"]


@pytest.fixture
def here(own_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A Label Studio, and the settings of a desk beside it."""
    with studio() as has:
        monkeypatch.setenv("INSPECTION_DATA_DIR", str(tmp_path / "desk"))
        monkeypatch.setenv("INSPECTION_LABEL_STUDIO_URL", has.url)
        monkeypatch.setenv("INSPECTION_LABEL_STUDIO_API_KEY", "0123456789abcdef0123456789abcdef01234567")
        monkeypatch.setenv("INSPECTION_DATABASE_URL", own_database.engine.url.render_as_string(hide_password=False))
        yield has


@pytest.fixture
def shift(own_database: Database, here: Studio) -> Shift:
    return Shift(own_database, here)


def dry(capsys: pytest.CaptureFixture[str], *options: str, status: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["train", "--from-reviews", "--dry-run", "--json", *options]) == status
    return dict(json.loads(capsys.readouterr().out))


def a_day(shift: Shift, number: int = 4) -> None:
    for label in ("good", "patches", "scratches"):
        shift.judge(label, range(number))


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_verdict_that_stands_is_the_label(shift: Shift, here: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    a_day(shift)
    [corrected] = shift.judge("patches", range(10, 11))
    number = shift.say(corrected, "patches")
    shift.say_again(number, "scratches", corrected)
    # Of the two annotations the first still says patches; deleted, it says nothing any more.
    found = dry(capsys)
    assert found["reviews"]["left_out"][verdicts.DISAGREEMENT]["count"] == 1
    shift.delete(number - 1, corrected)
    skipped = shift.show(photograph("good", 20))
    shift.say(skipped, None, outcome="skipped", was_cancelled=True)
    found = dry(capsys)
    assert found["counts"] == {"good": 4, "patches": 4, "scratches": 5}
    assert found["good_class"] == "good"
    assert found["reviews"]["photographs"] == found["reviews"]["reviews"] == 13
    assert found["reviews"]["outcomes"] == {"accepted": 5, "relabelled": 8}
    assert found["reviews"]["left_out"] == {verdicts.SKIPPED: {"count": 1, "named": ["task 3014 of project 3"]}}


def test_of_inspectors_who_disagree_the_ground_truth_counts(shift: Shift, capsys: pytest.CaptureFixture[str]) -> None:
    a_day(shift)
    doubtful = shift.show(photograph("good", 30))
    shift.say(doubtful, "good", outcome="rejected")
    shift.say(doubtful, "scratches")
    left_out = dry(capsys)["reviews"]["left_out"]
    assert left_out[verdicts.DISAGREEMENT]["named"] == ["task 3013 of project 3"]
    shift.say(doubtful, "patches", ground_truth=True)
    found = dry(capsys)
    assert verdicts.DISAGREEMENT not in found["reviews"]["left_out"]
    assert found["counts"]["patches"] == 5


def test_a_defect_without_a_known_class_contradicts_a_good_part(
    shift: Shift, capsys: pytest.CaptureFixture[str]
) -> None:
    a_day(shift)
    for ground_truth, reason in ((False, verdicts.DISAGREEMENT), (True, verdicts.NO_CLASS)):
        seen = shift.show(photograph("good", 30 + ground_truth))
        shift.say(seen, "good", outcome="rejected")
        shift.say(seen, None, labels_final=(), outcome="missed", ground_truth=ground_truth)
        found = dry(capsys)
        assert found["reviews"]["left_out"][reason]["count"] == 1
        assert found["counts"]["good"] == 4


def test_no_class_of_the_model_in_use_is_unlearned(
    shift: Shift, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shift.judge("good", range(4))
    shift.judge("patches", range(4))
    model = desks.write_model(tmp_path / "model", classes=CLASSES, favourite="patches")
    monkeypatch.setenv("INSPECTION_MODEL", str(model))
    assert run(["train", "--from-reviews", "--dry-run"]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "the model in use knows scratches, and no photograph to learn from shows it" in told
    assert "--data DIR" in told
    shift.judge("scratches", range(4))
    assert set(dry(capsys)["counts"]) == set(CLASSES)


def test_a_folder_of_defects_alone_keeps_the_good_class_of_the_reviews(
    shift: Shift, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_day(shift)
    for number, label in enumerate(("patches", "scratches")):
        (tmp_path / "folder" / label).mkdir(parents=True)
        (tmp_path / "folder" / label / "x.png").write_bytes(photograph(label, 50 + number))
    assert dry(capsys, "--data", str(tmp_path / "folder"))["good_class"] == "good"


def test_a_replaced_image_is_left_out_and_named_and_none_is_fetched_twice(
    shift: Shift, here: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    a_day(shift)
    dry(capsys)
    before = len(here.fetched)
    assert before == 12
    [replaced], [gone] = shift.judge("good", range(40, 41)), shift.judge("good", range(41, 42))
    here.files[f"{replaced[0]}.png"] = photograph("good", 42)
    del here.files[f"{gone[0]}.png"]
    found = dry(capsys)
    assert len(here.fetched) == before + 2
    assert found["counts"]["good"] == 4
    left_out = found["reviews"]["left_out"]
    assert f"task {replaced[0]} of project 3" in left_out[gathering.REPLACED]["named"][0]
    assert "does not exist" in left_out[gathering.UNREADABLE]["named"][0]


@pytest.mark.parametrize(("status", "said"), [(503, "status 503"), (401, "INSPECTION_LABEL_STUDIO_API_KEY")])
def test_an_outage_ends_the_training_rather_than_thin_its_lessons(
    shift: Shift, here: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, said: str
) -> None:
    a_day(shift)
    [away] = shift.judge("good", range(40, 41))
    here.refused[f"{away[0]}.png"] = status
    assert run(["train", "--from-reviews", "--out", str(tmp_path / "m"), *TINY]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert said in told and f"task {away[0]} of project 3" in told
    assert "try again later; nothing was trained" in told
    here.refused.clear()
    assert dry(capsys)["counts"]["good"] == 5


def test_of_several_tasks_one_that_gives_the_photograph_is_enough(
    shift: Shift, here: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    a_day(shift)
    content = photograph("good", 40)
    for project in (3, 4):
        shift.say(shift.show(content, project=project), "good")
    here.refused["3013.png"] = 503
    assert dry(capsys)["counts"]["good"] == 5


def test_what_measures_is_never_learned_from(
    shift: Shift, here: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a_day(shift, 6)
    golden = tmp_path / "golden"
    golden.mkdir()
    (golden / "a.png").write_bytes(photograph("patches", 0))
    # The same picture, darker and under another file.
    darker = np.asarray(Image.open(io.BytesIO(photograph("scratches", 1)))).astype(float) * 0.9
    Image.fromarray(np.rint(darker).astype(np.uint8)).save(golden / "b.bmp")
    shift.say(shift.show(photograph("good", 2), project=BLIND), "good", model_output_shown=False)
    monkeypatch.setenv("INSPECTION_HELD_OUT", str(golden))
    found = dry(capsys)
    assert found["counts"] == {"good": 5, "patches": 5, "scratches": 5}
    assert found["reviews"]["held"] == {
        "by_hash": 1, "near_duplicates": 1, "of_blind_projects": 1, "tested_only": 0
    }  # fmt: skip
    left_out = found["reviews"]["left_out"]
    assert left_out[lesson_set.HELD_AS_TWIN]["named"] == [f"{sha(photograph('scratches', 1))}.png"]
    # Held in one project, it is held in all, and in the folder too.
    folder = tmp_path / "folder" / "good"
    folder.mkdir(parents=True)
    (folder / "x.png").write_bytes(photograph("good", 2))
    (folder / "y.png").write_bytes(photograph("good", 50))
    (tmp_path / "folder" / "patches").mkdir()
    (tmp_path / "folder" / "patches" / "z.png").write_bytes(photograph("patches", 0))
    both = dry(capsys, "--project", "3", "--data", str(tmp_path / "folder"))
    assert both["counts"] == {"good": 6, "patches": 5, "scratches": 5}


def test_what_a_blind_project_has_is_held_whatever_became_of_its_reviews(
    shift: Shift, here: Studio, own_database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    a_day(shift, 6)
    deleted, _unreviewed, late = (shift.show(photograph("good", index), project=BLIND) for index in range(3))
    assert "of a blind" not in str(dry(capsys)["reviews"]["left_out"]), "before its first review nobody knows"
    number = shift.say(deleted, "good", model_output_shown=False)
    shift.delete(number, deleted)
    asked = datetime.now(timezone.utc)
    shift.say(late, "good", model_output_shown=False)
    with own_database.read() as session:
        held = lessons.blind_images(session, instance=here.url)
        assert lessons.blind_images(session, instance="http://another") == frozenset()
    assert held == {sha(photograph("good", index)) for index in range(3)}
    found = dry(capsys, "--project", "3")
    assert found["counts"]["good"] == 3
    assert found["reviews"]["held"]["of_blind_projects"] == 3
    assert found["reviews"]["left_out"][verdicts.BLIND]["count"] == 3
    # A training that was asked for before the last of these reviews.
    with image_source(Settings()) as source:
        gathered = gathering.Gathering(Settings(), own_database, None, source).gather({PROJECT}, asked)
    assert len(gathered.samples) == 15
    assert held.isdisjoint(sample.sha256 for sample in gathered.samples)


def test_what_the_model_in_use_was_tested_on_is_tested_on_again(
    shift: Shift, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from inspection_models.training_record import HASH_KEY, images_sha256

    a_day(shift, 8)
    tested = [photograph(label, index) for label in ("good", "patches") for index in range(3)]
    listed = ("\n".join(["sha256,part", *sorted(f"{sha(one)},test" for one in tested)]) + "\n").encode()
    model = desks.write_model(
        tmp_path / "model", classes=CLASSES, favourite="patches", training={HASH_KEY: images_sha256(listed)}
    )
    (model / IMAGES_FILE).write_bytes(listed)
    monkeypatch.setenv("INSPECTION_MODEL", str(model))
    found = dry(capsys)
    assert found["reviews"]["held"]["tested_only"] == 6
    assert found["parts"]["test"] == {"good": 3, "patches": 3, "scratches": 1}
    assert run(["train", "--from-reviews", "--out", str(tmp_path / "next"), *TINY]) == 0
    parts = dict(line.split(",") for line in (tmp_path / "next" / IMAGES_FILE).read_text().splitlines()[1:])
    assert {parts[sha(one)] for one in tested} == {"test"}


def test_a_folder_and_reviews_are_one_set_in_which_reviews_win(
    shift: Shift, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_day(shift)
    folder = tmp_path / "folder"
    for label, data in (("good", photograph("good", 0)), ("good", photograph("scratches", 1))):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{sha(data)[:6]}.png").write_bytes(data)
    write_synthetic_steel(tmp_path / "more", per_class=1, size=64, seed=9)
    (folder / "patches").mkdir()
    for number, path in enumerate(sorted((tmp_path / "more" / "images" / "patches").iterdir())):
        path.rename(folder / "patches" / f"{number}.png")
    found = dry(capsys, "--data", str(folder))
    assert found["counts"] == {"good": 4, "patches": 5, "scratches": 4}
    told = found["reviews"]
    assert (told["also_in_the_folder"], told["labelled_otherwise_in_the_folder"]) == (2, 1)


def test_regions_that_an_inspector_worked_on_are_marks_and_the_models_own_are_not(
    shift: Shift, capsys: pytest.CaptureFixture[str]
) -> None:
    a_day(shift)
    for index, (kind, kept) in enumerate((("moved", True), ("kept", False), ("added", True), ("kept", False))):
        change = {"change": kind, "region_final": "r1", "label_after": "scratches", "iou": 0.5 if kept else 1.0}
        one = shift.show(photograph("scratches", 60 + index))
        shift.say(one, "scratches", regions_final=[RECTANGLE], region_changes=[change])
    strange = {"change": "added", "region_final": "r1", "label_after": "oil"}
    shift.say(shift.show(photograph("scratches", 71)), "scratches", regions_final=[RECTANGLE], region_changes=[strange])
    turned = shift.show(photograph("scratches", 70))
    change = {"change": "added", "region_final": "r1", "label_after": "scratches"}
    shift.say(turned, "scratches", regions_final=[RECTANGLE | {"image_rotation": 90}], region_changes=[change])
    found = dry(capsys)
    share = (SIZE // 2) * (SIZE // 4) / SIZE**2
    assert found["marks"]["scratches"] == {
        "images": 10, "marked": 2, "kinds": {"boxes": 2},
        "defect_share": {"min": share, "median": share, "max": share},
    }  # fmt: skip
    assert found["reviews"]["with_regions_by_hand"] == 2
    undrawn = sorted(found["reviews"]["left_out"][gathering.UNDRAWN]["named"])
    assert "the label 'oil' of a region stands for no class" in undrawn[0]
    assert "turned in the editor" in undrawn[1]


def test_photographs_of_one_part_stay_together_unless_its_number_is_that_of_a_kind(
    shift: Shift, capsys: pytest.CaptureFixture[str]
) -> None:
    a_day(shift)
    for index in range(90, 93):
        shift.say(shift.show(photograph("patches", index), part="4711"), "patches")
    assert dry(capsys)["groups"] == 13
    for index in range(100, 110):
        shift.say(shift.show(photograph("scratches", index), part="strip"), "scratches")
    found = dry(capsys)
    assert found["groups"] == 23
    assert "10 photographs carry the part number 'strip', too many for one part" in found["reviews"]["notes"][0]


def test_too_little_is_refused_with_numbers(shift: Shift, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--from-reviews", "--out", str(tmp_path / "m"), *TINY]) == 1
    assert "nothing was reviewed yet" in capsys.readouterr().err
    shift.judge("good", range(5))
    shift.judge("patches", range(2))
    shift.judge("scratches", range(1))
    assert run(["train", "--from-reviews", "--out", str(tmp_path / "m"), *TINY]) == 1
    told = capsys.readouterr().err
    assert "class 'patches' has images of only 2 independent part(s), class 'scratches' of 1;" in told
    assert not (tmp_path / "m").exists()
    assert run(["train", "--data", str(tmp_path), "--project", "3", "--dry-run"]) == 2


@pytest.mark.slow
def test_the_next_version_waits_at_the_gate_and_says_what_it_learned_from(
    shift: Shift, own_database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_day(shift, 6)
    out = tmp_path / "next"
    assert run(["train", "--from-reviews", "--out", str(out), *TINY]) == 0
    told = capsys.readouterr()
    assert "it waits at the gate" in told.out
    assert "18 photographs from 18 reviews of project 3" in told.err
    card = read_card(out / CARD_FILE)
    learned = card.training["reviews"]
    manifest = (out / "reviews.csv").read_bytes()
    assert learned["manifest_sha256"] == sha(manifest)
    assert (learned["photographs"], learned["projects"]) == (18, [3])
    lines = manifest.decode().splitlines()
    assert lines[0] == "image_sha256,label,review_id,project_id"
    assert len(lines) == 19
    assert f"{sha(photograph('good', 0))},good," in manifest.decode()
    document = (out / "MODEL_CARD.md").read_text()
    assert "reviews.photographs | 18" in document.replace("\\", "")
    assert learned["manifest_sha256"] in document
    with own_database.read() as session:
        assert model_versions.find_by_fingerprint(session, card.fingerprint) is not None
    assert run(["models", "list", "--json"]) == 0
    [listed] = [one for one in json.loads(capsys.readouterr().out) if one["fingerprint"] == card.fingerprint]
    assert listed["waits_at_the_gate"] and not listed["in_use_for"]
    assert run(["train", "--from-reviews", "--out", str(tmp_path / "again"), *TINY]) == 1
    assert "no review is new since next" in capsys.readouterr().err
    assert run(["train", "--from-reviews", "--again", "--out", str(tmp_path / "again"), *TINY]) == 0
    shift.judge("good", range(80, 81))
    assert run(["train", "--from-reviews", "--out", str(tmp_path / "third"), *TINY]) == 0
