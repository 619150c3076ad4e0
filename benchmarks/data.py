"""Images and labels to compute on: random ones, and a network that has just been made.

No kernel does less work for other values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastconv

__all__ = ["batch_of", "network_of"]

SEED = 0


def batch_of(images: int, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """Return (images (N, 1, 28, 28) in [0, 1), labels (N,)), the same values in every dtype."""
    rng = np.random.default_rng(SEED)
    x = rng.random((images, 1, 28, 28), np.float32).astype(dtype)
    return x, rng.integers(0, 10, images)


def network_of(dtype: str, backend: str | None) -> Any:
    """Return DeepConvNet with the same weights in every dtype: those of float32."""
    network = fastconv.DeepConvNet(dtype=dtype, backend=backend, seed=SEED)
    network.set_params(fastconv.DeepConvNet(seed=SEED).params)
    return network
