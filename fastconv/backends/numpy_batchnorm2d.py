"""Batch normalisation per channel in the reference backend.

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import numpy as np

from .base import Array

__all__ = ["BatchNorm2dReference"]

PIXELS = (0, 2, 3)
"""The axes of (N, C, H, W) that a channel's statistics are over."""


def by_channel(vector: Array) -> Array:
    """(C,) so that it fits images (N, C, H, W)."""
    return vector[:, None, None]


class BatchNorm2dReference:
    """The family ``batchnorm2d`` in NumPy; see `fastconv.backends.base.Backend`."""

    def batchnorm2d_statistics(self, x: Array, mean: Array, variance: Array) -> None:
        # A float32 sum over all pixels would lose digits, and so would the mean of squares.
        mean[...] = np.mean(x, axis=PIXELS, dtype=np.float64)
        variance[...] = np.var(x, axis=PIXELS, dtype=np.float64)

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
        np.subtract(x, by_channel(centre), out=out)
        out *= by_channel(scale)
        out += by_channel(shift)
        if residual is not None:
            out += residual
        if relu:
            out[out <= 0] = 0

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
        g = dout if gate is None else np.where(gate > 0, dout, 0)
        normalized = (x - by_channel(mean)) * by_channel(inv_std)
        dbeta[...] = np.sum(g, axis=PIXELS, dtype=np.float64)
        dgamma[...] = np.sum(g * normalized, axis=PIXELS, dtype=np.float64)
        if dresidual is not None:
            dresidual[...] = g
        if dx is not None:
            # The mean and the variance depend on x too: their share of the gradient is
            # the part of g that is constant over a channel, or proportional to normalized.
            count = x.size // x.shape[1]
            common = by_channel(dbeta) + normalized * by_channel(dgamma)
            dx[...] = by_channel(gamma * inv_std) * (g - common / count)
