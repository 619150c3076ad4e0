"""Memory of large results, reused once nothing refers to them.

Touching a new page for the first time costs more than what most kernels do with it, and a training
step needs the same sizes as the step before. Every thread draws from one `Pool` of the process,
which keeps at most 128 MiB. Inside `drawing_from` it draws from a network's pool, which keeps at
most twice what the largest of the last 128 predictions or steps drew, however many threads made
them, and nothing once the network is gone.
"""

from __future__ import annotations

import math
import os
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from ..errors import OutOfMemory

__all__ = [
    *("LINE", "Pool", "Use", "array_in", "bytes_for", "drawing_from", "empty", "fresh"),
    *("references", "unused", "whole_lines"),
]

LINE = 64
"""Bytes of a cache line."""

LEAST = 1 << 16
"""Bytes of a result below which memory is not kept: malloc reuses it well."""

MOST = 1 << 27
"""Bytes that the process keeps in all, including those in use."""

ROOM = 4
"""A result may take memory that is larger by one part in this many."""

RECENT = 128
"""How many uses decide how much a pool keeps: they span the evaluation between two epochs."""

_lock = threading.RLock()
"""Held briefly by any pool, and while the process forks, so that no child finds it held."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


def whole_lines(size: int) -> int:
    """So many bytes, rounded up to whole cache lines."""
    return -(-size // LINE) * LINE


def references(memory: NDArray[Any]) -> int | None:
    """A number that grows with the references to memory; None where references are not counted."""
    return sys.getrefcount(memory) if _COUNTED else None


def _references(kept: list[NDArray[np.uint8]], i: int) -> int:
    memory = kept[i]
    return sys.getrefcount(memory)


_UNUSED = _references([np.empty(0, np.uint8)], 0)
"""The count where nothing but such a list refers to the memory."""

_COUNTED = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
"""Whether reference counts say if an object is in use."""


def unused(kept: list[NDArray[np.uint8]], i: int) -> bool:
    """Whether nothing but this list is known to refer to its memory number `i`."""
    return _COUNTED and _references(kept, i) == _UNUSED


class Pool:
    """Memory that is free when nothing but the pool refers to it.

    Every view of an array, and every tensor of another library on its memory, holds a
    reference. If the pool has more than it may keep, it drops what was used longest ago.

    Parameters
    ----------
    most : int, optional
        Bytes to keep, including those in use; one result may have a quarter of them.
        None: twice what the largest of the last `RECENT` uses drew, or what all present uses
        draw together. So two sizes that take turns both stay.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.kept: list[NDArray[np.uint8]] = []
        self._uses: WeakSet[Use] = WeakSet()  # so that what Ctrl-C leaves is not counted for ever
        self._recent: deque[int] = deque([0], RECENT)

    def empty_bytes(self, size: int, use: Use | None = None) -> NDArray[np.uint8]:
        """At least `size` bytes: free memory that fits, else new memory.

        If new memory would be too much, any free memory that is large enough will do.
        """
        if not _COUNTED or size < LEAST or (self.most is not None and size > self.most // 4):
            return np.empty(size, np.uint8)
        with _lock:
            memory = self._take_free(size, size + size // ROOM, use)
            if memory is None and self._total() + size > self._limit(size):
                memory = self._take_free(size, sys.maxsize, use)
            new = memory is None
            if memory is None:
                memory = np.empty(size, np.uint8)
            self.kept.append(memory)
            for other in self._uses:
                if other is not use:
                    other.lose(memory)
            if use is not None:
                use.note(memory, size)
            if new:
                self._trim()
            return memory

    def _take_free(self, least: int, most: int, use: Use | None) -> NDArray[np.uint8] | None:
        """The smallest free memory that fits, preferably one that `use` has had before."""
        best, found = (True, sys.maxsize), -1
        for i in range(len(self.kept)):  # nothing here may refer to the memory
            if least <= self.kept[i].size <= most:
                rank = (use is None or id(self.kept[i]) not in use.sizes, self.kept[i].size)
                if rank < best and unused(self.kept, i):
                    best, found = rank, i
        return None if found < 0 else self.kept.pop(found)

    def begin(self, use: Use) -> None:
        """Start to count what `use` draws."""
        with _lock:
            self._uses.add(use)

    def end(self, use: Use) -> None:
        """End a use, and keep no more than the last uses need."""
        with _lock:
            self._uses.discard(use)
            self._recent.append(use.most)
            self._trim()

    def release(self) -> None:
        """Drop all free memory."""
        with _lock:
            self._drop(self._total(), True)

    def _limit(self, more: int = 0) -> int:
        """Bytes to keep, if the present uses draw `more` bytes besides."""
        if self.most is not None:
            return self.most
        return 2 * max(max(self._recent), sum(use.drawn for use in self._uses) + more)

    def _total(self) -> int:
        return sum(memory.size for memory in self.kept)

    def _trim(self) -> None:
        """Drop what exceeds the limit: first free memory, then memory in use, the oldest first."""
        surplus = self._total() - self._limit()
        for free in (True, False):
            surplus = self._drop(surplus, free)

    def _drop(self, surplus: int, free: bool) -> int:
        """Drop the oldest memory, perhaps only free memory; returns what is left of the surplus."""
        i = 0
        while surplus > 0 and i < len(self.kept):
            if free and not unused(self.kept, i):
                i += 1
                continue
            memory = self.kept.pop(i)
            surplus -= memory.size
            for use in self._uses if free else ():
                use.lose(memory)
        return surplus


class Use:
    """One user of a pool, such as a step of training, and how much of it that takes.

    Attributes
    ----------
    drawn : int
        Bytes that it has asked for. Results in the same memory count once, and not at all once
        another use has that memory.
    most : int
        The largest value of `drawn` so far.
    sizes : dict of int to int
        The largest size that each piece of memory was drawn for, by the memory's id.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.drawn = self.most = 0
        self.sizes: dict[int, int] = {}

    def note(self, memory: NDArray[np.uint8], size: int) -> None:
        """Count memory that was drawn for a result of this size."""
        more = size - self.sizes.get(id(memory), 0)
        if more > 0:
            self.sizes[id(memory)] = size
            self.drawn += more
            self.most = max(self.most, self.drawn)

    def lose(self, memory: NDArray[np.uint8]) -> None:
        """Stop counting memory that another use has drawn."""
        self.drawn -= self.sizes.pop(id(memory), 0)


class _Current(threading.local):
    pool = Pool(MOST)
    use: Use | None = None


_current = _Current()


@contextmanager
def drawing_from(use: Use) -> Iterator[None]:
    """Let this thread draw from the pool of `use`, inside a ``with`` block."""
    before = _current.pool, _current.use
    try:
        _current.pool, _current.use = use.pool, use
        use.pool.begin(use)
        yield
    finally:
        _current.pool, _current.use = before
        use.pool.end(use)


def bytes_for(shape: tuple[int, ...], dtype: Any) -> NDArray[np.uint8]:
    """Memory for an array, perhaps used before, with space to align it to a cache line.

    Raises
    ------
    OutOfMemory
        The system does not have as much, or no system could.
    """
    dtype = np.dtype(dtype)
    size = dtype.itemsize * math.prod(shape) + LINE
    # NumPy refuses axes that are too long together, even if another one is 0.
    if size > LINE or dtype.itemsize * math.prod(axis for axis in shape if axis) <= sys.maxsize:
        with suppress(MemoryError, ValueError):
            return _current.pool.empty_bytes(size, _current.use)
    raise _too_large(shape, dtype)


def fresh(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """`np.empty`, but with the errors of `bytes_for`."""
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError):
        raise _too_large(shape, np.dtype(dtype)) from None


def _too_large(shape: tuple[int, ...], dtype: np.dtype[Any]) -> OutOfMemory:
    what = f"an array of shape {shape} and dtype {dtype}"
    if 0 in shape:
        return OutOfMemory(f"{what}: axes too long together, even if there is one of length 0")
    size = dtype.itemsize * math.prod(shape) // 2**30
    return OutOfMemory(f"{what} takes {size:,} GiB, more than there is")


def empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Like `np.empty`, C-contiguous, perhaps in memory that was used before."""
    return array_in(bytes_for(shape, dtype), shape, dtype)


def array_in(memory: NDArray[np.uint8], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """A C-contiguous array from the first cache line of `memory` on.

    A vector as long as a cache line is read twice as fast if it is aligned to one.
    """
    return np.ndarray(shape, dtype, memory, -memory.ctypes.data % LINE)
