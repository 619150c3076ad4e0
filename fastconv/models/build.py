"""What the models are built from: layers of given sizes, with initial weights.

Weights are drawn for ReLU as by *He et al.* (arXiv:1502.01852): normal, with variance 2 / fan,
where fan counts the connections of one output (``fan_in``, as in the book) or of one input
(``fan_out``, as in PyTorch's models). ``weight_init_std`` replaces what a model does by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..errors import ArgumentError
from ..geometry import as_int
from ..layers import Affine, BatchNormalization2d, Convolution
from ..ops.arrays import network_dtype
from ..ops.memory import fresh

__all__ = ["Builder", "image_shape", "standard_deviation", "without_weights"]


GAINS = {"he": 2.0, "relu": 2.0, "xavier": 1.0, "sigmoid": 1.0}
"""Variance of the first weights times fan_in, by the names of the book's chapter 6."""


def image_shape(op: str, input_dim: Any) -> tuple[int, int, int]:
    """Return (C, H, W), checked."""
    if len(input_dim) != 3:
        raise ArgumentError(f"{op}: the shape of an image must be (C, H, W), got {input_dim!r}")
    channels, height, width = (as_int(op, "image shape", size, 1) for size in input_dim)
    return channels, height, width


_without_weights: ContextVar[bool] = ContextVar("fastconv_without_weights", default=False)


@contextmanager
def without_weights() -> Iterator[None]:
    """Inside the block, models draw no weights, since a file will give them.

    Arrays without memory take their place. The file's arrays are checked against their shapes, so
    a file that describes an absurdly large network is refused before it takes memory.
    """
    token = _without_weights.set(True)
    try:
        yield
    finally:
        _without_weights.reset(token)


def _no_memory(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """A read-only array of one number, which takes the memory of one."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def standard_deviation(op: str, weight_init_std: str | float, fan_in: int) -> float:
    """The standard deviation of a layer's first weights, as the book's networks take it.

    Parameters
    ----------
    op : str
        For messages.
    weight_init_std : str or float
        'he' or 'relu': sqrt(2 / fan_in); 'xavier' or 'sigmoid': sqrt(1 / fan_in), in any case;
        or a number, such as 0.01.
    fan_in : int
        Connections of one output.

    Raises
    ------
    ArgumentError
        Another name, or a number that is negative or not finite.
    """
    if isinstance(weight_init_std, str):
        if weight_init_std.lower() in GAINS:
            return math.sqrt(GAINS[weight_init_std.lower()] / fan_in)
    elif isinstance(weight_init_std, Real) and 0 <= weight_init_std < math.inf:
        return float(weight_init_std)
    raise ArgumentError(
        f"{op}: weight_init_std must be a number of at least 0, or one of {', '.join(GAINS)}, "
        f"got {weight_init_std!r}"
    )


class Builder:
    """Makes layers whose weights come from one seed.

    Parameters
    ----------
    op : str
        The model's name, for messages.
    dtype : float32 or float64
    seed : int, optional
        None draws from NumPy's global generator.
    weight_init_std : str or float, optional
        As `standard_deviation` takes it, for all layers; None: as the model says.
    """

    def __init__(
        self,
        op: str,
        dtype: DTypeLike,
        seed: int | None,
        weight_init_std: str | float | None = None,
    ) -> None:
        self.op = op
        self.weight_init_std = weight_init_std
        if weight_init_std is not None:
            standard_deviation(op, weight_init_std, 1)
        self.dtype = network_dtype(dtype)
        self.seed = seed

    @cached_property
    def randn(self) -> Callable[..., Any]:
        """Function that draws normal numbers, made when the first weights are drawn."""
        return np.random.randn if self.seed is None else np.random.RandomState(self.seed).randn

    def count(self, name: str, value: Any) -> int:
        """Return a whole number of at least 1, or raise."""
        return as_int(self.op, name, value, 1)

    def normal(self, shape: tuple[int, ...], deviation: float) -> np.ndarray:
        """Draw normal numbers around 0, row by row: in float64, all would take much memory."""
        if _without_weights.get():
            return _no_memory(shape, self.dtype)
        out = fresh(shape, self.dtype)
        for row in out:
            row[...] = deviation * self.randn(*shape[1:])
        return out

    def _deviation(self, fan_in: int, own: float) -> float:
        if self.weight_init_std is None:
            return own
        return standard_deviation(self.op, self.weight_init_std, fan_in)

    def filled(self, count: int, value: float = 0) -> np.ndarray:
        """A vector of one value."""
        if _without_weights.get():
            return _no_memory((count,), self.dtype)
        return np.full(count, value, self.dtype)

    def conv(
        self,
        c: int,
        fn: int,
        size: int,
        stride: int = 1,
        pad: int = 0,
        *,
        bias: bool = False,
        fan_in: bool = False,
    ) -> Convolution:
        """A convolution of C channels to FN, by filters of size x size."""
        fan = (c if fan_in else fn) * size * size
        scale = self._deviation(c * size * size, np.sqrt(2.0 / fan))
        weight = self.normal((fn, c, size, size), scale)
        return Convolution(weight, self.filled(fn) if bias else None, stride, pad)

    def norm(self, channels: int, epsilon: float = 1e-5) -> BatchNormalization2d:
        """Batch normalisation with scale 1 and shift 0."""
        gamma, beta = self.filled(channels, 1), self.filled(channels)
        return BatchNormalization2d(gamma, beta, epsilon=epsilon)

    def affine(self, features: int, units: int, deviation: float | None = None) -> Affine:
        """A fully connected layer; by default with the standard deviation of fan_in."""
        own = np.sqrt(2.0 / features) if deviation is None else deviation
        scale = self._deviation(features, own)
        weight = self.normal((features, units), scale)
        return Affine(weight, self.filled(units))
