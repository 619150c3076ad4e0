"""The reference: normalisation of features, of channels and of responses.

Notation: N samples or images, D features, C channels, H x W pixels.
"""

from __future__ import annotations

import numpy as np

from ..table import Array

__all__ = ["NormKernels"]

PIXELS = (0, 2, 3)
"""The axes of (N, C, H, W) that a channel's statistics run over."""


def by_channel(vector: Array) -> Array:
    """(C,) reshaped to broadcast over images (N, C, H, W)."""
    return vector[:, None, None]


def window_sums(values: Array, before: int, after: int) -> Array:
    """The sums of values (N, C, H, W) over the channels c - before, ..., c + after."""
    channels = values.shape[1]
    padded = np.pad(values, [(0, 0), (before, after), (0, 0), (0, 0)])
    shifts = [padded[:, i : i + channels] for i in range(before + after + 1)]
    return np.sum(shifts, axis=0)


class NormKernels:
    """Normalisation of features, of channels and of responses; see `table.Backend`."""

    def batchnorm_train(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        epsilon: float,
        out: Array,
        normalized: Array,
        mean: Array,
        variance: Array,
    ) -> None:
        np.mean(x, axis=0, out=mean)
        np.subtract(x, mean, out=normalized)
        np.mean(normalized**2, axis=0, out=variance)
        normalized /= np.sqrt(variance + epsilon)
        out[...] = gamma * normalized + beta

    def batchnorm_infer(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
        out: Array,
    ) -> None:
        out[...] = gamma * ((x - mean) / np.sqrt(variance + epsilon)) + beta

    def batchnorm_backward(
        self,
        dout: Array,
        normalized: Array,
        gamma: Array,
        variance: Array,
        epsilon: float,
        dx: Array,
        dgamma: Array,
        dbeta: Array,
    ) -> None:
        np.sum(dout, axis=0, out=dbeta)
        np.sum(dout * normalized, axis=0, out=dgamma)
        # Mean and variance depend on x too: this takes off what is constant over the batch,
        # and what is proportional to normalized.
        centred = dout - (dbeta + normalized * dgamma) / len(dout)
        dx[...] = gamma / np.sqrt(variance + epsilon) * centred

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
        """See `table.Backend`."""
        scale[...] = k + alpha / size * window_sums(x * x, size // 2, (size - 1) // 2)
        out[...] = x * scale**-beta

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
        """See `table.Backend`."""
        # Channel c lies in its neighbours' windows: the same sum with the window reversed.
        through_scale = window_sums(dout * x * scale ** (-beta - 1), (size - 1) // 2, size // 2)
        dx[...] = dout * scale**-beta - 2 * alpha * beta / size * x * through_scale

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
            # Mean and variance depend on x too: this takes off what is constant over a channel,
            # and what is proportional to normalized.
            count = x.size // x.shape[1]
            common = by_channel(dbeta) + normalized * by_channel(dgamma)
            dx[...] = by_channel(gamma * inv_std) * (g - common / count)
