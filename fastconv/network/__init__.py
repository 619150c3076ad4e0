"""Layers as a network: executed, kept, described, compared with another's."""

from .network import Network, Predictor

__all__ = ["Network", "Predictor"]
