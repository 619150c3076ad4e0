"""Results are compared before anything is timed."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "DEEP_EXACT_TO",
    "EXACT_TO",
    "NETWORK_EXACT_TO",
    "PEERS_DEEP_EXACT_TO",
    "PEERS_EXACT_TO",
    "assert_same",
    "assert_same_gradients",
    "assert_winners",
]

EXACT_TO = {"float32": 2e-5, "float64": 1e-12, "bfloat16": 3e-2}
"""Largest error of one kernel, relative to the largest value expected: the tests' own.

Of a contender that multiplies bfloat16s, each of which is off by up to 2e-3, that is only a sign
that it computes the same thing.
"""

PEERS_EXACT_TO = {"float32": 1e-4, "float64": 1e-12, "bfloat16": 3e-2}
"""The same for other libraries: PyTorch's weight gradient over 400,000 pixels is off by 2.4e-5."""

NETWORK_EXACT_TO = {"float32": 2e-4, "float64": 1e-9, "bfloat16": 2e-1}
"""Norm of the error of a whole network's gradients, relative to the gradient's own norm.

Not the largest error: where two places of a pool are equal but for rounding, or a unit is at
the edge of its ReLU, one image of a thousand may take the other way in float32. PyTorch's own first
gradient of two images is off by 0.14 under autocast to bfloat16, and of 100 images by 0.04.
"""

DEEP_EXACT_TO = {"float32": 3e-2, "float64": 1e-8, "bfloat16": 7e-1}
"""The same for large networks, where rounding grows through dozens of ReLUs and normalisations.

PyTorch's own gradients of GoogLeNet's first layer are off by 2.4e-3 in float32, and a product of
F(4x4, 3x3) rounds some ten times as coarsely. A wrong gradient is off by its own size.
"""

PEERS_DEEP_EXACT_TO = {"float32": 1e-1, "float64": 1e-8, "bfloat16": 7e-1}
"""The same for other libraries: PyTorch's first normalisation of ResNet-50 is off by 3.2e-2."""


def assert_same(got: dict[str, Any], wanted: dict[str, Any], tolerance: float, what: str) -> None:
    """Raise an AssertionError unless each wanted array was got, to the tolerance.

    Integers, such as winning positions, must be equal.
    """
    for name, right in wanted.items():
        if right is None:
            continue
        left = np.asarray(got[name])
        if left.shape != right.shape:
            raise AssertionError(f"{what}: {name} has shape {left.shape}, expected {right.shape}")
        if right.dtype.kind != "f":
            if not np.array_equal(left, right):
                raise AssertionError(f"{what}: {name} differs")
            continue
        scale = np.abs(right).max(initial=0.0)
        error = np.abs(left - right).max(initial=0.0)
        if not error <= tolerance * scale:
            raise AssertionError(f"{what}: {name} is off by {error:.2e}, largest value {scale:.2e}")


def assert_winners(winner: np.ndarray, places: np.ndarray, tolerance: float, what: str) -> None:
    """Raise an AssertionError unless each winner is a largest value, to the tolerance.

    Where two places differ by rounding alone, either may win.

    Parameters
    ----------
    winner : array of int
        By index along the last axis of `places`.
    places : array (*winner.shape, places)
        Values of the reference.
    """
    if winner.shape != places.shape[:-1]:
        raise AssertionError(
            f"{what}: winner has shape {winner.shape}, expected {places.shape[:-1]}"
        )
    largest_index = winner.max(initial=0)
    if largest_index >= places.shape[-1]:
        raise AssertionError(f"{what}: winner {largest_index} of {places.shape[-1]} places")
    chosen = np.take_along_axis(places, winner[..., None].astype(np.intp), axis=-1)[..., 0]
    short = (places.max(axis=-1) - chosen).max(initial=0.0)
    scale = np.abs(places).max(initial=0.0)
    if not short <= tolerance * scale:
        raise AssertionError(
            f"{what}: a winner is {short:.2e} below its maximum, largest value {scale:.2e}"
        )


def assert_same_gradients(
    got: dict[str, Any],
    wanted: dict[str, Any],
    dtype: str,
    what: str,
    limits: dict[str, float] = NETWORK_EXACT_TO,
) -> None:
    """Raise an AssertionError unless a whole network's gradients agree to the dtype's limit."""
    for name, right in wanted.items():
        left = np.asarray(got[name], np.float64)
        error, size = np.linalg.norm(left - right), np.linalg.norm(right)
        if not error <= limits[dtype] * size:
            raise AssertionError(f"{what}: {name} is off by {error / size:.2e} in norm")
