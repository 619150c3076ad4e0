"""What is computed on: random images, networks that have just been made.

No kernel does less work for other values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastconv
from fastconv import models
from fastconv.layers import BatchNormalization, Dropout

from .peers import MASK_SEED, ConvProblem, ModelProblem, Problem
from .shapes import ConvShape

__all__ = [
    "batch_of",
    "gradient_by_hand",
    "network_of",
    "new_conv_problem",
    "new_model",
    "new_model_problem",
    "new_problem",
    "scores_by_hand",
]

SEED = 0


def batch_of(images: int, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """Return (images (N, 1, 28, 28) in [0, 1), labels (N,)), the same values in every dtype."""
    rng = np.random.default_rng(SEED)
    x = rng.random((images, 1, 28, 28), np.float32).astype(dtype)
    return x, rng.integers(0, 10, images)


def network_of(dtype: str, backend: str | None) -> Any:
    """Return DeepConvNet with the same weights in every dtype: those of float32."""
    network = fastconv.DeepConvNet(dtype=dtype, backend=backend, seed=SEED)
    network.set_params(fastconv.DeepConvNet(seed=SEED).params)
    return network


def scores_by_hand(network: Any, x: np.ndarray, train_flg: bool) -> np.ndarray:
    """The book's own `predict`: a loop over the layers, as a reader of the book writes it."""
    for layer in network.layers:
        if isinstance(layer, Dropout | BatchNormalization):
            x = layer.forward(x, train_flg)
        else:
            x = layer.forward(x)
    return x


def gradient_by_hand(network: Any, x: np.ndarray, t: np.ndarray) -> dict[str, np.ndarray]:
    """The book's own `gradient`: one layer after the other, forward and then backward."""
    network.last_layer.forward(scores_by_hand(network, x, train_flg=True), t)
    dout = network.last_layer.backward(1)
    for layer in reversed(network.layers):
        dout = layer.backward(dout)
    trained = [layer for layer in network.layers if layer.parameter_names]
    return {
        f"{name}{number}": getattr(layer, f"d{name}")
        for number, layer in enumerate(trained, start=1)
        for name in layer.parameter_names
    }


def new_problem(images: int, threads: int, dtype: str = "float32") -> Problem:
    """Return the problem of this batch size: fresh weights, random images."""
    draw = np.random.RandomState(MASK_SEED).rand
    masks = ((draw(images, units) > 0.5).astype(dtype) for units in (50, 10))
    x, t = batch_of(images, dtype)
    return Problem(network_of(dtype, None).params, x, t, tuple(masks), threads)


def new_model(network: str, dtype: str, backend: str | None = None) -> Any:
    """A large network for 1000 classes, without dropout, whose masks no two libraries share."""
    more = {} if network.startswith("resnet") else {"dropout": 0.0}
    return getattr(models, network)(dtype=dtype, backend=backend, seed=MASK_SEED, **more)


def new_model_problem(
    network: str,
    images: int,
    size: int,
    threads: int,
    dtype: str = "float32",
    state: dict[str, np.ndarray] | None = None,
) -> ModelProblem:
    """Return the problem of this batch and image size: random images, and fresh weights.

    With an empty `state` each contender makes weights of its own.
    """
    rng = np.random.default_rng(MASK_SEED)
    x = rng.standard_normal((images, 3, size, size), np.float32).astype(dtype)
    state = new_model(network, dtype).state() if state is None else state
    return ModelProblem(network, state, x, rng.integers(0, 1000, images), threads)


def new_conv_problem(shape: ConvShape, threads: int, dtype: str) -> ConvProblem:
    """Return random arrays of a convolution's shapes."""
    rng = np.random.default_rng(SEED)
    g = shape.geometry

    def draw(*size: int) -> np.ndarray:
        return rng.standard_normal(size, np.float32).astype(dtype)

    weight = draw(shape.fn, g.c, g.fh, g.fw)
    dout = draw(*g.output_shape(shape.fn))
    return ConvProblem(draw(*g.input_shape), weight, draw(shape.fn), dout, g.stride, g.pad, threads)
