"""Activations and local response normalisation on the Cython kernels: their glue."""

from __future__ import annotations

from types import ModuleType
from typing import get_args

from .base import Activation, Array

__all__ = ["CythonActivations"]

CODES: dict[Activation, int] = {kind: code for code, kind in enumerate(get_args(Activation))}
"""The kernels' numbers for the kinds; see activations.pxi."""


def by_pixel(images: Array) -> Array:
    """(N, C, H, W) in channels-last memory as (pixels, C)."""
    return images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1])


class CythonActivations:
    """The families `activation` and `lrn`."""

    _kernels: ModuleType
    _threads: int

    def activation_forward(self, x: Array, kind: Activation, slope: float, out: Array) -> None:
        """See `fastconv.backends.base.Backend`."""
        self._kernels.activation_forward(x, CODES[kind], slope, out, self._threads)

    def activation_backward(
        self, dout: Array, x: Array, kind: Activation, slope: float, dx: Array
    ) -> None:
        """See `fastconv.backends.base.Backend`."""
        self._kernels.activation_backward(dout, x, CODES[kind], slope, dx, self._threads)

    def lrn_forward(
        self,
        x: Array,
        size: int,
        alpha: float,
        beta: float,
        k: float,
        out: Array,
        scale: Array,
    ) -> None:
        """See `fastconv.backends.base.Backend`."""
        self._kernels.lrn_forward(
            *(by_pixel(x), size, alpha, beta, k, by_pixel(out), by_pixel(scale)), self._threads
        )

    def lrn_backward(
        self,
        dout: Array,
        x: Array,
        scale: Array,
        size: int,
        alpha: float,
        beta: float,
        dx: Array,
    ) -> None:
        """See `fastconv.backends.base.Backend`."""
        self._kernels.lrn_backward(
            *(by_pixel(dout), by_pixel(x), by_pixel(scale), size, alpha, beta, by_pixel(dx)),
            self._threads,
        )
