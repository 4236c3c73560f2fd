"""Networks: the pretrained one is ImageNet's, every name builds, and weights go in only where they fit."""

from pathlib import Path

import matplotlib
import pytest
import safetensors.torch
import torch
from torch import nn

from inspection_models.images import read_image
from inspection_models.networks import EfficientNetLite0, NetworkError, build_network, network_names
from inspection_models.networks.build import last_layer
from inspection_models.networks.efficientnet_lite import (
    PIXEL_MEAN,
    PIXEL_STD,
    SameConv2d,
    imagenet_network,
    map_by_order,
)
from inspection_models.preprocessing import Preprocessing

MILITARY_UNIFORM = 652  # in the list of the 1000 ImageNet classes


def test_the_pretrained_network_knows_a_well_known_photograph() -> None:
    photograph = read_image(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").pixels
    network = imagenet_network().eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008
    inputs, _ = Preprocessing("letterbox", (224, 224), PIXEL_MEAN, PIXEL_STD).apply(photograph)
    with torch.inference_mode():
        probabilities = network(inputs.unsqueeze(0)).softmax(1)[0]
    assert int(probabilities.argmax()) == MILITARY_UNIFORM
    assert probabilities.max() > 0.4


def test_a_new_head_leaves_the_pretrained_body() -> None:
    network = build_network("efficientnet-lite0", 5)
    original = imagenet_network().state_dict()
    for name, tensor in network.state_dict().items():
        if not name.startswith("classifier."):
            torch.testing.assert_close(tensor, original[name], rtol=0, atol=0)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
    random = build_network("efficientnet-lite0", 5, pretrained=False).state_dict()
    assert not torch.equal(random["stem.convolution.weight"], original["stem.convolution.weight"])


@pytest.mark.parametrize("size", [224, 225, 97, 33])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (3, 1), (5, 1)])
def test_same_padding_is_tensorflows(size: int, kernel: int, stride: int) -> None:
    """Output i sees the input from i * stride - before, where before is half the needed padding, rounded down."""
    outputs = -(-size // stride)
    before = max((outputs - 1) * stride + kernel - size, 0) // 2
    layer = SameConv2d(1, 1, kernel, stride)
    with torch.no_grad():
        layer.weight.fill_(0)
        layer.weight[0, 0, 0, 0] = 1.0  # picks the first pixel of each window
    ramp = torch.arange(1.0, size + 1)
    result = layer(ramp.view(1, 1, 1, -1).expand(1, 1, size, size))[0, 0]
    assert result.shape == (outputs, outputs)
    first = torch.arange(outputs) * stride - before
    expected = torch.where((first >= 0) & (first < size), ramp[first.clamp(0, size - 1)], torch.zeros(()))
    torch.testing.assert_close(result[-1], expected)


def test_a_grid_of_the_last_block_is_a_thirtysecond_of_the_input() -> None:
    network = EfficientNetLite0(2)
    shapes = []
    network.head.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    network(torch.zeros(2, 3, 160, 224))
    assert shapes == [(2, 1280, 5, 7)]


def test_mapping_by_order_refuses_what_does_not_line_up() -> None:
    target = {"a.weight": torch.zeros(2, 2), "a.bias": torch.zeros(2)}
    assert set(map_by_order({"x.weight": torch.ones(2, 2), "x.bias": torch.ones(2)}, target)) == set(target)
    for source in (
        {"x.weight": torch.ones(2, 2)},
        {"x.weight": torch.ones(2, 3), "x.bias": torch.ones(2)},
        {"x.bias": torch.ones(2, 2), "x.weight": torch.ones(2)},
    ):
        with pytest.raises(RuntimeError, match=r"do not belong together|does not fit"):
            map_by_order(source, target)


def test_the_names_are_those_of_cnns() -> None:
    names = network_names()
    assert names[0] == "efficientnet-lite0"
    assert {"resnet50", "vgg16", "mobilenet_v3_small", "densenet121", "convnext_tiny", "squeezenet1_1"} <= set(names)
    assert not [name for name in names if name.startswith(("vit", "swin", "maxvit"))]


def check_head(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name, 3, pretrained=False)
    _, head = last_layer(network)
    assert head.weight.shape[0] == 3


FAMILIES = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "resnet18",
    "squeezenet1_0",
    "vgg11",
    "vgg11_bn",
    "wide_resnet50_2",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gets_a_head_for_the_classes(name: str) -> None:
    check_head(name)


# The RegNets compute their widths with tensors and so cannot be built without memory; one of them is run below.
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in network_names() if not name.startswith("regnet")])
def test_every_network_gets_a_head_for_the_classes(name: str) -> None:
    check_head(name)


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "googlenet", "regnet_y_400mf"]
)
def test_torchvision_networks_give_plain_logits(name: str) -> None:
    network = build_network(name, 4)
    for mode in (True, False):
        assert network.train(mode)(torch.rand(2, 3, 96, 96)).shape == (2, 4)


def test_an_unknown_name_brings_close_ones() -> None:
    with pytest.raises(NetworkError, match=r"did you mean .*resnet50"):
        build_network("resnet5O", 3)
    with pytest.raises(NetworkError, match="efficientnet-lite0"):
        build_network("zzz", 3)
    with pytest.raises(NetworkError, match="did you mean"):
        build_network("vit_b_16", 3)
    with pytest.raises(NetworkError, match="at least 2"):
        build_network("resnet18", 1)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_local_weights_go_in_and_a_foreign_head_stays_out(tmp_path: Path, suffix: str) -> None:
    source = build_network("shufflenet_v2_x0_5", 10)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": source.state_dict()}, path)
    else:
        safetensors.torch.save_file(source.state_dict(), path)
    same = build_network("shufflenet_v2_x0_5", 10, weights=path)
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(same.state_dict()[name], tensor, rtol=0, atol=0)
    other = build_network("shufflenet_v2_x0_5", 3, weights=path).state_dict()
    torch.testing.assert_close(other["conv1.0.weight"], source.state_dict()["conv1.0.weight"], rtol=0, atol=0)
    assert other["fc.weight"].shape[0] == 3


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file(build_network("shufflenet_v2_x0_5", 3).state_dict(), path)
    with pytest.raises(NetworkError, match=r"other\.safetensors does not fit the network: it lacks"):
        build_network("resnet18", 3, weights=path)
    with pytest.raises(NetworkError, match="has another shape of"):
        build_network("shufflenet_v2_x1_0", 3, weights=path)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


@pytest.mark.slow
def test_weights_never_run_code_and_damage_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"conv1.weight": Malicious()}, path)
    with pytest.raises(NetworkError, match="cannot be read as weights"):
        build_network("resnet18", 3, weights=path)
    assert "executed" not in capsys.readouterr().out
    path.write_bytes(b"nonsense")
    with pytest.raises(NetworkError, match="cannot be read as weights"):
        build_network("resnet18", 3, weights=path)
    with pytest.raises(NetworkError, match="cannot be read as weights"):
        build_network("resnet18", 3, weights=tmp_path / "absent.safetensors")
    torch.save([torch.zeros(2)], path)
    with pytest.raises(NetworkError, match="holds no state"):
        build_network("resnet18", 3, weights=path)


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(NetworkError, match="head"):
        last_layer(nn.Sequential(nn.ReLU()))
