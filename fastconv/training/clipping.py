"""Gradient clipping by global norm: ``Trainer(..., clip_norm=5)``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["clip_gradients", "global_norm"]

Arrays = Mapping[str, NDArray[Any]]


def global_norm(grads: Arrays) -> float:
    """Return the root of the sum of squares of all numbers in all arrays, summed in float64."""
    return math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in grads.values()))


def clip_gradients(grads: Arrays, limit: float) -> tuple[Arrays, float]:
    """Return the gradients, scaled down where their `global_norm` is above `limit`, and the norm.

    All are multiplied by limit / (norm + 1e-6) (arXiv:1211.5063, with the term that PyTorch's
    ``clip_grad_norm_`` adds), into new arrays. A norm that is not finite changes nothing:
    it shows in the result, and no factor would mend it.
    """
    norm = global_norm(grads)
    factor = limit / (norm + 1e-6)
    if not math.isfinite(norm) or factor >= 1:
        return grads, norm
    return {key: gradient * factor for key, gradient in grads.items()}, norm
