"""Each layer, forward and backward, at its place in DeepConvNet, batch 100.

Through the public layer API: checks, layout, allocation and kernel together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import layers

from .check import EXACT_TO, assert_same
from .timing import limited_threads, measure, note

Shape = tuple[int, ...]


def _convolution(rng: np.random.Generator, x: Shape, dtype: str) -> Any:
    weight = rng.standard_normal((x[1], x[1], 3, 3), np.float32).astype(dtype)
    return layers.Convolution(weight, np.zeros(x[1], dtype), 1, 1)


def _affine(rng: np.random.Generator, x: Shape, dtype: str) -> Any:
    weight = rng.standard_normal((x[1], 50), np.float32).astype(dtype)
    return layers.Affine(weight, np.zeros(50, dtype))


def _batchnorm(rng: np.random.Generator, x: Shape, dtype: str) -> Any:
    features = int(np.prod(x[1:]))
    return layers.BatchNormalization(np.ones(features, dtype), np.zeros(features, dtype))


def _batchnorm2d(rng: np.random.Generator, x: Shape, dtype: str) -> Any:
    return layers.BatchNormalization2d(np.ones(x[1], dtype), np.zeros(x[1], dtype))


IMAGES, SMALL_IMAGES = (100, 16, 28, 28), (20, 3, 6, 6)
ROWS, SMALL_ROWS = (100, 1024), (3, 20)
LAYERS: dict[str, tuple[Callable[..., Any], Shape, Shape]] = {
    "Convolution": (_convolution, IMAGES, SMALL_IMAGES),
    "Relu": (lambda *_: layers.Relu(), IMAGES, SMALL_IMAGES),
    "Pooling": (lambda *_: layers.Pooling(2, 2, 2), IMAGES, SMALL_IMAGES),
    "AveragePooling": (lambda *_: layers.AveragePooling(2, 2, 2), IMAGES, SMALL_IMAGES),
    "BatchNormalization": (_batchnorm, IMAGES, SMALL_IMAGES),
    "BatchNormalization2d": (_batchnorm2d, IMAGES, SMALL_IMAGES),
    "Affine": (_affine, ROWS, SMALL_ROWS),
    "Sigmoid": (lambda *_: layers.Sigmoid(), ROWS, SMALL_ROWS),
    "Dropout": (lambda *_: layers.Dropout(), ROWS, SMALL_ROWS),
    "SoftmaxWithLoss": (lambda *_: layers.SoftmaxWithLoss(), (100, 10), (3, 4)),
}
"""By name: how it is made, and its input in a measurement and in a test."""


class _Work:
    """A layer with its input and the gradient of its output."""

    def __init__(self, kind: str, dtype: str, backend: str, size: str) -> None:
        make, full, small = LAYERS[kind]
        self.shape = full if size == "full" else small
        rng = np.random.default_rng(0)
        self.layer = make(rng, self.shape, dtype)
        self.layer.backend = backend
        self.arguments: list[Any] = [rng.standard_normal(self.shape, np.float32).astype(dtype)]
        if kind == "SoftmaxWithLoss":
            self.arguments.append(np.arange(len(self.arguments[0])) % self.shape[1])
        np.random.seed(0)
        out = np.asarray(self.forward())
        # What one layer hands to the next is in the backend's layout already.
        self.dout: Any = 1 if out.ndim == 0 else np.empty_like(out)
        if out.ndim:
            self.dout[...] = rng.standard_normal(out.shape, np.float32)
        self.out = out

    def forward(self) -> Any:
        return self.layer.forward(*self.arguments)

    def backward(self) -> Any:
        return self.layer.backward(self.dout)

    def results(self) -> dict[str, Any]:
        dx = self.backward()
        names = self.layer.parameter_names
        return {"out": self.out, "dx": dx} | {f"d{n}": getattr(self.layer, f"d{n}") for n in names}


@lru_cache(maxsize=2)  # for every direction, dtype, thread count and backend of a layer
def _wanted(kind: str, size: str) -> dict[str, Any]:
    return _Work(kind, "float64", "numpy", size).results()


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_layer(
    benchmark: Any,
    kind: str,
    direction: str,
    dtype: str,
    threads: int,
    backend: str,
    size: str,
) -> None:
    wanted = _wanted(kind, size)
    with limited_threads(threads), fastconv.use_backend(backend):
        work = _Work(kind, dtype, backend, size)
        assert_same(work.results(), wanted, EXACT_TO[dtype], f"{kind} {backend} {dtype}")
        measure(benchmark, work.forward if direction == "forward" else work.backward)
    note(
        benchmark,
        operation=f"{kind} {direction}",
        shape="x".join(map(str, work.shape)),
        dtype=dtype,
        threads=threads,
        backend=backend,
    )
