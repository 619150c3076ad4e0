"""Launches of kernels, noted as they are made, to be repeated without Python.

While a thread records, the team notes each launch: the kernel's address, its block of arguments
and the number of parts. What blocks point to must stay where it is, so addresses for blocks are
taken by `memory`, which lets the recording keep what is there. Most of it lives as long as the
recording does; memory that means nothing between calls is lent to one call after another.

Where weights do not change, what is made of them alone does not either, and the launches that make
it are left out (see `Team.run`). Values that a launch changes but needs as they were are put back
by a launch before it.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, operator"

from __future__ import annotations

import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numba import prange

from ..words.pointer import LINE, LONG, copy, invoke, numbers, pointers, use_threads
from .build import Builder, Kernel

__all__ = ["Recording", "recording", "run_launches", "run_launches_on_several"]

ENTRIES = 5
"""Integers that say what a launch is: kernel, block, parts, condition and its value."""

LAUNCH_BYTES = 8 * ENTRIES

CHUNK_BYTES = 1 << 20
"""The smallest piece of memory that is allocated to be lent to calls."""


def run_launches() -> Kernel:
    """All launches of a table, each if its condition holds, on this thread."""

    def kernel(table, count, _):
        for i in range(count):
            row = table + i * LAUNCH_BYTES
            address, block, parts = numbers(row, 0, 3)
            (condition,), (value,) = pointers(row, 3, 1, LONG), numbers(row, 4, 1)
            if condition[0] == value:
                for part in range(parts):
                    invoke(address, block, part, parts)

    return kernel


def run_launches_on_several() -> Kernel:
    """`run_launches`, but launches of several parts run on as many threads, at most `most`."""

    def kernel(table, count, most):
        for i in range(count):
            row = table + i * LAUNCH_BYTES
            address, block, parts = numbers(row, 0, 3)
            (condition,), (value,) = pointers(row, 3, 1, LONG), numbers(row, 4, 1)
            if condition[0] == value:
                if parts == 1:
                    invoke(address, block, 0, 1)
                else:
                    use_threads(min(parts, most))
                    for part in prange(parts):
                        invoke(address, block, part, parts)

    return kernel


def put_back() -> Kernel:
    """Restore integers to the values that they had."""

    def kernel(block, part, parts):
        target, source = pointers(block, 0, 2, LONG)
        (count,) = numbers(block, 2, 1)
        copy(target, source, count)

    return kernel


class Recording:
    """Launches in their order, with everything that they point to.

    Parameters
    ----------
    builder : Builder
    weights_stay : bool
        Whether what is made of weights is made only once.

    Attributes
    ----------
    most_parts : int
        The largest number of parts of any launch.
    """

    def __init__(self, builder: Builder, weights_stay: bool) -> None:
        self.weights_stay = weights_stay
        self.most_parts = 1
        self._builder = builder
        self._launches: list[tuple[int, ...]] = []
        self._ran: Counter[Any] = Counter()
        self._ran_if: list[tuple[Any, np.ndarray, int]] = []
        self._kept: list[Any] = []
        self._lent: list[np.ndarray] = []
        self._free = (0, 0)  # which piece of the lent memory, and from which byte on
        self._always = self._condition = (np.ones(1, np.int64), 1)

    def keep(self, *things: Any) -> None:
        """Keep things alive as long as the recording."""
        self._kept += things

    def add(self, kernel: Any, block: array[int], parts: int, ran: Any = None) -> None:
        """Note a launch; `ran` is its key in `Team.ran`."""
        flag, value = self._condition
        self.keep(kernel, block)
        address = block.buffer_info()[0]
        self._launches.append((kernel.address, address, parts, flag.ctypes.data, value))
        self.most_parts = max(self.most_parts, parts)
        if ran is not None and self._condition is self._always:
            self._ran[ran] += 1
        elif ran is not None:
            self._ran_if.append((ran, flag, value))

    def put_back(self, values: np.ndarray) -> None:
        """Note that these contiguous integers must be put back to what they are now."""
        now = values.copy()
        self.keep(values, now)
        block = array("q", [values.ctypes.data, now.ctypes.data, values.size])
        self.add(self._builder.serial(put_back), block, 1)

    @contextmanager
    def only_if(self, flag: np.ndarray, value: int) -> Iterator[None]:
        """Launches noted inside are made only if the integer `flag` (1,) has this value then."""
        before, self._condition = self._condition, (flag, value)
        self.keep(flag)
        try:
            yield
        finally:
            self._condition = before

    def lend(self, size: int) -> np.ndarray:
        """Memory of `size` bytes, from a `LINE` on, until the call ends."""
        size = -(-size // LINE) * LINE
        piece, begin = self._free
        while piece < len(self._lent) and begin + size > len(self._lent[piece]):
            piece, begin = piece + 1, 0
        if piece == len(self._lent):
            memory = np.empty(max(size, CHUNK_BYTES) + LINE, np.uint8)
            begin = -memory.ctypes.data % LINE
            self._lent.append(memory[begin : begin + max(size, CHUNK_BYTES)])
            begin = 0
        self._free = piece, begin + size
        return self._lent[piece][begin : begin + size]

    def next_call(self) -> None:
        """Take back what was lent."""
        self._free = (0, 0)

    def table(self) -> np.ndarray:
        """What the loops run: (launches, ENTRIES)."""
        return np.array(self._launches, np.int64).reshape(-1, ENTRIES)

    def ran(self) -> Counter[Any]:
        """How often the last run made each launch, by the keys of `Team.ran`."""
        if not self._ran_if:
            return self._ran
        return self._ran + Counter(ran for ran, flag, value in self._ran_if if flag[0] == value)


class _Current(threading.local):
    """The recording of one thread, while it records."""

    def __init__(self) -> None:
        self.recording: Recording | None = None


_current = _Current()


def recording() -> Recording | None:
    """The recording of the calling thread, if it records."""
    return _current.recording


def record(
    builder: Builder, functions: list[Callable[[], None]], weights_stay: bool = True
) -> Recording:
    """Call the functions, each a call of a kernel, and return a recording of them."""
    made = Recording(builder, weights_stay)
    _current.recording = made
    try:
        for function in functions:
            function()
            made.next_call()
    finally:
        _current.recording = None
    return made
