"""The Numba backend: calls that are made once, and then run without Python between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from .._numba.launch.memory import addresses, code
from .._numba.move import move
from ..calls import MOVE, Call, Run
from ..table import Array
from .launched import LaunchedKernels

__all__ = ["Programs"]


class Programs(LaunchedKernels):
    """What makes a `Run` of calls; see `fastconv.backends.calls`."""

    def program(self, calls: Sequence[Call]) -> Run:
        """Make the calls once, and record their launches."""
        return self._team.record([self._made(call) for call in calls])

    def _made(self, call: Call) -> Callable[[], None]:
        function = self._move if call.kernel == MOVE else getattr(self, call.kernel)
        return partial(function, **call.arguments)

    def _move(self, source: Array, factor: float, out: Array) -> None:
        """See `calls.move`."""
        if out.size:
            axes = common_axes(source, out)
            table, scale = np.array(axes, np.int64), np.array([factor], np.float64)
            arguments = [*addresses(source, out, scale, table), len(axes), out.size]
            self._run(move, (code(source), code(out)), out.size, *arguments)


def common_axes(source: Array, out: Array) -> list[tuple[int, int, int]]:
    """Length of each axis and its steps in both arrays, in elements.

    The order is that of the target's memory; axes that lie in it as one, in both, are one.
    """
    steps = [[step // array.itemsize for step in array.strides] for array in (source, out)]
    found: list[tuple[int, int, int]] = []
    for length, read, write in sorted(
        zip(out.shape, *steps, strict=True), key=lambda axis: -abs(axis[2])
    ):
        if length == 1:
            continue
        if found:
            before, outer_read, outer_write = found[-1]
            if (outer_read, outer_write) == (length * read, length * write):
                found[-1] = before * length, read, write
                continue
        found.append((length, read, write))
    return found or [(1, 1, 1)]
