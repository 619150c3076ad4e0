"""The reference: fully connected layers."""

from __future__ import annotations

import numpy as np

from ..table import Array

__all__ = ["DenseKernels"]


class DenseKernels:
    """Fully connected layers; see `table.Backend`."""

    def affine_forward(self, x: Array, weight: Array, bias: Array, out: Array) -> None:
        np.matmul(x, weight, out=out)
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
        if dx is not None:
            np.matmul(dout, weight.T, out=dx)
        np.matmul(x.T, dout, out=dweight)
        np.sum(dout, axis=0, out=dbias)
