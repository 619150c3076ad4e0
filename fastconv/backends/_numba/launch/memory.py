"""What the kernels take: codes of element types, workspace, shares of the work."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..words.pointer import BYTE, DOUBLE, FLOAT, INT, LINE, LINE_OF_LONGS
from ..words.record import address
from .recording import recording

__all__ = ["code", "deal", "keep", "lasting", "workspace"]

CODES = {
    np.dtype(np.float32): FLOAT,
    np.dtype(np.float64): DOUBLE,
    np.dtype(np.uint8): BYTE,
    np.dtype(np.int32): INT,
}


def code(array: np.ndarray) -> int:
    """The kernels' code for an array's element type."""
    return CODES[array.dtype]


def keep(*things: Any) -> None:
    """Let a recording keep things whose addresses kernels are given."""
    if (to := recording()) is not None:
        to.keep(*things)


def workspace(dtype: np.dtype[Any], *counts: int) -> tuple[np.ndarray, list[int]]:
    """Memory for arrays of these many elements, and where each begins, on a `LINE`.

    The memory lives as long as the first result does, and in a recording until the call ends.
    """
    sizes = [-(-count * dtype.itemsize // LINE) * LINE for count in counts]
    if (to := recording()) is None:
        memory = np.empty(sum(sizes) + LINE, np.uint8)
        begin = address(memory)
        begin += -begin % LINE
    else:
        memory = to.lend(sum(sizes))
        begin = address(memory)
    return memory, [begin + sum(sizes[:i]) for i in range(len(sizes))]


def lasting(dtype: np.dtype[Any], count: int) -> tuple[np.ndarray, int]:
    """Memory for what is made of weights, and where it begins, on a `LINE`.

    It lives as long as the first result does; a recording keeps it.
    """
    memory = np.empty(count * dtype.itemsize + LINE, np.uint8)
    keep(memory)
    begin = address(memory)
    return memory, begin + -begin % LINE


def deal(units: int, parts: int) -> np.ndarray:
    """The shares of all parts for `next_unit`: first unit and end, each in a `LINE` of its own.

    Processors seldom run at the same speed: a part that is done takes units that others have left.
    """
    shares = np.zeros((parts, LINE_OF_LONGS), np.int64)
    ends = np.arange(parts + 1) * units // parts
    shares[:, 0], shares[:, 1] = ends[:-1], ends[1:]
    if (to := recording()) is not None:
        to.put_back(shares)
    return shares
