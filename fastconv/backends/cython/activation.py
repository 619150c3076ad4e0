"""The Cython backend: ReLU and the other activations."""

from __future__ import annotations

from typing import get_args

from ..table import Activation, Array, Bytes
from .compiled import CompiledKernels

__all__ = ["ActivationKernels"]

CODES: dict[Activation, int] = {kind: code for code, kind in enumerate(get_args(Activation))}
"""The numbers by which the kernels know the kinds; see activation.pxi."""


class ActivationKernels(CompiledKernels):
    """ReLU and the other activations; see `table.Backend`."""

    def relu_forward(self, x: Array, out: Array, mask: Bytes) -> None:
        self._kernels.relu_forward(x, out, mask, self._threads)

    def relu_backward(self, dout: Array, mask: Bytes, dx: Array) -> None:
        self._kernels.relu_backward(dout, mask, dx, self._threads)

    def activation_forward(self, x: Array, kind: Activation, slope: float, out: Array) -> None:
        """See `table.Backend`."""
        self._kernels.activation_forward(x, CODES[kind], slope, out, self._threads)

    def activation_backward(
        self, dout: Array, x: Array, kind: Activation, slope: float, dx: Array
    ) -> None:
        """See `table.Backend`."""
        self._kernels.activation_backward(dout, x, CODES[kind], slope, dx, self._threads)
