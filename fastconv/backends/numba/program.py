"""The Numba backend: calls that are made once, and then run without Python between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from .._numba.launch.memory import addresses, code
from .._numba.move import move
from ..calls import MOVE, Call, Run
from ..shared.axes import common_axes
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
