"""The Numba backend: fully connected layers."""

from __future__ import annotations

from .._numba import conv
from .._numba.conv_weight_gradient import weight_gradient
from .._numba.gate import Incoming, Outgoing
from .._numba.move import clear
from ..table import Array
from .launched import LaunchedKernels

__all__ = ["DenseKernels"]


class DenseKernels(LaunchedKernels):
    """Fully connected layers; see `table.Backend`."""

    def affine_forward(self, x: Array, weight: Array, bias: Array, out: Array) -> None:
        if len(x):
            g = conv.affine_geometry(x)
            layout = conv.affine_layout(weight)
            conv.forward(self._team, "direct", x, weight, bias, g, layout, Outgoing(out))

    def affine_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        dx: Array | None,
        dweight: Array,
        dbias: Array,
    ) -> None:
        if not len(x):
            clear(self._team, dweight, dbias)
            return
        g, layout = conv.affine_geometry(x), conv.affine_layout(weight)
        incoming = Incoming(dout)
        if dx is not None:
            conv.input_gradient(self._team, "direct", incoming, weight, g, layout, dx)
        weight_gradient(self._team, "direct", incoming, x, g, layout, dweight, dbias)
