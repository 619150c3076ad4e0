"""The Cython backend: fully connected layers."""

from __future__ import annotations

from ..table import Array
from .compiled import CompiledKernels

__all__ = ["DenseKernels"]


class DenseKernels(CompiledKernels):
    """Fully connected layers; see `table.Backend`."""

    def affine_forward(self, x: Array, weight: Array, bias: Array, out: Array) -> None:
        self._kernels.affine_forward(x, weight, bias, out, self._pairs, self._threads)

    def affine_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        dx: Array | None,
        dweight: Array,
        dbias: Array,
    ) -> None:
        self._kernels.affine_backward(
            dout, x, weight, dx, dweight, dbias, self._pairs, self._threads
        )
