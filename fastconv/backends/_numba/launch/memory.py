"""Arrays as the kernels take them: addresses, codes of element types, memory to work in."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..words.pointer import BYTE, DOUBLE, FLOAT, INT, LINE, LINE_OF_LONGS

__all__ = ["addresses", "code", "deal", "workspace"]


CODES = {
    np.dtype(np.float32): FLOAT,
    np.dtype(np.float64): DOUBLE,
    np.dtype(np.uint8): BYTE,
    np.dtype(np.int32): INT,
}


def code(array: np.ndarray) -> int:
    """The kernels' name of an array's element type."""
    return CODES[array.dtype]


def addresses(*arrays: np.ndarray | None) -> list[int]:
    """Where the arrays begin; 0 for None."""
    return [0 if array is None else array.ctypes.data for array in arrays]


def workspace(dtype: np.dtype[Any], *counts: int) -> tuple[np.ndarray, list[int]]:
    """Memory for several arrays of so many elements, and where each begins, on a `LINE`.

    The memory lives as long as the first result does.
    """
    sizes = [-(-count * dtype.itemsize // LINE) * LINE for count in counts]
    memory = np.empty(sum(sizes) + LINE, np.uint8)
    begin = memory.ctypes.data + -memory.ctypes.data % LINE
    return memory, [begin + sum(sizes[:i]) for i in range(len(sizes))]


def deal(units: int, parts: int) -> np.ndarray:
    """The shares of all parts for `next_unit`: first unit and end, each in a line of its own.

    Processors seldom run at one speed: a part that is done goes on with what others have left.
    """
    shares = np.zeros((parts, LINE_OF_LONGS), np.int64)
    ends = np.arange(parts + 1) * units // parts
    shares[:, 0], shares[:, 1] = ends[:-1], ends[1:]
    return shares
