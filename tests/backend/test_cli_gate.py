"""`inspection evaluate A --against B` as a person, a script and an auditor meet it."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.cli import program
from backend.cli.program import run
from inspection_models import DefectClassifier
from inspection_models.data import load_dataset
from inspection_models.data.splits import Split
from inspection_models.gate import default_rules
from inspection_models.model_card import ExplanationSettings
from inspection_models.networks import build_network
from inspection_models.preprocessing import Preprocessing
from inspection_models.training_record import HASH_KEY, IMAGES_FILE, images_csv, images_sha256, seen_images
from tests.backend import desks

HOSTILE = ("good", '<img src=x onerror="alert(1)">', "{{7*7}}'\"&lt;[red]")
LENIENT = "[escapes]\nat_most = 1\n[overkill]\nnot_worse_by = 1\n"


def write_model(
    directory: Path,
    favourite: str,
    classes: tuple[str, ...] = desks.CLASSES,
    seen: Split | None = None,
    activation: str = "softmax",
) -> Path:
    """A model that always prefers one class, with the list of images it has seen."""
    torch.manual_seed(0)
    network = build_network("squeezenet1_1", len(classes), pretrained=False).eval()
    head = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        head.bias.zero_()
        head.bias[classes.index(favourite)] = 2.0
    listed = images_csv(seen or Split((), (), ()))
    DefectClassifier.assemble(
        network,
        name=directory.name,
        version="1",
        architecture="squeezenet1_1",
        classes=classes,
        good_class="good",
        activation=activation,
        preprocessing=Preprocessing(mode="letterbox", size=(64, 64), mean=(127.0,) * 3, std=(128.0,) * 3),
        explanation=ExplanationSettings("layer-cam", {}),
        training={HASH_KEY: images_sha256(listed)},
    ).save(directory, attachments={IMAGES_FILE: listed})
    return directory


def write_data(root: Path, classes: tuple[str, ...] = desks.CLASSES, name: str = "", each: int = 6) -> Path:
    """Some images a class, each defect with its mask."""
    for number, label in enumerate(classes):
        for index in range(each):
            path = root / "images" / label / f"{name}{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(desks.png(seed=100 * number + index))
            if label != "good":
                mask = np.zeros((32, 48), np.uint8)
                mask[8:20, 20:32] = 255
                target = root / "masks" / label / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(target)
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models: one calls everything a crack, a second one too, one calls everything good."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "cracks", "crack")
    write_model(folder / "twin", "crack")
    write_model(folder / "blind", "good")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "DEFAULT_DATA_DIR", tmp_path / "home")
    monkeypatch.chdir(tmp_path)


def gate(models: Path, data: Path, *more: str, candidate: str = "blind", service: str = "cracks") -> int:
    return run(["evaluate", str(models / candidate), "--against", str(models / service), "--data", str(data), *more])


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.mark.slow
def test_a_blind_candidate_is_refused_with_reasons_figures_and_pictures(
    models: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(models, data, "--out", "report", "--pictures", "5") == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "DO NOT RELEASE" in shown
    assert "12 of 12" in shown
    report = json.loads((tmp_path / "report" / "gate.json").read_text())
    assert (report["release"], report["verdict"]) == (False, "do not release")
    outcomes = {one["rule"]: one["outcome"] for one in report["rules"]["outcomes"]}
    assert outcomes["escapes.at_most"] == outcomes["escapes.not_worse_by"] == "fail"
    assert outcomes["data.unseen"] == "pass"
    assert outcomes["explanations.ap_not_worse_by"] == "cannot tell"
    assert report["data"]["sha256"] == load_dataset(data, good_class="").sha256
    assert report["candidate"]["fingerprint"] == DefectClassifier.load(models / "blind").version.fingerprint
    escapes = report["escapes"]
    assert (escapes["candidate_count"], escapes["service_count"], escapes["of"]) == (12, 0, 12)
    assert escapes["p_value"] == pytest.approx(2 / 2**12)
    assert len(report["images"]) == 18
    assert [one["kind"] for one in report["changed"]] == ["new escape"] * 12 + ["overkill resolved"] * 6
    assert sum(one["drawn"] for one in report["changed"]) == 5
    page = Page((tmp_path / "report" / "gate.html").read_text())
    assert "do not release" in page.text
    assert "13 are left out here" in page.text
    # 0 of 6 good parts are called defective, and 59 would show that at most 5 % are.
    assert "overkill at most 5 %: 0 of 6; 53 parts more would tell" in page.text
    assert f"sha256 {hashlib.sha256((tmp_path / 'report' / 'gate.json').read_bytes()).hexdigest()}" in page.text
    for fact in (report["data"]["sha256"], report["candidate"]["weights_sha256"], report["service"]["fingerprint"]):
        assert fact in page.text
    assert sum(tag == "section" for tag, _ in page.tags) == 5
    assert (tmp_path / "report" / "rules.toml").read_text() == default_rules()


@pytest.mark.slow
def test_the_page_stands_alone_and_can_be_read_aloud(models: Path, data: Path, tmp_path: Path) -> None:
    gate(models, data, "--out", "report")
    text = (tmp_path / "report" / "gate.html").read_text()
    page = Page(text)
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object", "form", "base"} & set(tags)
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?(?:https?:)?//", text)
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        if tag == "img":
            assert str(attributes["src"]).startswith("data:image/")
            assert len(str(attributes["alt"])) > 15
        if tag == "th":
            assert attributes.get("scope") in ("col", "row")
    headings = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    assert ("html", {"lang": "en"}) in page.tags


@pytest.mark.slow
def test_the_same_question_gets_the_same_bytes(models: Path, data: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        gate(models, data, "--out", name, candidate="cracks", service="blind")
    for file in ("gate.html", "gate.json", "rules.toml"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    gate(models, data, "--out", "three", "--seed", "1", candidate="cracks", service="blind")
    assert (tmp_path / "one" / "gate.json").read_bytes() != (tmp_path / "three" / "gate.json").read_bytes()


@pytest.mark.slow
def test_an_equal_candidate_is_released_by_rules_that_allow_it(
    models: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text(LENIENT)
    assert gate(models, data, "--rules", "mine.toml", "--json", candidate="twin") == 0
    printed = capsys.readouterr().out
    folder = tmp_path / "gate-twin-against-cracks"
    assert (folder / "gate.json").read_text() == printed
    assert (folder / "rules.toml").read_text() == LENIENT
    assert json.loads(printed)["release"] is True
    text = Page((folder / "gate.html").read_text()).text
    assert "Every rule that was asked passed: 2 of 2" in text
    assert "None: both models decide every image alike." in text
    capsys.readouterr()
    # The product's own rules ask for more than 18 images can show.
    assert gate(models, data, "--out", "strict", candidate="twin") == 1
    assert "cannot tell" in capsys.readouterr().out


@pytest.mark.slow
def test_a_version_with_learned_regions_keeps_the_list_of_what_it_has_seen(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", each=36)
    samples = load_dataset(data, good_class="").samples
    before = write_model(tmp_path / "before", "crack", seen=Split(samples[:1], (), samples[1:]))
    assert run(["regions", str(before), "--data", str(data), "--out", str(tmp_path / "after")]) == 0
    after = DefectClassifier.load(tmp_path / "after")
    seen = seen_images(tmp_path / "after", after.card)
    assert seen is not None
    assert samples[0].sha256 in seen
    assert 1 < len(seen) < len(samples), "the test part is still fresh"
    assert seen_images(tmp_path / "after", after.card, lines=False) == {samples[0].sha256}


@pytest.mark.slow
def test_images_that_a_model_has_seen_are_left_out_or_stop_the_release(
    models: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = load_dataset(data, good_class="").samples
    (tmp_path / "mine.toml").write_text(f"[data]\nunseen = true\n{LENIENT}")
    write_model(tmp_path / "learned", "crack", seen=Split(samples[:3], samples[3:4], samples[4:5]))
    arguments = ["evaluate", str(tmp_path / "learned"), "--against", str(models / "cracks"), "--data", str(data)]
    assert run([*arguments, "--rules", "mine.toml", "--out", "unseen"]) == 0
    report = json.loads((tmp_path / "unseen" / "gate.json").read_text())
    assert report["data"]["left_out"] == {"trained or tuned on by one of the models": 4}
    assert report["data"]["images"] == 14
    assert run([*arguments, "--rules", "mine.toml", "--out", "all", "--part", "all"]) == 1
    report = json.loads((tmp_path / "all" / "gate.json").read_text())
    assert report["data"]["seen"] == {"candidate": 4, "service": 0}
    (tmp_path / "learned" / IMAGES_FILE).unlink()
    capsys.readouterr()
    assert run([*arguments, "--rules", "mine.toml", "--out", "gone"]) == 1
    assert "is missing" in capsys.readouterr().err
    assert not (tmp_path / "gone").exists()
    arguments[1] = str(desks.write_model(tmp_path / "unlisted"))
    assert run([*arguments, "--rules", "mine.toml", "--out", "unknown"]) == 1
    [unseen, *_] = json.loads((tmp_path / "unknown" / "gate.json").read_text())["rules"]["outcomes"]
    assert (unseen["rule"], unseen["outcome"]) == ("data.unseen", "cannot tell")


@pytest.mark.slow
def test_no_name_of_a_class_or_a_file_can_break_out_of_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data", HOSTILE, name='"><b onclick=alert(2)>[bold]\n')
    write_model(tmp_path / "a", HOSTILE[1], HOSTILE)
    write_model(tmp_path / "b", HOSTILE[2], HOSTILE)
    (tmp_path / "mine.toml").write_text(f"# </pre><script>alert(3)</script>\n{LENIENT}")
    arguments = ["evaluate", str(tmp_path / "a"), "--against", str(tmp_path / "b"), "--data", str(data)]
    assert run([*arguments, "--rules", "mine.toml", "--out", "report"]) == 0
    assert "RELEASE" in capsys.readouterr().out
    text = (tmp_path / "report" / "gate.html").read_text()
    page = Page(text)
    assert {tag for tag, _ in page.tags} <= {
        *(
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "header",
            "main",
            "section",
            "div",
            "span",
            "p",
            "ul",
            "li",
        ),
        *("h1", "h2", "h3", "table", "caption", "thead", "tbody", "tr", "th", "td", "code", "pre", "strong", "br"),
        *("img", "figure", "figcaption"),
    }
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all(str(attributes["src"]).startswith("data:") for tag, attributes in page.tags if tag == "img")
    for name in HOSTILE:
        assert name in page.text
    assert "49" not in re.findall(r"\b49'", page.text)
    assert "<script>alert(3)</script>" in page.text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--explanations"], "about one model"),
        (["--methods", "sise"], "about one model"),
        (["--part", "test"], "--part all"),
        (["--limit", "0"], "limit"),
        (["--pictures", "-1"], "pictures"),
        (["--rules", "none.toml"], "none.toml"),
        (["--rules", "wrong.toml"], "line 2"),
        (["--out", "file"], "is a file"),
        (["--out", "taken"], "there already"),
    ],
)
def test_wrong_use_is_exit_2(
    models: Path, data: Path, tmp_path: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.toml").write_text("[escapes]\nat_most = 2\n")
    (tmp_path / "file").write_text("")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "gate.json").write_text("mine")
    assert gate(models, data, *arguments) == 2
    assert says in re.sub(r"[\s│]+", " ", capsys.readouterr().err)
    assert (tmp_path / "taken" / "gate.json").read_text() == "mine"
    assert not (tmp_path / "gate-blind-against-cracks").exists()


def test_options_of_a_comparison_need_one(models: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--rules", "r.toml"], ["--pictures", "3"], ["--overwrite"]):
        assert run(["evaluate", str(models / "blind"), "--data", str(data), *arguments]) == 2
        assert "--against" in capsys.readouterr().err


@pytest.mark.slow
def test_a_report_is_replaced_only_when_allowed(models: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(LENIENT)
    assert gate(models, data, "--out", "report", "--rules", "mine.toml", candidate="twin") == 0
    before = (tmp_path / "report" / "gate.json").read_bytes()
    assert gate(models, data, "--out", "report", candidate="twin") == 2
    assert (tmp_path / "report" / "gate.json").read_bytes() == before
    assert gate(models, data, "--out", "report", "--overwrite", candidate="twin") == 1
    assert (tmp_path / "report" / "gate.json").read_bytes() != before


def test_what_cannot_be_compared_leaves_no_report(
    models: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(models, tmp_path / "nowhere") == 1
    assert gate(models, data, candidate="absent") == 1
    write_model(tmp_path / "other", "rust", ("good", "rust"))
    other = write_data(tmp_path / "rusty", ("dent", "rust"))
    capsys.readouterr()
    arguments = ["--against", str(models / "cracks"), "--data", str(other), "--out", "never"]
    assert run(["evaluate", str(models / "blind"), *arguments]) == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "12 of a class that neither model knows" in line
    assert not (tmp_path / "never").exists()
    damaged = write_data(tmp_path / "damaged") / "images" / "stain" / "5.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    assert gate(models, tmp_path / "damaged", "--out", "never") == 1
    assert str(damaged) in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


@pytest.mark.slow
def test_a_model_of_several_classes_an_image_can_follow_one_of_a_single_class(
    models: Path, data: Path, tmp_path: Path
) -> None:
    write_model(tmp_path / "several", "crack", activation="sigmoid")
    (tmp_path / "mine.toml").write_text(LENIENT)
    arguments = ["evaluate", str(tmp_path / "several"), "--against", str(models / "cracks"), "--data", str(data)]
    assert run([*arguments, "--rules", "mine.toml", "--out", "report"]) == 0
    report = json.loads((tmp_path / "report" / "gate.json").read_text())
    of_any, of_class = report["calibration"]
    assert of_any["brier"]["images"] == 18
    assert of_class["brier"] is None, "a sum over one class and over several are not the same score"
    answer = report["images"][0]["candidate"]
    assert set(answer["labels"]) <= set(desks.CLASSES)
    assert sum(answer["probabilities"].values()) != pytest.approx(1)
    assert "one class or several" in Page((tmp_path / "report" / "gate.html").read_text()).text


@pytest.mark.slow
def test_the_products_rules_can_be_printed_to_be_edited(
    models: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "--default-rules"]) == 0
    printed = capsys.readouterr().out
    assert printed == default_rules()
    (tmp_path / "mine.toml").write_text(printed)
    assert gate(models, data, "--rules", "mine.toml", "--out", "report") == 1
