"""The Cython backend: calls that are recorded once, and then run without Python between them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

from ..calls import MOVE, Call, Run, recorded
from ..shared.axes import common_axes
from ..table import KERNELS
from .compiled import CompiledKernels

__all__ = ["Programs"]

PACKED = {
    "conv2d_forward": (1, 2),
    "conv2d_block_forward": (1, 2),
}
"""Positions of the arguments (weight and bias) that a compiled kernel reads only to pack them."""

NARROW: Mapping[str, tuple[str, ...]] = {
    "conv2d_forward": ("x", "out"),
    "conv2d_block_forward": ("x", "residual", "out"),
    "maxpool2d_forward": ("x", "out"),
}
"""Kernels that take images of bfloat16s, and which of theirs."""

MOST_AXES = 8
"""Most axes of an array that the compiled `move` takes."""


class Programs(CompiledKernels):
    """Turns calls into a `Run`; see `fastconv.backends.calls`."""

    into_channels = frozenset({"conv2d_forward", "conv2d_block_forward", "maxpool2d_forward"})
    """Kernels that can write between others' channels; see `fastconv.backends.calls`."""

    bfloat16_images = NARROW
    """Images that may lie in memory as bfloat16s; see `fastconv.backends.calls`."""

    _records = False
    """Whether this backend makes calls in order to record them."""

    def program(self, calls: Sequence[Call]) -> Run:
        """Make the calls once, and record them."""
        return self._made(calls, True)

    def step_program(self, calls: Sequence[Call]) -> Run:
        """As `program`, for weights that change between runs."""
        return self._made(calls, False)

    def _made(self, calls: Sequence[Call], weights_stay: bool) -> Run:
        return recorded(
            calls,
            partial(_by_kernels_alone, weights_stay),
            partial(self._record, weights_stay=weights_stay),
        )

    def _record(self, calls: Sequence[Call], weights_stay: bool) -> Run:
        program: Any = self._kernels.Program(weights_stay)
        backend = copy.copy(self)
        kept: list[Any] = []
        backend._kernels = _Keeping(  # type: ignore[assignment]
            self._kernels, kept, PACKED if weights_stay else {}
        )
        backend._records = True
        for kernel in KERNELS:  # wrappers set on the object, such as checks, call its own kernels
            vars(backend).pop(kernel, None)

        def each() -> None:
            for call in calls:
                call.made(getattr(backend, "_move" if call.kernel == MOVE else call.kernel))()

        program.record(each, kept)
        return program

    def _move(self, source: Any, factor: float, out: Any) -> None:
        if source.size:
            self._kernels.move(source, out, common_axes(source, out), factor, self._threads)


def _by_kernels_alone(weights_stay: bool, call: Call) -> bool:
    """Whether compiled kernels do all of a call.

    In grouped convolutions Python reorders the weights, and adds up the threads' gradients.
    """
    if call.kernel == MOVE:
        source, out = call.arguments["source"], call.arguments["out"]
        return bool(source.dtype == out.dtype and out.dtype.kind == "f" and out.ndim <= MOST_AXES)
    if call.kernel.startswith("conv2d_grouped"):
        return weights_stay and call.kernel == "conv2d_grouped_forward"
    return True


class _Keeping:
    """Compiled kernels that keep their arguments: recorded parts know only the addresses."""

    def __init__(
        self, kernels: ModuleType, kept: list[Any], packed: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._kernels = kernels
        self._kept = kept
        self._packed = packed

    def __getattr__(self, name: str) -> Callable[..., Any]:
        kernel = getattr(self._kernels, name)
        passing = self._packed.get(name, ())

        def keeping(*arguments: Any) -> Any:
            self._kept += [value for i, value in enumerate(arguments) if i not in passing]
            return kernel(*arguments)

        return keeping
