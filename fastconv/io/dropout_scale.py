"""Dropout scales in training or in evaluation; weights that are exchanged make up for that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from ..errors import ArgumentError, WeightsError
from ..layers import (
    AdaptiveAveragePooling,
    Affine,
    AveragePooling,
    Convolution,
    Dropout,
    LeakyRelu,
    Pooling,
    Relu,
)
from ..layers.tree import children

__all__ = ["layer_count", "rescale"]

PASSING = (Relu, LeakyRelu, Pooling, AveragePooling, AdaptiveAveragePooling)
"""Layers with f(c*x) = c*f(x) for positive c."""


def layer_count(params: Mapping[str, Any]) -> int:
    """Return the number of layers; a bias may be missing."""
    return sum(key.startswith("W") for key in params)


def rescale(
    params: dict[str, NDArray[Any]], network: Any, *, remedy: str, invert: bool = False
) -> None:
    """Move the scaling of another library's Dropout into the weights after it, or undo that.

    The book's Dropout multiplies by 1 - ratio in evaluation and by 1 in training; PyTorch's and
    Keras's by 1 and by 1 / (1 - ratio). In both modes they differ by the factor 1 / (1 - ratio).
    It passes through ReLU and pooling to the next weight; if none follows, the last weight and
    bias before the Dropout take it.

    Parameters
    ----------
    params : dict of str to array
        ``W1``, ``b1`` and so on, which are changed.
    network : Network
    remedy : str
        What to do where the scaling cannot be moved, for the message.
    invert : bool
        From the book's weights to the other library's.

    Raises
    ------
    ArgumentError
        A layer of `network` through which the scaling does not pass.
    WeightsError
        Weights of another architecture.
    """
    layers = children(network).values()
    if not any(isinstance(layer, Dropout) and not layer.inverted for layer in layers):
        return
    number, factor = 0, 1.0
    factors: dict[str, float] = {}
    for layer in layers:
        if isinstance(layer, Dropout):
            if layer.inverted:
                continue  # it scales like theirs
            if not 0 <= layer.dropout_ratio < 1:
                raise ArgumentError(f"Dropout of ratio {layer.dropout_ratio} cannot be rescaled")
            factor /= 1.0 - float(layer.dropout_ratio)
        elif isinstance(layer, Affine | Convolution):
            number += 1
            key = f"W{number}"
            if key not in params or params[key].shape != layer.W.shape:
                got = params[key].shape if key in params else "nothing"
                raise WeightsError(f"{key}: the network has {layer.W.shape}, the weights {got}")
            factors[key], factor = factor, 1.0
        elif not isinstance(layer, PASSING):
            raise ArgumentError(
                f"the scaling of Dropout does not pass through {type(layer).__name__}: {remedy}"
            )
    if number == 0 or layer_count(params) != number:
        raise WeightsError(f"weights of {layer_count(params)} layers for a network of {number}")
    factors[f"W{number}"] *= factor
    if f"b{number}" in params:
        factors[f"b{number}"] = factor
    for key, value in factors.items():
        params[key] = params[key] / value if invert else params[key] * value
