"""`inspection predict --push` from the command line: what is printed, and with which exit status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.cli.program import run
from tests.backend import desks
from tests.backend.bulk_label_studio import PROJECT, BulkLabelStudio


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BulkLabelStudio]:
    """A Label Studio with three tasks, the image of the last of which is gone; the settings lead to it."""
    files = {f"{n}.png": desks.png(seed=n) for n in (1, 2)}
    with desks.image_server(files) as url:
        studio = BulkLabelStudio(3, backend=lambda tasks: [{} for _ in tasks], label_config=desks.CONFIG, url=url)
        for name, value in {
            "DATA_DIR": str(tmp_path / "data"),
            "MODEL": str(desks.write_model(tmp_path / "model")),
            "LABEL_STUDIO_URL": url,
            "LABEL_STUDIO_API_KEY": "0123456789abcdef",
        }.items():
            monkeypatch.setenv(f"INSPECTION_{name}", value)
        monkeypatch.setattr("backend.label_studio.client.LabelStudioClient", lambda *_: studio.client())
        yield studio


@pytest.mark.slow
def test_what_failed_is_told_with_what_to_do_and_exit_status_one(
    studio: BulkLabelStudio, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", "--project", str(PROJECT), "--push", "--json"]) == 1
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert (result["tasks"], result["predicted"], result["already"], result["gone"]) == (3, 2, 0, [])
    assert result["model_version"] == studio.stored[0]["model_version"] == studio.shown
    assert [one["task"] for one in result["failed"]] == [3]
    assert "404" in result["failed"][0]["reason"]
    assert f"inspection predict --project {PROJECT}" in told.err
    assert "task 3: " in told.err


@pytest.mark.slow
def test_once_mended_the_rest_is_predicted_and_the_exit_status_is_zero(
    studio: BulkLabelStudio, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["predict", "--project", str(PROJECT), "--push"])
    del studio.tasks[3]
    capsys.readouterr()
    assert run(["predict", "--project", str(PROJECT), "--push"]) == 0
    assert "2 tasks: 2 had a prediction of " in capsys.readouterr().out
    assert [len(studio.of(number)) for number in (1, 2)] == [1, 1]
