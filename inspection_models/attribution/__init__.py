"""Which pixels convinced the network: convolutional blocks, attribution methods and their maps."""

from inspection_models.attribution.blocks import ConvolutionalBlock, convolutional_blocks
from inspection_models.attribution.errors import AttributionError, NetworkError
from inspection_models.attribution.fusion import render_map
from inspection_models.attribution.methods import METHODS, attribute, recorded_settings, settled_options
from inspection_models.attribution.request import Attribution

__all__ = [
    "METHODS",
    "Attribution",
    "AttributionError",
    "ConvolutionalBlock",
    "NetworkError",
    "attribute",
    "convolutional_blocks",
    "recorded_settings",
    "render_map",
    "settled_options",
]
