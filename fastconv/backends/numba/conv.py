"""The Numba backend: convolution, and convolution fused with what follows it."""

from __future__ import annotations

from dataclasses import replace

from ...geometry import WindowGeometry
from .._numba import conv
from .._numba.conv_weight_gradient import weight_gradient
from .._numba.gate import NO_GATE, POOL_GATE, RELU_GATE, Incoming, Outgoing
from ..algorithms import ConvAlgorithms, choose
from ..table import Array, Bytes
from .launched import LaunchedKernels

__all__ = ["ConvKernels"]


class ConvKernels(LaunchedKernels):
    """Convolution, and convolution fused with what follows it; see `table.Backend`."""

    _math_mode: str
    _algorithm: str

    def conv2d_algorithms(
        self, geometry: WindowGeometry, filters: int, pooled: bool
    ) -> ConvAlgorithms:
        """How a convolution of this shape is computed."""
        g, how = geometry, choose(geometry, filters, pooled, self._math_mode, self._algorithm)
        if how.weight_gradient == "sparse" and (g.fh, g.fw) != (3, 3):
            return replace(how, weight_gradient="direct")  # the sparse kernel takes 3x3 only
        return how

    def conv2d_forward(
        self, x: Array, weight: Array, bias: Array, geometry: WindowGeometry, out: Array
    ) -> None:
        self._forward(x, weight, bias, geometry, Outgoing(out))

    def _forward(
        self, x: Array, weight: Array, bias: Array, g: WindowGeometry, outgoing: Outgoing
    ) -> None:
        how = self.conv2d_algorithms(g, len(weight), outgoing.kind == POOL_GATE).forward
        layout = conv.conv_layout(weight)
        conv.forward(self._team, how, x, weight, bias, g, layout, outgoing)

    def conv2d_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        geometry: WindowGeometry,
        dx: Array | None,
        dweight: Array | None,
        dbias: Array | None,
    ) -> None:
        incoming = Incoming(dout)
        algorithms = self.conv2d_algorithms(geometry, len(weight), False)
        self._backward(incoming, x, weight, geometry, algorithms, dx, dweight, dbias)

    def _backward(
        self,
        incoming: Incoming,
        x: Array,
        weight: Array,
        g: WindowGeometry,
        algorithms: ConvAlgorithms,
        dx: Array | None,
        dweight: Array | None,
        dbias: Array | None,
    ) -> None:
        layout = conv.conv_layout(weight)
        if dx is not None:
            how = algorithms.input_gradient
            conv.input_gradient(self._team, how, incoming, weight, g, layout, dx)
        how = algorithms.weight_gradient
        if dweight is not None and dbias is not None:
            weight_gradient(self._team, how, incoming, x, g, layout, dweight, dbias)

    def conv2d_block_forward(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        residual: Array | None,
        geometry: WindowGeometry,
        relu: bool,
        pool: bool,
        out: Array,
        winner: Bytes | None,
    ) -> None:
        kind = POOL_GATE if pool else RELU_GATE if relu else NO_GATE
        outgoing = Outgoing(out, winner, kind, residual)
        self._forward(x, weight, bias, geometry, outgoing)

    def conv2d_block_backward(
        self,
        dout: Array,
        gate: Array | Bytes,
        x: Array,
        weight: Array,
        geometry: WindowGeometry,
        pool: bool,
        dx: Array | None,
        dweight: Array | None,
        dbias: Array | None,
    ) -> None:
        incoming = Incoming(dout, gate, POOL_GATE if pool else RELU_GATE)
        algorithms = self.conv2d_algorithms(geometry, len(weight), pool)
        self._backward(incoming, x, weight, geometry, algorithms, dx, dweight, dbias)
