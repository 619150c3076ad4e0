"""Networks that are ready to train, by name."""

from ..network import Network
from .deep_convnet import DeepConvNet

__all__ = ["MODELS", "DeepConvNet"]

MODELS: dict[str, type[Network]] = {"deepconvnet": DeepConvNet}
"""The models by the names that the command line takes."""
