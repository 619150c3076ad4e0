"""The Cython backend: calls that are recorded once, and then run without Python between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..calls import MOVE, Call, Run
from .compiled import CompiledKernels

__all__ = ["Programs"]

PACKED = {
    "conv2d_forward": ("weight", "bias"),
    "conv2d_block_forward": ("weight", "bias"),
}
"""Arrays that are not read any more once they are packed."""


class Programs(CompiledKernels):
    """What makes a `Run` of calls; see `fastconv.backends.calls`."""

    def program(self, calls: Sequence[Call]) -> Run:
        """Make the calls once, and record them."""
        program = self._kernels.Program()

        def each() -> None:
            for call in calls:
                if call.kernel == MOVE:
                    self._move(**call.arguments)
                else:
                    getattr(self, call.kernel)(**call.arguments)

        kept = [
            value
            for call in calls
            for name, value in call.arguments.items()
            if name not in PACKED.get(call.kernel, ())
        ]
        program.record(each, kept)
        return program

    def _move(self, source: Any, factor: float, out: Any) -> None:
        if source.size:
            steps = ([s // a.itemsize for s in a.strides] for a in (source, out))
            addresses = (a.ctypes.data for a in (source, out))
            self._kernels.move(
                *addresses, source.shape, *steps, factor, out.itemsize, self._threads
            )
