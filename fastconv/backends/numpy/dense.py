"""The reference: fully connected layers."""

from __future__ import annotations

import numpy as np

from ..table import Array
from .operands import Operands

__all__ = ["DenseKernels"]


class DenseKernels(Operands):
    """Fully connected layers; see `table.Backend`."""

    def affine_forward(self, x: Array, weight: Array, bias: Array, out: Array) -> None:
        np.matmul(self._operand(x), self._operand(weight), out=out)
        out += bias

    def affine_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        dx: Array | None,
        dweight: Array,
        dbias: Array,
    ) -> None:
        factor = self._operand(dout)
        if dx is not None:
            np.matmul(factor, self._operand(weight).T, out=dx)
        np.matmul(self._operand(x).T, factor, out=dweight)
        np.sum(dout, axis=0, out=dbias)
