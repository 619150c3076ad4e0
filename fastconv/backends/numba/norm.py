"""The Numba backend: normalisation of features, of channels and of responses."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from .._numba import norm, norm_images, norm_response
from .._numba.launch.build import Factory
from .._numba.launch.memory import addresses, code
from .._numba.launch.team import Team
from ..table import Array
from .launched import WORK, LaunchedKernels

__all__ = ["NormKernels"]


class _Rows:
    """Images as rows of whole pixels (see `_numba.norm_images`), and how many parts to run."""

    def __init__(self, team: Team, images: Array, work: int) -> None:
        self.team = team
        self.channels = images.shape[1]
        self.pixels = images.size // self.channels
        self.width = norm_images.row_width(self.channels)
        self.parts = team.parts(work)

    def tables(self, dtype: DTypeLike, *vectors: Array) -> Array:
        """Each vector (C,), repeated for every pixel of a row: (vectors, width)."""
        repeated = np.empty((len(vectors), self.width // self.channels, self.channels), dtype)
        for table, vector in zip(repeated, vectors, strict=True):
            table[...] = vector
        return repeated.reshape(len(vectors), self.width)

    def run(self, factory: Factory, constants: tuple[int, ...], *arrays: Array | None) -> None:
        """Run a kernel on these arrays."""
        sizes = self.pixels, self.channels, self.width
        self.team.run(factory, constants, [*addresses(*arrays), *sizes], self.parts)

    def total(self, sums: Array) -> Array:
        """The sums over all parts and a row's pixels: (parts, 2, width) to (2, C)."""
        return sums.reshape(self.parts, 2, -1, self.channels).sum(axis=(0, 2))


class NormKernels(LaunchedKernels):
    """Normalisation of features, of channels and of responses; see `table.Backend`."""

    def batchnorm_train(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        epsilon: float,
        out: Array,
        normalized: Array,
        mean: Array,
        variance: Array,
    ) -> None:
        arrays = [x, gamma, beta, out, normalized, mean, variance, np.array([epsilon])]
        self._run_on(norm.batchnorm_train, arrays, *x.shape)

    def batchnorm_infer(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
        out: Array,
    ) -> None:
        arrays = [x, gamma, beta, mean, variance, out, np.array([epsilon])]
        self._run_on(norm.batchnorm_infer, arrays, *x.shape)

    def batchnorm_backward(
        self,
        dout: Array,
        normalized: Array,
        gamma: Array,
        variance: Array,
        epsilon: float,
        dx: Array,
        dgamma: Array,
        dbeta: Array,
    ) -> None:
        arrays = [dout, normalized, gamma, variance, dx, dgamma, dbeta, np.array([epsilon])]
        self._run_on(norm.batchnorm_backward, arrays, *dx.shape)

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
        """See `table.Backend`."""
        n, c, h, w = x.shape
        settings = np.array([alpha / size, beta, k], np.float64)
        parts = self._team.parts(WORK * x.size)
        squares = np.empty((parts, c + size), x.dtype)
        arguments = [*addresses(x, out, scale, squares, settings), n * h * w, c, size]
        self._team.run(norm_response.lrn_forward, (code(x), int(beta == 0.75)), arguments, parts)

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
        """See `table.Backend`."""
        n, c, h, w = x.shape
        settings = np.array([alpha / size, beta], np.float64)
        parts = self._team.parts(WORK * x.size)
        terms, sums = np.empty((parts, c + size), x.dtype), np.empty((parts, c), x.dtype)
        arguments = [*addresses(dout, x, scale, dx, terms, sums, settings), n * h * w, c, size]
        self._team.run(norm_response.lrn_backward, (code(x), int(beta == 0.75)), arguments, parts)

    def batchnorm2d_statistics(self, x: Array, mean: Array, variance: Array) -> None:
        first = x[0, :, 0, 0].astype(np.float64)
        first[~np.isfinite(first)] = 0  # it would make all others NaN
        rows = _Rows(self._team, x, x.size)
        table = rows.tables(np.float64, first)
        sums = np.empty((rows.parts, 2, rows.width))
        constants = code(x), self._team.machine.lanes(x.itemsize)
        rows.run(norm_images.moments, constants, x, table, sums)
        with np.errstate(invalid="ignore", over="ignore"):
            off, squares = rows.total(sums) / rows.pixels
            mean[...] = first + off
            variance[...] = np.maximum(squares - off * off, 0)

    def batchnorm2d_apply(
        self,
        x: Array,
        centre: Array,
        scale: Array,
        shift: Array,
        residual: Array | None,
        relu: bool,
        out: Array,
    ) -> None:
        rows = _Rows(self._team, x, x.size)
        tables = rows.tables(x.dtype, centre, scale, shift)
        lanes = self._team.machine.lanes(x.itemsize)
        constants = code(x), lanes, int(residual is not None), int(relu)
        rows.run(norm_images.apply, constants, x, residual, out, *tables)

    def batchnorm2d_backward(
        self,
        dout: Array,
        gate: Array | None,
        x: Array,
        mean: Array,
        inv_std: Array,
        gamma: Array,
        dx: Array | None,
        dgamma: Array,
        dbeta: Array,
        dresidual: Array | None,
    ) -> None:
        rows = _Rows(self._team, x, 2 * x.size)
        sums = np.empty((rows.parts, 2, rows.width))
        kind = code(x), self._team.machine.lanes(x.itemsize)
        constants = *kind, int(gate is not None), int(dresidual is not None)
        (centre,) = rows.tables(x.dtype, mean)
        rows.run(norm_images.gradient_sums, constants, dout, gate, x, dresidual, centre, sums)
        with np.errstate(invalid="ignore", over="ignore"):
            total, product = rows.total(sums)
            product *= inv_std
            dbeta[...], dgamma[...] = total, product
            # Mean and variance depend on x too: level and tilt take off what is constant over
            # the pixels, and what is proportional to x - mean.
            level, tilt = total / rows.pixels, product * inv_std / rows.pixels
            tables = rows.tables(x.dtype, mean, gamma * inv_std, level, tilt)
        if dx is None:
            return
        if dresidual is not None:  # it holds g: one array to read in place of two
            dout, gate = dresidual, None
        arrays = dout, gate, x, dx, *tables
        rows.run(norm_images.input_gradient, (*kind, int(gate is not None)), *arrays)
