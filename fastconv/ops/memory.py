"""Memory of large results, used again once nobody holds them.

A page that the system has just given costs more to touch for the first time than most kernels
do with it, and a step of training asks for the same sizes as the step before. Every thread draws
from one `Pool` of the process, or inside `drawing_from` from another.
"""

from __future__ import annotations

import math
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OutOfMemory

__all__ = ["LINE", "Pool", "array_in", "bytes_for", "drawing_from", "empty", "fresh"]

LINE = 64
"""Bytes of a cache line."""

LEAST = 1 << 16
"""Bytes of a result below which memory is not kept: the C library keeps it well."""

MOST = 1 << 27
"""Bytes that the process keeps in all, those in use included."""

ROOM = 4
"""A result may lie in memory that is larger by a part in so many."""


def _references(kept: list[NDArray[np.uint8]], i: int) -> int:
    memory = kept[i]
    return sys.getrefcount(memory)


_UNUSED = _references([np.empty(0, np.uint8)], 0)
"""What is counted where nothing but such a list refers to the memory."""

_COUNTED = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
"""Whether counts of references say who holds an object."""


class Pool:
    """Memory that is free where nothing but the pool refers to it.

    Every view of an array, and every tensor of another library on its memory, holds a
    reference.

    Parameters
    ----------
    most : int, optional
        Bytes to keep, those in use included; a quarter of it at most for one result.
        None: all that was ever asked for, until the pool itself goes.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.kept: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def empty_bytes(self, size: int) -> NDArray[np.uint8]:
        """At least `size` bytes, the oldest that are free and fit, else new ones."""
        if not _COUNTED or size < LEAST or (self.most is not None and size > self.most // 4):
            return np.empty(size, np.uint8)
        with self._lock:
            for i in range(len(self.kept)):
                fits = size <= self.kept[i].size <= size + size // ROOM
                if fits and _references(self.kept, i) == _UNUSED:
                    self.kept.append(self.kept.pop(i))
                    return self.kept[-1]
            memory = np.empty(size, np.uint8)
            self.kept.append(memory)
            while self.most is not None and sum(kept.size for kept in self.kept) > self.most:
                self.kept.pop(0)
            return memory


class _Current(threading.local):
    pool = Pool(MOST)


_current = _Current()


@contextmanager
def drawing_from(pool: Pool) -> Iterator[None]:
    """Let what this thread asks for come from another pool, inside a ``with`` block."""
    before = _current.pool
    _current.pool = pool
    try:
        yield
    finally:
        _current.pool = before


def bytes_for(shape: tuple[int, ...], dtype: Any) -> NDArray[np.uint8]:
    """Memory for an array, which may have been used before, and for a cache line to begin at.

    Raises
    ------
    OutOfMemory
        The system does not have as much, or no system could.
    """
    dtype = np.dtype(dtype)
    size = dtype.itemsize * math.prod(shape) + LINE
    # NumPy makes no array whose other axes are too long, even where one of them is 0.
    if size > LINE or dtype.itemsize * math.prod(axis for axis in shape if axis) <= sys.maxsize:
        with suppress(MemoryError, ValueError):
            return _current.pool.empty_bytes(size)
    raise _too_large(shape, dtype)


def fresh(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """`np.empty`, but for the error, which is that of `bytes_for`."""
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError):
        raise _too_large(shape, np.dtype(dtype)) from None


def _too_large(shape: tuple[int, ...], dtype: np.dtype[Any]) -> OutOfMemory:
    size = dtype.itemsize * math.prod(shape) // 2**30
    return OutOfMemory(
        f"an array of shape {shape} and dtype {dtype} takes {size:,} GiB, more than there is"
    )


def empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Like `np.empty`, C-contiguous, in memory that may have been used before."""
    return array_in(bytes_for(shape, dtype), shape, dtype)


def array_in(memory: NDArray[np.uint8], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """A C-contiguous array from the first cache line of `memory` on.

    A vector that fills a cache line is read twice as fast where it lies in one.
    """
    return np.ndarray(shape, dtype, memory, -memory.ctypes.data % LINE)
