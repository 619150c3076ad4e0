"""The Numba backend: ReLU and the other activations."""

from __future__ import annotations

from .._numba import activation
from .._numba.launch.memory import code
from ..table import Activation, Array, Bytes
from .launched import WORK, LaunchedKernels

__all__ = ["ActivationKernels"]


class ActivationKernels(LaunchedKernels):
    """ReLU and the other activations; see `table.Backend`."""

    def relu_forward(self, x: Array, out: Array, mask: Bytes) -> None:
        self._run_on(x, activation.relu_forward, x=x, out=out, mask=mask, count=x.size)

    def relu_backward(self, dout: Array, mask: Bytes, dx: Array) -> None:
        self._run_on(dx, activation.relu_backward, dout=dout, dx=dx, mask=mask, count=dx.size)

    def activation_forward(self, x: Array, kind: Activation, slope: float, out: Array) -> None:
        """See `table.Backend`."""
        constants = (code(x), activation.KINDS.index(kind))
        fields = {"x": x, "out": out, "slope": slope, "count": x.size}
        self._run(activation.activation_forward, constants, WORK * x.size, fields)

    def activation_backward(
        self, dout: Array, x: Array, kind: Activation, slope: float, dx: Array
    ) -> None:
        """See `table.Backend`."""
        constants = (code(x), activation.KINDS.index(kind))
        fields = {"dout": dout, "x": x, "dx": dx, "slope": slope, "count": x.size}
        self._run(activation.activation_backward, constants, WORK * x.size, fields)
