"""Networks of layers: how they run, what they hold, what they look like, how they are copied."""

from .network import Network
from .predictor import Predictor
from .prepared import PreparedNetwork

__all__ = ["Network", "Predictor", "PreparedNetwork"]
