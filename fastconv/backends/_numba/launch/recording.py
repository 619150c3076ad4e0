"""Launches of kernels, noted as they are made, to be repeated without Python.

While a thread records, the team notes each launch: the kernel's address, its record and the number
of parts. What records point to must stay where it is, so the recording keeps the arrays that they
are given, and `memory` lets it keep what is at other addresses. Most of it lives as long as the
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

from ..words.pointer import LINE, copy, invoke, use_threads
from ..words.record import takes
from .build import Builder, Compiled, Kernel

__all__ = ["Recording", "recording", "run_launches", "run_launches_on_several"]

CHUNK_BYTES = 1 << 20
"""The smallest piece of memory that is allocated to be lent to calls."""


LAUNCH = takes(integers="kernel record parts value", int64="condition")
"""A launch: of the kernel, on the record, if the condition has this value."""


@LAUNCH
def run_launches() -> Kernel:
    """All launches of a table, each if its condition holds, on this thread."""

    def kernel(table, count, _):
        for i in range(count):
            a = table + i
            if a.condition[0] == a.value:
                for part in range(a.parts):
                    invoke(a.kernel, a.record, part, a.parts)

    return kernel


@LAUNCH
def run_launches_on_several() -> Kernel:
    """`run_launches`, but launches of several parts run on as many threads, at most `most`."""

    def kernel(table, count, most):
        for i in range(count):
            a = table + i
            if a.condition[0] == a.value:
                address, record, parts = a.kernel, a.record, a.parts
                if parts == 1:
                    invoke(address, record, 0, 1)
                else:
                    use_threads(min(parts, most))
                    for part in prange(parts):
                        invoke(address, record, part, parts)

    return kernel


@takes(int64="target source", integers="count")
def put_back() -> Kernel:
    """Restore integers to the values that they had."""

    def kernel(a, part, parts):
        copy(a.target, a.source, a.count)

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
    launches : list of dict
        The fields of each `LAUNCH`, in their order.
    most_parts : int
        The largest number of parts of any launch.
    """

    def __init__(self, builder: Builder, weights_stay: bool) -> None:
        self.weights_stay = weights_stay
        self.most_parts = 1
        self._builder = builder
        self.launches: list[dict[str, Any]] = []
        self._ran: Counter[Any] = Counter()
        self._ran_if: list[tuple[Any, np.ndarray, int]] = []
        self._kept: list[Any] = []
        self._lent: list[np.ndarray] = []
        self._free = (0, 0)  # which piece of the lent memory, and from which byte on
        self._always = self._condition = (np.ones(1, np.int64), 1)

    def keep(self, *things: Any) -> None:
        """Keep things alive as long as the recording."""
        self._kept += things

    def add(self, kernel: Compiled, record: array[int], parts: int, ran: Any = None) -> None:
        """Note a launch; `ran` is its key in `Team.ran`."""
        flag, value = self._condition
        self.keep(kernel, record)
        launch = {"kernel": kernel.address, "record": record.buffer_info()[0], "parts": parts}
        self.launches.append(launch | {"condition": flag, "value": value})
        self.most_parts = max(self.most_parts, parts)
        if ran is not None and self._condition is self._always:
            self._ran[ran] += 1
        elif ran is not None:
            self._ran_if.append((ran, flag, value))

    def put_back(self, values: np.ndarray) -> None:
        """Note that these contiguous integers must be put back to what they are now."""
        fields = {"target": values, "source": values.copy(), "count": values.size}
        self.keep(fields)
        kernel = self._builder.serial(put_back)
        self.add(kernel, kernel.record.pack(fields), 1)

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
