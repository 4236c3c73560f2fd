"""Engines: the exported network gives torch's numbers, is kept by what it was made of, and falls back with a reason."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from inspection_models.attribution import AttributionError, attribute, engines, onnx_export, settled_options
from inspection_models.networks import build_network
from tests.inspection_models.attribution_networks import FAMILIES, BlockNetwork, built, images


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder on disk and an empty process; one thread, for networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("INSPECTION_ENGINE_CACHE", str(tmp_path / "engines"))
    monkeypatch.setattr(engines, "_open", type(engines._open)())
    yield tmp_path / "engines"
    torch.set_num_threads(threads)


def explained(network: nn.Module, pictures: Tensor, engine: str | None = "onnxruntime", **options: object) -> Tensor:
    result = attribute(network, pictures, torch.tensor([1] * len(pictures)), engine=engine, **options)
    assert engine is None or result.settings["engine"] == engine
    return result.map


@pytest.mark.parametrize("family", FAMILIES)
def test_the_exported_network_gives_the_same_map(family: type[BlockNetwork]) -> None:
    network, pictures = built(family, 3, torch.float32), images(2, 1, torch.float32)
    assert float((explained(network, pictures) - explained(network, pictures, "torch")).abs().max()) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-lite0", "resnet18", "mobilenet_v3_small", "densenet121"])
def test_the_exported_network_gives_the_same_map_for_networks_in_use(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(name, 3, pretrained=False).eval()
    pictures = torch.randn(1, 3, 64, 64)
    usual, exported = (explained(network, pictures, engine, mu=0.3) for engine in ("torch", None))
    assert attribute(network, pictures, torch.tensor([1]), mu=0.9, engine=None).settings["engine"] in engines.ENGINES
    assert float((usual - exported).abs().max()) < 1e-4


def test_the_same_call_gives_the_same_bits() -> None:
    network, pictures = built(FAMILIES[0], 3, torch.float32), images(1, 1, torch.float32)
    first = explained(network, pictures)
    engines._open.clear()
    assert torch.equal(first, explained(network, pictures))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch_size", [2, 3, 32])
def test_the_batch_size_changes_no_bit(batch_size: int, threads: int) -> None:
    torch.set_num_threads(threads)
    network, pictures = built(FAMILIES[1], 3, torch.float32), images(2, 1, torch.float32)
    one_by_one = explained(network, pictures, batch_size=1)
    assert torch.equal(explained(network, pictures, batch_size=batch_size), one_by_one)
    assert torch.equal(explained(network, pictures[:1], batch_size=batch_size), one_by_one[:1])


def test_inputs_computed_side_by_side_give_the_bits_of_each_alone() -> None:
    network, pictures = built(FAMILIES[1], 3, torch.float32), images(7, 1, torch.float32)
    model = onnx_export._exported(network, (1, *pictures.shape[1:]))
    alone = onnx_export.OnnxEngine(model, workers=1, threads=1)
    expected = torch.cat([alone.logits(picture[None]) for picture in pictures])
    for workers in (2, 4):
        assert torch.equal(onnx_export.OnnxEngine(model, workers, threads=workers).logits(pictures), expected)
    shared = onnx_export.OnnxEngine(model, workers=2, threads=5).logits(pictures)
    torch.testing.assert_close(shared, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_thread_that_outlives_the_main_thread_still_gets_its_map() -> None:
    """Python then starts no work in other threads, neither for the comparison with torch nor for the masks."""
    script = (
        "import threading, torch; torch.set_num_threads(2);"
        "from tests.inspection_models.attribution_networks import FAMILIES, built, images;"
        "from inspection_models.attribution import attribute\n"
        "def explain():\n"
        "    threading.main_thread().join()\n"
        "    network, pictures = built(FAMILIES[0], 3, torch.float32), images(1, 1, torch.float32)\n"
        "    made = attribute(network, pictures, torch.tensor([1]), batch_size=4, engine='onnxruntime').map\n"
        "    print(float(made.double().sum()))\n"
        "threading.Thread(target=explain).start()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    torch.set_num_threads(2)
    expected = explained(built(FAMILIES[0], 3, torch.float32), images(1, 1, torch.float32), batch_size=4)
    assert ended.stdout == f"{float(expected.double().sum())}\n", ended.stderr


def test_one_export_serves_all_batch_sizes(cache: Path) -> None:
    network, pictures = built(FAMILIES[0], 3, torch.float32), images(1, 1, torch.float32)
    for batch_size in (1, 4, 7):
        explained(network, pictures, batch_size=batch_size)
    assert len(list(cache.iterdir())) == 1


@pytest.mark.slow
def test_large_networks_on_a_processor_are_exported_and_small_ones_are_not(cache: Path) -> None:
    small, large = built(FAMILIES[0], 3, torch.float32), build_network("efficientnet-lite0", 3, pretrained=False).eval()
    assert settled_options(small, (40, 48), "sise", {})["engine"] == "torch"
    assert not cache.exists()
    settled = settled_options(large, (64, 96), "sise", {"mu": 0.5})
    assert settled == {"mu": 0.5, "gate": "hard", "batch_size": 32, "engine": "onnxruntime"}
    assert len(list(cache.iterdir())) == 1
    assert settled_options(large.double(), (64, 96), "sise", {})["engine"] == "torch"


def test_an_export_is_kept_and_used_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, pictures = built(FAMILIES[0], 3, torch.float32), images(1, 1, torch.float32)
    first = explained(network, pictures)
    [kept] = cache.iterdir()
    monkeypatch.setattr(onnx_export.torch.onnx, "export", lambda *_args, **_more: pytest.fail("exported again"))
    assert torch.equal(explained(network, pictures), first)
    engines._open.clear()
    assert torch.equal(explained(network, pictures), first)
    assert list(cache.iterdir()) == [kept]


def test_other_weights_are_another_export(cache: Path) -> None:
    network, pictures = built(FAMILIES[0], 3, torch.float32), images(1, 1, torch.float32)
    before = explained(network, pictures)
    with torch.no_grad():
        network.classifier.weight.neg_()
    after = explained(network, pictures)
    assert float((after - explained(network, pictures, "torch")).abs().max()) < 1e-4
    assert float((after - before).abs().max()) > 1e-2
    assert len(list(cache.iterdir())) == 2


def test_a_change_that_torch_does_not_count_is_another_export(cache: Path) -> None:
    """Written through numpy, and so small that comparing logits would let it pass."""
    network, pictures = built(FAMILIES[0], 3, torch.float32), images(1, 1, torch.float32)
    explained(network, pictures)
    weight = network.classifier.weight
    version = weight._version
    weight.detach().numpy()[0, 0] += 1e-6
    assert weight._version == version
    explained(network, pictures)
    assert len(list(cache.iterdir())) == 2


def test_an_open_engine_does_not_wait_for_the_export_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    ready, other = (built(FAMILIES[0], seed, torch.float32) for seed in (3, 4))
    pictures = images(1, 1, torch.float32)
    expected = explained(ready, pictures)
    exporting, go_on = threading.Event(), threading.Event()
    export = onnx_export.torch.onnx.export

    def slow(*given: object, **more: object) -> None:
        exporting.set()
        assert go_on.wait(timeout=60)
        export(*given, **more)

    monkeypatch.setattr(onnx_export.torch.onnx, "export", slow)
    with ThreadPoolExecutor() as pool:
        late = pool.submit(explained, other, pictures)
        try:
            assert exporting.wait(timeout=60)
            assert torch.equal(pool.submit(explained, ready, pictures).result(timeout=60), expected)
            assert not late.done()
        finally:
            go_on.set()
        assert float((late.result(timeout=60) - explained(other, pictures, "torch")).abs().max()) < 1e-4


class Crowded:
    """A lock that is held back until `count` threads want it."""

    def __init__(self, count: int) -> None:
        self._all_here = threading.Barrier(count)
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._all_here.wait(timeout=60)
        self._lock.acquire()

    def __exit__(self, *_raised: object) -> None:
        self._lock.release()


def test_threads_that_miss_the_same_network_at_once_share_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 3
    pictures = images(1, 1, torch.float32)
    made: list[str] = []
    export, opened = onnx_export.torch.onnx.export, onnx_export.onnxruntime.InferenceSession

    def noted(kind: str, make: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object, **more: object) -> object:
            made.append(kind)
            return make(*given, **more)

        return call

    monkeypatch.setattr(onnx_export.torch.onnx, "export", noted("export", export))
    monkeypatch.setattr(onnx_export.onnxruntime, "InferenceSession", noted("session", opened))
    monkeypatch.setattr(engines, "_exporting", Crowded(count))
    with ThreadPoolExecutor(count) as pool:
        # Each its own copy: the same weights are the same key.
        copies = [built(FAMILIES[0], 3, torch.float32) for _ in range(count)]
        maps = list(pool.map(lambda network: explained(network, pictures), copies))
    assert made == ["export", "session"]
    assert all(torch.equal(one, maps[0]) for one in maps)


def test_a_thread_that_waited_for_another_network_of_the_same_key_gets_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    networks, pictures = [Plain().eval(), Plain().eval()], images(1, 1, torch.float32)
    networks[1].gain = -1.0
    expected = [explained(network, pictures, "torch") for network in networks]
    assert float((expected[0] - expected[1]).abs().max()) > 1e-2
    monkeypatch.setattr(engines, "_exporting", Crowded(2))
    with ThreadPoolExecutor(2) as pool:
        maps = list(pool.map(lambda network: explained(network, pictures), networks))
    assert all(float((one - other).abs().max()) < 1e-4 for one, other in zip(maps, expected, strict=True))


class Plain(nn.Module):
    """Keeps a number where no digest of weights and structure sees it, and works in place on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.network = built(FAMILIES[0], 3, torch.float32)
        self.gain = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.network(x.mul_(0.5))


