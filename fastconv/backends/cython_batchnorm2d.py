"""Batch normalisation per channel in the Cython backend: images as their (N, H, W, C) view."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from .base import Array

__all__ = ["CythonBatchNorm2d"]


def _last(images: np.ndarray | None) -> np.ndarray | None:
    """(N, C, H, W) in channels-last memory as its C-contiguous view, and None as None."""
    return None if images is None else images.transpose(0, 2, 3, 1)


class CythonBatchNorm2d:
    """The family ``batchnorm2d``; see `fastconv.backends.base.Backend` for each contract."""

    _kernels: ModuleType
    _threads: int

    def batchnorm2d_statistics(self, x: Array, mean: Array, variance: Array) -> None:
        self._kernels.batchnorm2d_statistics(_last(x), mean, variance, self._threads)

    def batchnorm2d_apply(
        self,
        x: Array,
        centre: Array,
        scale: Array,
        shift: Array,
        residual: Array | None,
        relu: bool,
        out: Array,
    ) -> None:
        self._kernels.batchnorm2d_apply(
            _last(x), centre, scale, shift, _last(residual), relu, _last(out), self._threads
        )

    def batchnorm2d_backward(
        self,
        dout: Array,
        gate: Array | None,
        x: Array,
        mean: Array,
        inv_std: Array,
        gamma: Array,
        dx: Array | None,
        dgamma: Array,
        dbeta: Array,
        dresidual: Array | None,
    ) -> None:
        self._kernels.batchnorm2d_backward(
            _last(dout),
            _last(gate),
            _last(x),
            mean,
            inv_std,
            gamma,
            _last(dx),
            dgamma,
            dbeta,
            _last(dresidual),
            self._threads,
        )
