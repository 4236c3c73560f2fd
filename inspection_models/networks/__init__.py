"""Networks by name, with a head for the wanted number of classes."""

from inspection_models.networks.build import DEFAULT_NETWORK, NetworkError, build_network, network_names
from inspection_models.networks.efficientnet_lite import EfficientNetLite0

__all__ = ["DEFAULT_NETWORK", "EfficientNetLite0", "NetworkError", "build_network", "network_names"]
