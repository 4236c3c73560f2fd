"""The attribution methods by name, and the one function that runs them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from inspection_models.attribution import gradient_cams, integrated_gradients, quorum, rise, score_cam, sise
from inspection_models.attribution.confidence import check_activation
from inspection_models.attribution.engines import open_engine
from inspection_models.attribution.errors import AttributionError
from inspection_models.attribution.fusion import Gate
from inspection_models.attribution.request import Attribution, Request, checked_inputs, checked_targets
from inspection_models.attribution.scoring import ScoringOptions, default_batch_size
from inspection_models.attribution.tracing import Trace, blank_input, check_evaluation_mode, trace


@dataclass(frozen=True)
class Method:
    """A method: the dataclass of its options and the function (request, trace, options) that explains.

    `gate`: how its grids are fused, where that is no option. `revision`: counts changes to its constants and steps, so
    that a record of an older one is not taken for one of this.
    """

    options: type[Any]
    explain: Callable[[Request, Trace, Any], Attribution]
    gate: Gate = "none"
    revision: int = 1


METHODS: Mapping[str, Method] = {
    "quorum": Method(quorum.QuorumOptions, quorum.explain_quorum, gate="product"),
    "sise": Method(sise.SiseOptions, sise.explain_sise),
    "ada-sise": Method(sise.AdaSiseOptions, sise.explain_ada_sise),
    "grad-cam": Method(gradient_cams.GradientCamOptions, gradient_cams.explain_grad_cam),
    "grad-cam++": Method(gradient_cams.GradientCamOptions, gradient_cams.explain_grad_cam_plus_plus),
    "layer-cam": Method(gradient_cams.GradientCamOptions, gradient_cams.explain_layer_cam),
    "score-cam": Method(score_cam.ScoreCamOptions, score_cam.explain_score_cam),
    "rise": Method(rise.RiseOptions, rise.explain_rise),
    "integrated-gradients": Method(
        integrated_gradients.IntegratedGradientsOptions, integrated_gradients.explain_integrated_gradients
    ),
}


def attribute(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    method: str = "sise",
    activation: str = "softmax",
    *,
    watch: Callable[[Attribution], None] | None = None,
    **options: Any,
) -> Attribution:
    """Explain which pixels of `inputs` speak for class `targets`, image by image.

    `network`: a CNN in evaluation mode that answers [N, C, H, W] with logits [N, classes]; it is left as it was.
    `inputs`: float [N, C, H, W], already normalised. `targets`: int [N], or [N, T] for T classes of each image at the
    cost of the masks that any of them needs. `activation`: how logits become confidences, "softmax" or, for classes
    that do not exclude each other, "sigmoid". `options`: the method's own, such as `SiseOptions` for "sise".
    `watch`, for a single image, is called with the best map so far while the method still works; the last one is not
    among them but returned. The same call gives the same bits.

    Raises `AttributionError`, which is a `ValueError`, for an unknown method, activation or option, for inputs or
    targets that do not fit, and where the network's numbers are not finite; `NetworkError`, one of these, for a network
    in training mode, without convolutional blocks, or whose data flow cannot be followed.
    """
    settings = _options(_known(method), options)
    check_evaluation_mode(network)
    ready = checked_inputs(network, inputs)
    # A copy, for a network may work in place on its input, which is the caller's.
    traced = trace(network, ready[:1].clone())
    classes = traced.nodes[traced.output].shape[1]
    if watch is not None and len(ready) > 1:
        raise AttributionError(f"watch follows one image, not {len(ready)}: explain them one by one")
    request = Request(
        network,
        ready,
        checked_targets(targets, len(ready), classes),
        several=torch.as_tensor(targets).ndim == 2,
        activation=check_activation(activation, classes),
        watch=watch,
    )
    return METHODS[method].explain(request, traced, settings)


def settled_options(
    network: nn.Module, input_size: tuple[int, int], method: str, options: Mapping[str, Any], *, channels: int = 3
) -> dict[str, Any]:
    """The options of a method for inputs of `input_size` (H, W) and `channels`, with nothing left to a default.

    With them a call gives the same bits wherever the same releases run on the same kind of processor, though another
    number of masks at once, or another engine, would round otherwise. Opens the engine, so that the first explanation
    need not. Raises as `attribute` does.
    """
    settled = dataclasses.asdict(_options(_known(method), options))
    if issubclass(METHODS[method].options, ScoringOptions):
        blank = blank_input(network, input_size, channels)
        settled["batch_size"] = settled["batch_size"] or default_batch_size(input_size, blank.device)
        engine = open_engine(settled["engine"], network, trace(network, blank), blank, settled["batch_size"])
        settled["engine"] = engine.name
    return settled


def recorded_settings(method: str, settled: Mapping[str, Any]) -> dict[str, Any]:
    """All that a record needs to be computed and rendered again: settled options, gate and revision of the method."""
    return {"gate": METHODS[method].gate, **settled, "revision": METHODS[method].revision}


def _known(method: str) -> str:
    if method not in METHODS:
        raise AttributionError(f"unknown method {method!r}: there are {', '.join(METHODS)}")
    return method


def _options(method: str, given: Mapping[str, Any]) -> Any:
    kind = METHODS[method].options
    known = [option.name for option in dataclasses.fields(kind)]
    if unknown := sorted(set(given) - set(known)):
        raise AttributionError(f"{method} has no option {', '.join(unknown)}: it has {', '.join(known) or 'none'}")
    return kind(**given)
