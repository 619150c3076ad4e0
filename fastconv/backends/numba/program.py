"""The Numba backend: calls that are made once, and then run without Python between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

from .._numba.move import move_to
from ..calls import MOVE, Call, Run, call_each, in_order
from .launched import LaunchedKernels

__all__ = ["Programs"]


class Programs(LaunchedKernels):
    """What makes a `Run` of calls; see `fastconv.backends.calls`."""

    def program(self, calls: Sequence[Call]) -> Run:
        """Make the calls once, and record their launches."""
        return self._team.record([self._made(call) for call in calls])

    def step_program(self, calls: Sequence[Call]) -> Run:
        """The same for weights that change."""
        runs: list[Run] = []
        for by_launches, some in groupby(calls, _by_launches_alone):
            if by_launches:
                runs.append(self._team.record([self._made(call) for call in some], False))
            else:
                runs.append(call_each(list(some)))
                runs[-1].run()
        return in_order(runs)

    def _made(self, call: Call) -> Callable[[], None]:
        if call.kernel == MOVE:
            arguments = call.arguments
            out, source, factor = (arguments[key] for key in ("out", "source", "factor"))
            return partial(move_to, self._team, out, source, factor)
        return partial(getattr(self, call.kernel), **call.arguments)


def _by_launches_alone(call: Call) -> bool:
    """Whether launches do all of a call, even if weights change.

    Sums over channels are finished in NumPy, and weights of groups turned; bytes are not moved.
    """
    if call.kernel == MOVE:
        return bool(call.arguments["out"].dtype.kind == "f")
    return not call.kernel.startswith(("batchnorm2d", "conv2d_grouped"))
