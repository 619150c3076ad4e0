"""Dropout."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import ops, randomness
from ..errors import ArgumentError, StateError
from ..geometry import as_float
from ..ops.arrays import as_array, common_dtype
from ..ops.recording import computed, drawn
from .base import Array, Layer

__all__ = ["Dropout"]


class Dropout(Layer):
    """Sets a random share of the input to 0 in training; one mode scales, so that the mean stays.

    Parameters
    ----------
    dropout_ratio : float
        Share that is dropped.
    inverted : bool
        True: training scales the rest by 1 / (1 - ratio), as in PyTorch. False: evaluation
        scales by 1 - ratio (arXiv:1207.0580).

    Notes
    -----
    The mask is ``np.random.rand(*x.shape) > dropout_ratio``, from NumPy's global generator,
    unless a Trainer with a seed of its own runs.
    """

    has_modes = True

    # On the class too: a subclass in the book's style calls no constructor but its own.
    inverted: bool = False

    def __init__(
        self, dropout_ratio: float = 0.5, backend: str | None = None, *, inverted: bool = False
    ) -> None:
        super().__init__(backend)
        if not 0 <= as_float("Dropout", "dropout_ratio", dropout_ratio) <= 1:
            raise ArgumentError(f"Dropout: dropout_ratio must be 0 to 1, got {dropout_ratio}")
        if inverted and dropout_ratio == 1:
            raise ArgumentError("Dropout: a ratio of 1 cannot be inverted: nothing is left")
        self.dropout_ratio = dropout_ratio
        self.inverted = inverted
        self.mask: NDArray[np.bool_] | None = None

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Return x with a random share set to 0; in evaluation all of x. See `inverted`."""
        x = as_array(x)
        if train_flg:
            self.mask = drawn(partial(self._draw, x.shape), x.shape, np.bool_)
            return self._scaled(ops.masked("dropout", x, self.mask, self.backend))
        if self.inverted:
            return x.astype(common_dtype("dropout", x), copy=False)
        return ops.scaled("dropout", x, 1.0 - float(self.dropout_ratio))

    def _draw(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        self.mask = randomness.uniform(shape) > self.dropout_ratio
        return self.mask

    def backward(self, dout: ArrayLike) -> Array:
        """Return dout, scaled like the input, where the input was kept, else 0."""
        if self.mask is None:
            raise StateError("Dropout: backward was called before a forward in training")
        return self._scaled(ops.masked("dropout backward", dout, self.mask, self.backend))

    def _scaled(self, kept: Array) -> Array:
        if not self.inverted:
            return kept
        left = 1.0 - float(self.dropout_ratio)
        return computed("Dropout", lambda kept: kept / left, kept)
