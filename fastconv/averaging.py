"""Earlier place of `fastconv.training.averaging`, kept for code that imports it from here."""

from .training.averaging import EMA, SWA, WeightAverage

__all__ = ["EMA", "SWA", "WeightAverage"]
