"""The reference: ReLU and the other activations."""

from __future__ import annotations

import math

import numpy as np

from ..table import Activation, Array, Bytes

__all__ = ["ActivationKernels"]

_erf = np.frompyfunc(math.erf, 1, 1)


def normal_share(x: Array) -> Array:
    """The normal distribution function at x."""
    return 0.5 * (1 + _erf(x / math.sqrt(2)).astype(x.dtype))


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


class ActivationKernels:
    """ReLU and the other activations; see `table.Backend`."""

    def relu_forward(self, x: Array, out: Array, mask: Bytes) -> None:
        mask[...] = x > 0
        out[...] = np.where(x <= 0, 0, x)

    def relu_backward(self, dout: Array, mask: Bytes, dx: Array) -> None:
        dx[...] = np.where(mask, dout, 0)

    def activation_forward(self, x: Array, kind: Activation, slope: float, out: Array) -> None:
        """See `table.Backend`."""
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
        """See `table.Backend`."""
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
