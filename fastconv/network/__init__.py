"""Networks of layers: how they run, what they hold, what they look like, how they are copied."""

from .network import Network, Predictor

__all__ = ["Network", "Predictor"]
