"""The Numba backend: ReLU and the other activations."""

from __future__ import annotations

import numpy as np

from .._numba import activation
from .._numba.launch.memory import addresses, code
from ..table import Activation, Array, Bytes
from .launched import WORK, LaunchedKernels

__all__ = ["ActivationKernels"]


class ActivationKernels(LaunchedKernels):
    """ReLU and the other activations; see `table.Backend`."""

    def relu_forward(self, x: Array, out: Array, mask: Bytes) -> None:
        self._run_on(activation.relu_forward, [x, out, mask], x.size)

    def relu_backward(self, dout: Array, mask: Bytes, dx: Array) -> None:
        self._run_on(activation.relu_backward, [dout, dx, mask], dx.size)

    def activation_forward(self, x: Array, kind: Activation, slope: float, out: Array) -> None:
        """See `table.Backend`."""
        constants = (code(x), activation.KINDS.index(kind))
        settings = np.array([slope], np.float64)
        arguments = [*addresses(x, out, settings), x.size]
        self._run(activation.activation_forward, constants, WORK * x.size, *arguments)

    def activation_backward(
        self, dout: Array, x: Array, kind: Activation, slope: float, dx: Array
    ) -> None:
        """See `table.Backend`."""
        constants = (code(x), activation.KINDS.index(kind))
        settings = np.array([slope], np.float64)
        arguments = [*addresses(dout, x, dx, settings), x.size]
        self._run(activation.activation_backward, constants, WORK * x.size, *arguments)
