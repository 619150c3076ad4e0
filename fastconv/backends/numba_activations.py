"""Activations and local response normalisation on the Numba kernels: their glue."""

from __future__ import annotations

import numpy as np

from ._numba import activations, lrn
from ._numba.memory import addresses, code
from ._numba.team import Team
from .base import Activation, Array

__all__ = ["NumbaActivations"]

WORK = 4
"""What an element costs, in units of moving it."""


class NumbaActivations:
    """The families `activation` and `lrn`."""

    _team: Team

    def activation_forward(self, x: Array, kind: Activation, slope: float, out: Array) -> None:
        """See `fastconv.backends.base.Backend`."""
        constants = (code(x), activations.KINDS.index(kind))
        settings = np.array([slope], np.float64)
        arguments = [*addresses(x, out, settings), x.size]
        parts = self._team.parts(WORK * x.size)
        self._team.run(activations.activation_forward, constants, arguments, parts)

    def activation_backward(
        self, dout: Array, x: Array, kind: Activation, slope: float, dx: Array
    ) -> None:
        """See `fastconv.backends.base.Backend`."""
        constants = (code(x), activations.KINDS.index(kind))
        settings = np.array([slope], np.float64)
        arguments = [*addresses(dout, x, dx, settings), x.size]
        parts = self._team.parts(WORK * x.size)
        self._team.run(activations.activation_backward, constants, arguments, parts)

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
        n, c, h, w = x.shape
        settings = np.array([alpha / size, beta, k], np.float64)
        parts = self._team.parts(WORK * x.size)
        squares = np.empty((parts, c + size), x.dtype)
        arguments = [*addresses(x, out, scale, squares, settings), n * h * w, c, size]
        self._team.run(lrn.lrn_forward, (code(x), int(beta == 0.75)), arguments, parts)

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
        n, c, h, w = x.shape
        settings = np.array([alpha / size, beta], np.float64)
        parts = self._team.parts(WORK * x.size)
        terms, sums = np.empty((parts, c + size), x.dtype), np.empty((parts, c), x.dtype)
        arguments = [*addresses(dout, x, scale, dx, terms, sums, settings), n * h * w, c, size]
        self._team.run(lrn.lrn_backward, (code(x), int(beta == 0.75)), arguments, parts)