def test_a_change_out_of_sight_is_noticed_all_the_same() -> None:
    network, pictures = Plain().eval(), images(1, 1, torch.float32)
    explained(network, pictures)
    network.gain = -1.0
    assert float((explained(network, pictures) - explained(network, pictures, "torch")).abs().max()) < 1e-4


@pytest.mark.parametrize("damage", ["torn", "empty", "another network", "another kind"])
def test_a_damaged_file_is_replaced(cache: Path, damage: str) -> None:
    network, pictures = built(FAMILIES[0], 3, torch.float32), images(1, 1, torch.float32)
    expected = explained(network, pictures)
    [kept] = cache.iterdir()
    sound = kept.read_bytes()
    if damage == "another network":
        with torch.no_grad():
            network.classifier.bias += 3.0
        explained(network, pictures)
        [other] = [path for path in cache.iterdir() if path != kept]
        kept.write_bytes(other.read_bytes())
        with torch.no_grad():
            network.classifier.bias -= 3.0
    elif damage == "another kind":
        torch.onnx.export(nn.Linear(3, 2).eval(), (torch.zeros(1, 3),), str(kept), dynamo=False)
    else:
        kept.write_bytes(sound[: len(sound) // 2] if damage == "torn" else b"")
    engines._open.clear()
    torch.testing.assert_close(explained(network, pictures), expected, atol=1e-5, rtol=0)
    assert kept.stat().st_size == len(sound)


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("INSPECTION_ENGINE_CACHE", str(tmp_path / "file" / "engines"))
    network, pictures = built(FAMILIES[0], 3, torch.float32), images(1, 1, torch.float32)
    assert float((explained(network, pictures) - explained(network, pictures, "torch")).abs().max()) < 1e-4


class Unexportable(nn.Module):
    """Asks numpy in the middle of its pass, which an export cannot follow but would take for a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.classifier = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.features(x)
        return self.classifier(maps.mean([2, 3]) * float(maps.detach().cpu().numpy().std()))


def test_a_network_that_exports_to_other_numbers_is_refused_by_name_and_falls_back_without() -> None:
    torch.manual_seed(0)
    network, pictures = Unexportable().eval(), images(1, 1, torch.float32)
    with pytest.raises(AttributionError, match="engine 'onnxruntime' cannot run this network: its numbers differ"):
        explained(network, pictures)
    large = torch.randn(1, 3, 384, 384)
    assert attribute(network, large, torch.tensor([1]), batch_size=2).settings["engine"] == "torch"


class Failing:
    """A session of ONNX Runtime that fails from its run number `least` on."""

    def __init__(self, session: onnxruntime.InferenceSession, least: int) -> None:
        self._session = session
        self._left = least

    def run(self, *given: object) -> list[object]:
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("no memory is left\nin some function")
        return self._session.run(*given)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_that_fails_while_masks_are_scored_says_what_to_do(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    torch.set_num_threads(threads)
    network, pictures = built(FAMILIES[0], 3, torch.float32), images(1, 1, torch.float32)
    explained(network, pictures, batch_size=4)
    [engine] = engines._open.values()
    # The first run is the comparison with torch.
    monkeypatch.setattr(engine, "_session", Failing(engine._session, 6))
    with pytest.raises(AttributionError) as caught:
        explained(network, pictures, batch_size=4)
    reason = "its export does not run (no memory is left)"
    assert str(caught.value) == f"engine 'onnxruntime' cannot run this network: {reason}; use engine='torch'"
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_export_that_never_runs_is_refused_with_the_runtimes_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network, pictures = built(FAMILIES[0], 3, torch.float32), images(1, 1, torch.float32)
    opened = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnx_export.onnxruntime, "InferenceSession", lambda *given, **more: Failing(opened(*given, **more), 0)
    )
    with pytest.raises(AttributionError, match=r"its export does not run \(no memory is left\); use engine='torch'"):
        explained(network, pictures)
    monkeypatch.setattr(engines, "_WORTH_EXPORTING", 0)
    assert attribute(network, pictures, torch.tensor([1])).settings["engine"] == "torch"
    assert caplog.messages == ["masks are scored with torch: its export does not run (no memory is left)"]


def test_another_precision_is_refused_by_name() -> None:
    with pytest.raises(AttributionError, match=r"it computes float32 on a processor, not torch\.float64"):
        explained(built(FAMILIES[0], 3), images(1, 1))


def test_large_inputs_are_left_to_torch_for_the_memory(cache: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    result = attribute(network, torch.randn(1, 3, 720, 720), torch.tensor([1]))
    assert result.settings["engine"] == "torch" and not cache.exists()


def test_only_so_many_exports_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_MOST_KEPT", 2)
    pictures = images(1, 1, torch.float32)
    for seed in range(3):
        explained(built(FAMILIES[0], seed, torch.float32), pictures)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.slow
def test_processes_may_export_the_same_network_at_once(cache: Path) -> None:
    script = (
        "import torch; from tests.inspection_models.attribution_networks import FAMILIES, built, images;"
        "from inspection_models.attribution import attribute;"
        "m = attribute(built(FAMILIES[0], 3, torch.float32), images(1, 1, torch.float32), torch.tensor([1]),"
        " engine='onnxruntime').map; print(float(m.double().sum()))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], ended
    assert len({out for out, _ in ended}) == 1
    assert len([path for path in cache.iterdir() if not path.name.startswith(".")]) == 1
