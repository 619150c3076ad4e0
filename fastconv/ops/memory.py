"""Memory of large results, used again once nobody holds them.

A page that the system has just given costs more to touch for the first time than most kernels
do with it, and a loop over layers asks for the same sizes in every step.
"""

from __future__ import annotations

import math
import sys
import sysconfig
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LINE", "array_in", "empty", "empty_bytes"]

LINE = 64
"""Bytes of a cache line."""

LEAST = 1 << 16
"""Bytes of a result below which memory is not kept: the C library keeps it well."""

MOST = 1 << 27
"""Bytes kept in all, those in use included."""

ROOM = 4
"""A result may lie in memory that is larger by a part in so many."""

_kept: list[NDArray[np.uint8]] = []
_lock = threading.Lock()


def _references(kept: list[NDArray[np.uint8]], i: int) -> int:
    memory = kept[i]
    return sys.getrefcount(memory)


_UNUSED = _references([np.empty(0, np.uint8)], 0)
"""What is counted where nothing but such a list refers to the memory."""

_COUNTED = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
"""Whether counts of references say who holds an object."""


def empty_bytes(size: int) -> NDArray[np.uint8]:
    """At least `size` bytes, the oldest that are free and fit, else new ones.

    They are free where nothing but this module refers to them: every view of an array,
    and every tensor of another library on its memory, holds a reference.
    """
    if not _COUNTED or not LEAST <= size <= MOST // 4:
        return np.empty(size, np.uint8)
    with _lock:
        for i in range(len(_kept)):
            fits = size <= _kept[i].size <= size + size // ROOM
            if fits and _references(_kept, i) == _UNUSED:
                _kept.append(_kept.pop(i))
                return _kept[-1]
        memory = np.empty(size, np.uint8)
        _kept.append(memory)
        while sum(kept.size for kept in _kept) > MOST:
            _kept.pop(0)
        return memory


def empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Like `np.empty`, C-contiguous, in memory that may have been used before."""
    return array_in(empty_bytes(math.prod(shape) * np.dtype(dtype).itemsize + LINE), shape, dtype)


def array_in(memory: NDArray[np.uint8], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """A C-contiguous array from the first cache line of `memory` on.

    A vector that fills a cache line is read twice as fast where it lies in one.
    """
    start = -memory.ctypes.data % LINE
    stop = start + math.prod(shape) * np.dtype(dtype).itemsize
    return memory[start:stop].view(dtype).reshape(shape)
