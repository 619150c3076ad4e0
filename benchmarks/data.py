"""What is computed on: random images, networks that have just been made.

No kernel does less work for other values.
"""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from typing import Any

import numpy as np

import fastconv
from fastconv import models
from fastconv.layers import BatchNormalization, Dropout

from .peers import MASK_SEED, ConvProblem, ModelProblem, Problem
from .shapes import ConvShape

__all__ = [
    "batch_of",
    "default_side",
    "gradient_by_hand",
    "network_for",
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


def new_model(network: str, side: int, dtype: str, backend: str | None = None) -> Any:
    """A network of `fastconv.models` for square images, without dropout.

    No two libraries share dropout's masks. Classes and channels are the model's own.
    """
    wanted = {"dropout": 0.0, "input_size": (side, side)}
    more = {name: value for name, value in wanted.items() if name in _defaults(network)}
    return models.MODELS[network](dtype=dtype, backend=backend, seed=MASK_SEED, **more)


def default_side(network: str) -> int:
    """Height and width of a network's images, unless others are asked for."""
    return _defaults(network).get("input_size", (224, 224))[0]


def _defaults(network: str) -> dict[str, Any]:
    """What a function of `fastconv.models` takes, and its own choice of each."""
    parameters = inspect.signature(models.MODELS[network]).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def network_for(problem: Problem | ModelProblem, dtype: str, backend: str | None = None) -> Any:
    """The network of a problem, with the problem's weights if it has any."""
    if isinstance(problem, ModelProblem):
        # Imported here: the guard runs this module beside older commits, which may not have it.
        from fastconv.models.build import without_weights

        # Drawing millions of weights that are replaced takes seconds.
        with without_weights() if problem.state else nullcontext():
            network = new_model(problem.network, problem.x.shape[-1], dtype, backend)
        if problem.state:
            network.set_state(problem.state)
        return network
    network = network_of(dtype, backend)
    network.set_params(problem.params)
    return network


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
    rng, defaults = np.random.default_rng(MASK_SEED), _defaults(network)
    shape = (images, defaults["in_channels"], size, size)
    x = rng.standard_normal(shape, np.float32).astype(dtype)
    state = new_model(network, size, dtype).state() if state is None else state
    t = rng.integers(0, defaults["num_classes"], images)
    return ModelProblem(network, state, x, t, threads)


def new_conv_problem(shape: ConvShape, threads: int, dtype: str) -> ConvProblem:
    """Return random arrays of a convolution's shapes."""
    rng = np.random.default_rng(SEED)
    g = shape.geometry

    def draw(*size: int) -> np.ndarray:
        return rng.standard_normal(size, np.float32).astype(dtype)

    weight = draw(shape.fn, g.c, g.fh, g.fw)
    dout = draw(*g.output_shape(shape.fn))
    return ConvProblem(draw(*g.input_shape), weight, draw(shape.fn), dout, g.stride, g.pad, threads)
