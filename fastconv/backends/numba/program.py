"""The Numba backend: calls that are made once, and then run without Python between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from .._numba.move import move_to
from ..calls import MOVE, Call, Run, recorded
from .launched import LaunchedKernels

__all__ = ["Programs"]


class Programs(LaunchedKernels):
    """Turns calls into a `Run`; see `fastconv.backends.calls`."""

    def program(self, calls: Sequence[Call]) -> Run:
        """Make the calls once, and record their launches."""
        return self._record(calls)

    def step_program(self, calls: Sequence[Call]) -> Run:
        """As `program`, for weights that change between runs."""
        return recorded(calls, _by_launches_alone, partial(self._record, weights_stay=False))

    def _record(self, calls: Sequence[Call], weights_stay: bool = True) -> Run:
        return self._team.record([self._made(call) for call in calls], weights_stay)

    def _made(self, call: Call) -> Callable[[], None]:
        if call.kernel == MOVE:
            arguments = call.arguments
            out, source, factor = (arguments[key] for key in ("out", "source", "factor"))
            return partial(move_to, self._team, out, source, factor)
        return call.made(getattr(self, call.kernel))


def _by_launches_alone(call: Call) -> bool:
    """Whether launches do all of a call, even if weights change.

    NumPy finishes sums over channels and reorders grouped weights; no launch moves bytes.
    """
    if call.kernel == MOVE:
        return bool(call.arguments["out"].dtype.kind == "f")
    return not call.kernel.startswith(("batchnorm2d", "conv2d_grouped"))
