"""Awkward arrays: the same values in odd memory, and odd values in plain memory.

Every operation must give the same results for each of them as for a plain array.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

MEMORY = (
    "contiguous",
    "fortran",
    "strided",
    "negative strides",
    "channels last",
    "read-only",
    "byte-swapped",
    "unaligned",
    "broadcast first axis",
)
"""Kinds of memory that `in_memory` makes."""


def in_memory(kind: str, array: np.ndarray) -> np.ndarray:
    """The values of `array` in memory of this kind.

    Only "broadcast first axis" (stride 0) changes values: all items of the first axis are copies
    of the first one.
    """
    match kind:
        case "contiguous":
            return array.copy()
        case "fortran":
            return array.copy(order="F")
        case "strided":
            wide = np.full([2 * size for size in array.shape], -7, array.dtype)
            view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
            view[...] = array
            return view
        case "negative strides":
            backwards = tuple(slice(None, None, -1) for _ in array.shape)
            return array[backwards].copy()[backwards]
        case "channels last":
            if array.ndim < 3:
                return array.copy()
            return np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1)
        case "read-only":
            copy = array.copy()
            copy.flags.writeable = False
            return copy
        case "byte-swapped":
            return array.astype(array.dtype.newbyteorder())
        case "unaligned":
            raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
            view = raw.view(array.dtype).reshape(array.shape)
            view[...] = array
            return view
        case "broadcast first axis":
            return np.broadcast_to(array[:1], array.shape)
    raise AssertionError(f"no memory of the kind {kind!r}")


VALUES = ("empty batch", "size-1 axes", "ties", "zeros", "NaN", "infinities")
"""Kinds of values that `images` makes."""


def images(kind: str, rng: np.random.Generator, dtype: np.dtype) -> np.ndarray:
    """Images (N, C, H, W) of odd values or shape; H and W are at least 4, or both 1."""
    shape = {"empty batch": (0, 3, 6, 5), "size-1 axes": (1, 1, 1, 1)}.get(kind, (2, 3, 6, 5))
    x = rng.standard_normal(shape)
    match kind:
        case "ties":
            x = rng.integers(-1, 2, shape).astype(float)
        case "zeros":
            x = np.where(rng.random(shape) < 0.5, 0.0, -0.0)
        case "NaN":
            x[rng.random(shape) < 0.15] = np.nan
        case "infinities":
            x[rng.random(shape) < 0.15] = np.inf
            x[rng.random(shape) < 0.15] = -np.inf
    return x.astype(dtype)


@contextmanager
def unchanged(*arrays: np.ndarray) -> Iterator[None]:
    """Fail if the block changes a byte of any of the arrays."""
    before = [array.tobytes() for array in arrays]
    yield
    for number, (array, old) in enumerate(zip(arrays, before, strict=True)):
        assert array.tobytes() == old, f"input {number} of shape {array.shape} was written"
