"""The reference's activations, by their formulas, and local response normalisation."""

from __future__ import annotations

import math

import numpy as np

from .base import Activation, Array

__all__ = ["Activations"]

_erf = np.frompyfunc(math.erf, 1, 1)


def normal_share(x: Array) -> Array:
    """The share of the normal distribution below x."""
    return 0.5 * (1 + _erf(x / math.sqrt(2)).astype(x.dtype))


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


def window_sums(values: Array, before: int, after: int) -> Array:
    """The sums of values (N, C, H, W) over the channels c - before, ..., c + after."""
    channels = values.shape[1]
    padded = np.pad(values, [(0, 0), (before, after), (0, 0), (0, 0)])
    shifts = [padded[:, i : i + channels] for i in range(before + after + 1)]
    return np.sum(shifts, axis=0)


class Activations:
    """The families `activation` and `lrn`."""

    def activation_forward(self, x: Array, kind: Activation, slope: float, out: Array) -> None:
        """See `fastconv.backends.base.Backend`."""
        with np.errstate(over="ignore", invalid="ignore"):
            match kind:
                case "leaky_relu":
                    out[...] = np.where(x > 0, x, slope * x)
                case "elu":
                    out[...] = np.where(x > 0, x, slope * np.expm1(x))
                case "gelu":
                    out[...] = x * normal_share(x)
                case "silu":
                    out[...] = x * logistic(x)
                case "tanh":
                    out[...] = np.tanh(x)
                case "sigmoid":
                    out[...] = logistic(x)

    def activation_backward(
        self, dout: Array, x: Array, kind: Activation, slope: float, dx: Array
    ) -> None:
        """See `fastconv.backends.base.Backend`."""
        with np.errstate(over="ignore", invalid="ignore"):
            match kind:
                case "leaky_relu":
                    derivative = np.where(x > 0, 1, slope)
                case "elu":
                    derivative = np.where(x > 0, 1, slope * np.exp(x))
                case "gelu":
                    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
                    derivative = normal_share(x) + x * density
                case "silu":
                    share = logistic(x)
                    derivative = share * (1 + x * (1 - share))
                case "tanh":
                    derivative = 1 - np.tanh(x) ** 2
                case "sigmoid":
                    share = logistic(x)
                    derivative = share * (1 - share)
            dx[...] = dout * derivative

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
        """See `fastconv.backends.base.Backend`."""
        # Channel c is in the windows of the channels that lie as far on the other side.
        through_scale = window_sums(dout * x * scale ** (-beta - 1), (size - 1) // 2, size // 2)
        dx[...] = dout * scale**-beta - 2 * alpha * beta / size * x * through_scale
