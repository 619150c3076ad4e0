"""The Cython backend: convolution, and convolution fused with what follows it."""

from __future__ import annotations

from typing import get_args

from ...geometry import WindowGeometry
from ..algorithms import Algorithm, ConvAlgorithms, choose
from ..table import Array, Bytes
from .compiled import TILES, CompiledKernels, last

__all__ = ["ConvKernels"]

CODES: dict[Algorithm, int] = {name: code for code, name in enumerate(get_args(Algorithm))}
"""The numbers by which the kernels know the algorithms; see ways.pxi."""


class ConvKernels(CompiledKernels):
    """Convolution, and convolution fused with what follows it; see `table.Backend`."""

    _algorithm: str

    def conv2d_forward(
        self, x: Array, weight: Array, bias: Array, geometry: WindowGeometry, out: Array
    ) -> None:
        g = geometry
        ways = self.conv2d_algorithms(g, len(weight), False)
        self._kernels.conv2d_forward(
            last(x),
            weight,
            bias,
            last(out),
            g.stride,
            *g.pads[:2],
            CODES[ways.forward],
            self._pairs,
            self._threads,
        )

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
        g = geometry
        ways = self.conv2d_algorithms(g, len(weight), False)
        self._kernels.conv2d_backward(
            last(dout),
            last(x),
            weight,
            last(dx),
            dweight,
            dbias,
            g.stride,
            *g.pads[:2],
            CODES[ways.input_gradient],
            CODES[ways.weight_gradient],
            self._pairs,
            self._threads,
        )

    def conv2d_algorithms(
        self, geometry: WindowGeometry, filters: int, pooled: bool
    ) -> ConvAlgorithms:
        """How a convolution of this shape is computed."""
        by_tiles = self._pairs == TILES
        return choose(geometry, filters, pooled, self._math_mode, self._algorithm, by_tiles)

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
        g = geometry
        ways = self.conv2d_algorithms(g, len(weight), pool)
        self._kernels.conv2d_block_forward(
            last(x),
            weight,
            bias,
            last(residual),
            last(out),
            last(winner),
            relu,
            pool,
            g.oh,
            g.ow,
            g.stride,
            *g.pads[:2],
            CODES[ways.forward],
            self._pairs,
            self._threads,
        )

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
        g = geometry
        ways = self.conv2d_algorithms(g, len(weight), pool)
        self._kernels.conv2d_block_backward(
            last(dout),
            None if pool else last(gate),
            last(gate) if pool else None,
            last(x),
            weight,
            last(dx),
            dweight,
            dbias,
            g.oh,
            g.ow,
            g.stride,
            *g.pads[:2],
            CODES[ways.input_gradient],
            CODES[ways.weight_gradient],
            self._pairs,
            self._threads,
        )
