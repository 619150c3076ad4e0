"""Activations and local response normalisation in loops: see `naive`, whose rules hold here."""

from __future__ import annotations

import math

import numpy as np

from .naive import float64

FORMULAS = {
    "leaky_relu": lambda x, slope: x if x > 0 else slope * x,
    "elu": lambda x, slope: x if x > 0 else slope * math.expm1(x),
    "gelu": lambda x, slope: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "silu": lambda x, slope: x / (1 + math.exp(-x)),
    "tanh": lambda x, slope: math.tanh(x),
}
DERIVATIVES = {
    "leaky_relu": lambda x, slope: 1 if x > 0 else slope,
    "elu": lambda x, slope: 1 if x > 0 else slope * math.exp(x),
    "gelu": lambda x, slope: (
        (1 + math.erf(x / math.sqrt(2))) / 2 + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    ),
    "silu": lambda x, slope: (1 + math.exp(-x) + x * math.exp(-x)) / (1 + math.exp(-x)) ** 2,
    "tanh": lambda x, slope: 1 / math.cosh(x) ** 2,
}


def each(formula, x, slope):
    return np.array([formula(value, slope) for value in float64(x).ravel()]).reshape(x.shape)


def activation(kind, x, slope=0.0):
    return each(FORMULAS[kind], x, slope)


def activation_gradient(kind, dout, x, slope=0.0):
    return dout * each(DERIVATIVES[kind], x, slope)


def response_windows(channels, size):
    """(c, channels around it) for each channel."""
    for c in range(channels):
        yield c, range(max(0, c - size // 2), min(channels, c + (size - 1) // 2 + 1))


def lrn(x, size, alpha, beta, k):
    x = float64(x)
    out = np.zeros(x.shape)
    for c, around in response_windows(x.shape[1], size):
        total = sum(x[:, j] ** 2 for j in around)
        out[:, c] = x[:, c] / (k + alpha * total / size) ** beta
    return out


def lrn_gradient(dout, x, size, alpha, beta, k):
    """Each output passes its gradient back to its own channel and to those around it."""
    dout, x = float64(dout), float64(x)
    dx = np.zeros(x.shape)
    for c, around in response_windows(x.shape[1], size):
        scale = k + alpha * sum(x[:, j] ** 2 for j in around) / size
        dx[:, c] += dout[:, c] * scale**-beta
        for j in around:
            through = x[:, c] * -beta * scale ** (-beta - 1) * 2 * alpha / size * x[:, j]
            dx[:, j] += dout[:, c] * through
    return dx
