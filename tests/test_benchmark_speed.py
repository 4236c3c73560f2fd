"""The benchmark of speed on an accelerator: the same code on a processor, with small networks and the real peers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import accelerated_speed, attribution_speed
from benchmarks.accelerated_speed import Timing, Work, compared, figures, in_turn
from benchmarks.score_cam_peers import pytorch_grad_cam, torch_cam
from benchmarks.scratched_steel import scratch
from benchmarks.speed_tables import accelerated_table, speed_table
from benchmarks.statistics import ratio
from inspection_models.attribution import attribute

CPU = torch.device("cpu")
MACHINE = {"cpu": "A processor", "threads": 2, "accelerator": None, "packages": {"torch": "2.13.0"}}


def small_network() -> nn.Module:
    """Two blocks, of 40 and 24 maps."""
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, 40, 3, 2, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(40, 24, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 6),
    )
    return nn.Sequential(*layers).eval().requires_grad_(requires_grad=False)


@pytest.fixture
def network(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr(accelerated_speed, "_REPETITIONS", 2)
    return small_network()


@pytest.fixture
def image() -> Tensor:
    return scratch(64)[..., 16:48, 16:48]


def needs_torch_cam() -> None:
    pytest.importorskip("torchcam.methods", reason="it needs Python 3.11")


def timings_of(seconds: list[float], masks: int, peak: int | None = None) -> list[Timing]:
    return [Timing(one, peak, Work(masks, 4 if masks else None)) for one in seconds]


@pytest.mark.parametrize(
    ("score_cam", "batches"), [(pytorch_grad_cam, [1, 16, 16, 8, 1, 16, 8]), (torch_cam, [1, 1, 32, 8, 1, 1, 24])]
)
def test_peers_score_every_map_of_a_layer_in_batches_of_their_usual_size(
    score_cam: Callable[..., Tensor], batches: list[int], network: nn.Module, image: Tensor
) -> None:
    if score_cam is torch_cam:
        needs_torch_cam()
    seen: list[int] = []
    network.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    for name in ("1", "4"):
        found = score_cam(network, [network.get_submodule(name)], image, 1)
        assert found.ndim == 2 and found.device == CPU
        assert float(found.min()) >= 0 and float(found.max()) == pytest.approx(1, abs=1e-4)
    assert seen == batches


def test_the_contestants_do_what_is_said_of_them(network: nn.Module, image: Tensor) -> None:
    needs_torch_cam()
    report = compared(network, image)
    assert report["input"] == [32, 32] and report["blocks_of_peers"] == ["1", "4"]
    found = report["contestants"]
    assert list(found) == ["pytorch-grad-cam", "torch-cam", "sise", "quorum"]
    sise = attribute(network, image, torch.tensor([1]), "sise")
    assert {name: row["masks"] for name, row in found.items()} == {
        "pytorch-grad-cam": 64,
        "torch-cam": 64,
        "sise": int(sise.masks_scored[0]),
        "quorum": 0,
    }
    assert [row["batch_size"] for row in found.values()] == [16, 32, sise.settings["batch_size"], None]
    for row in found.values():
        assert row["seconds"] > 0 and row["peak_megabytes"] is None and not row["out_of_memory"]
        assert all(spread["lowest"] <= spread["median"] <= spread["highest"] for spread in row["faster_than"].values())
    assert found["torch-cam"]["faster_than"]["torch-cam"] == {"median": 1.0, "lowest": 1.0, "highest": 1.0}
    assert found["quorum"]["masks_a_second"] is None
    assert set(found["quorum"]["faster_than_a_mask"].values()) == {None}


def test_peers_at_one_block_are_compared_by_masks_alone(network: nn.Module, image: Tensor) -> None:
    needs_torch_cam()
    report = compared(network, image, peers_block=1)
    assert report["blocks_of_peers"] == ["4"]
    found = report["contestants"]
    assert found["pytorch-grad-cam"]["masks"] == found["torch-cam"]["masks"] == 24
    for row in found.values():
        assert set(row["faster_than"].values()) == {None}
    assert None not in found["sise"]["faster_than_a_mask"].values()


def test_a_peer_that_runs_out_of_memory_is_reported_and_the_others_go_on(
    network: nn.Module, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_torch_cam()

    def greedy(*_: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(accelerated_speed, "pytorch_grad_cam", greedy)
    found = compared(network, image)["contestants"]
    assert found["pytorch-grad-cam"] == {"out_of_memory": True}
    assert found["sise"]["faster_than"]["pytorch-grad-cam"] is None
    assert found["sise"]["faster_than_a_mask"]["pytorch-grad-cam"] is None
    assert found["sise"]["faster_than"]["torch-cam"]["median"] > 0


def test_without_torch_cam_the_others_are_compared(
    network: nn.Module, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerated_speed, "find_spec", lambda _name: None)
    found = compared(network, image)["contestants"]
    assert list(found) == ["pytorch-grad-cam", "sise", "quorum"]
    assert found["sise"]["faster_than"]["torch-cam"] is None


def test_all_compute_in_float32_and_the_setting_is_put_back(
    network: nn.Module, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, bool]] = []

    def peer(*_: Any) -> Tensor:
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
        return torch.zeros(1, 1)

    for name in ("pytorch_grad_cam", "torch_cam"):
        monkeypatch.setattr(accelerated_speed, name, peer)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    compared(network, image)
    assert set(seen) == {(True, False)}
    assert torch.backends.cudnn.allow_tf32


def test_runs_take_turns_after_one_that_is_not_counted() -> None:
    order: list[str] = []

    def contestant(name: str, fails_at: int | None = None) -> Callable[[], Work]:
        def call() -> Work:
            if order.count(name) == fails_at:
                raise torch.OutOfMemoryError("CUDA out of memory")
            order.append(name)
            return Work(len(order), 1)

        return call

    timings = in_turn({"a": contestant("a"), "b": contestant("b", fails_at=2), "c": contestant("c")}, CPU, 3)
    assert "".join(order) == "abcabcacac"
    assert [timing.work.masks for timing in timings["a"]] == [4, 7, 9]
    assert timings["b"] == [] and len(timings["c"]) == 3


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    def broken() -> Work:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        in_turn({"broken": broken}, CPU, 1)


def test_on_a_card_the_clock_waits_for_it_and_memory_counts_from_what_was_held(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr("gc.collect", lambda: order.append("collect"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: order.append("wait"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _device: order.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 100_000_000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: 350_000_000)

    def call() -> Work:
        order.append("call")
        return Work(8, 4)

    timings = in_turn({"sise": call}, torch.device("cuda"), 1)
    assert order == ["collect", "wait", "reset", "call", "wait"] * 2
    assert figures(timings, "sise", whole=True)["peak_megabytes"] == 250


def test_figures_are_those_of_the_medians_with_the_spread_of_neighbours() -> None:
    timings = {
        "pytorch-grad-cam": timings_of([8.0, 9.0, 16.0], 400, peak=9_000_000),
        "torch-cam": [],
        "sise": timings_of([2.0, 3.0, 2.0], 100, peak=2_600_000),
        "quorum": timings_of([0.5, 0.5, 0.5], 0),
    }
    sise = figures(timings, "sise", whole=True)
    assert sise["seconds"] == 2.0 and sise["masks_a_second"] == 50.0 and sise["peak_megabytes"] == 3
    assert sise["faster_than"] == {
        "pytorch-grad-cam": {"median": 4.5, "lowest": 3.0, "highest": 8.0},
        "torch-cam": None,
    }
    # A quarter of the masks in the same time would be a quarter as fast a mask.
    assert sise["faster_than_a_mask"]["pytorch-grad-cam"] == {"median": 1.12, "lowest": 0.75, "highest": 2.0}
    assert figures(timings, "quorum", whole=True)["faster_than"]["pytorch-grad-cam"]["median"] == 18.0
    assert figures(timings, "torch-cam", whole=True) == {"out_of_memory": True}


def test_a_ratio_wants_as_many_runs_on_both_sides() -> None:
    assert ratio([6.0, 2.0], [2.0, 2.0], 0.5) == {"median": 1.0, "lowest": 0.5, "highest": 1.5}
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


def test_a_run_makes_a_report_that_makes_a_table(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_torch_cam()
    monkeypatch.setattr(accelerated_speed, "CASES", (accelerated_speed.Case("tiny", 64, peers_block=0),))
    monkeypatch.setattr(accelerated_speed, "frozen", lambda _name: small_network())
    report = accelerated_speed.run("cpu")
    assert report["cases"][0]["network"] == "tiny" and report["cases"][0]["blocks_of_peers"] == ["1"]
    lines = accelerated_table(report).splitlines()
    assert [line.split("|")[1:4] for line in lines[2:6]] == [
        [" tiny, 64 ", f" {method} ", f" {report['cases'][0]['contestants'][name]['masks']} "]
        for name, method in (
            ("pytorch-grad-cam", "ScoreCAM of pytorch-grad-cam, batches of 16"),
            ("torch-cam", "ScoreCAM of torch-cam, batches of 32"),
            ("sise", "sise"),
            ("quorum", "quorum"),
        )
    ]
    assert len({line.count("|") for line in lines[:6]}) == 1


def test_every_case_names_a_block_that_the_network_has() -> None:
    for case in accelerated_speed.CASES:
        assert case.peers_block is None or 0 <= case.peers_block < 5
        assert (case.size == 1024) == (case.peers_block is not None)
    sizes = {(case.network, case.size) for case in accelerated_speed.CASES}
    assert sizes == {(n, s) for n in ("resnet50", "vgg16", "efficientnet-lite0") for s in (224, 512, 1024)}


@pytest.mark.parametrize("there_is_a_card", [True, False])
def test_the_accelerator_is_measured_where_there_is_one(
    there_is_a_card: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution_speed, "CASES", ())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there_is_a_card)
    monkeypatch.setattr(accelerated_speed, "run", lambda: {"cases": []})
    report = attribution_speed.run(tmp_path)
    assert report.get("accelerated", "nothing") == ({"cases": []} if there_is_a_card else "nothing")


def test_the_table_of_an_accelerator_follows_that_of_the_processor() -> None:
    spread = {"median": 4.5, "lowest": 3.0, "highest": 8.04}
    sise = {
        "out_of_memory": False,
        "masks": 1900,
        "seconds": 2.351,
        "masks_a_second": 810.2,
        "peak_megabytes": 1234,
        "faster_than": {"pytorch-grad-cam": None, "torch-cam": spread},
        "faster_than_a_mask": {"pytorch-grad-cam": None, "torch-cam": spread},
    }
    contestants = {"pytorch-grad-cam": {"out_of_memory": True}, "sise": sise}
    accelerated = {
        "machine": {
            **MACHINE,
            "accelerator": {"name": "A card", "cuda": "12.8"},
            "packages": {"torch": "2.13.0", "torchcam": "0.5.0"},
        },
        "batches_of_peers": {"pytorch-grad-cam": 16, "torch-cam": 32},
        "cases": [{"network": "resnet50", "input": [512, 512], "contestants": contestants}],
    }
    alone = speed_table({"machine": MACHINE, "cases": []})
    both = speed_table({"machine": MACHINE, "cases": [], "accelerated": accelerated})
    assert both.startswith(alone + "\n\n| network, px |")
    assert (
        "| resnet50, 512 | ScoreCAM of pytorch-grad-cam, batches of 16 | – | out of memory | – | – | – | – | – | – |"
        in both
    )
    assert "| resnet50, 512 | sise | 1900 | 2.35 | 810 | 1234 | – | – | 4.5 (3.0–8.0) | 4.5 (3.0–8.0) |" in both
    assert both.endswith("*A card, CUDA 12.8, float32; torch 2.13.0, torchcam 0.5.0.*")


@pytest.mark.gpu
def test_on_a_graphics_card_peak_memory_holds_at_least_a_batch() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    image = scratch(512).cuda()
    found = compared(small_network().cuda(), image, peers_block=1)["contestants"]
    for name in ("pytorch-grad-cam", "sise"):
        batch = found[name]["batch_size"] * image.nbytes
        assert found[name]["peak_megabytes"] >= min(batch, found[name]["masks"] * image.nbytes) // 1_000_000
        assert found[name]["masks_a_second"] > 0
    assert found["quorum"]["peak_megabytes"] > 0
