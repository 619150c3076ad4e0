"""The Numba backend: normalisation of features, of channels and of responses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .._numba import norm, norm_images, norm_response
from .._numba.launch.build import Factory
from .._numba.launch.memory import code
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

    def run(self, factory: Factory, constants: tuple[int, ...], **arrays: Array | None) -> None:
        """Run a kernel on these arrays."""
        sizes = {"pixels": self.pixels, "channels": self.channels, "width": self.width}
        self.team.run(factory, constants, self.parts, arrays, sizes)

    def total(self, sums: Array) -> Array:
        """The sums over all parts and a row's pixels: (parts, 2, width) to (2, C)."""
        return sums.reshape(self.parts, 2, -1, self.channels).sum(axis=(0, 2))


def sizes(x: Array, epsilon: float) -> dict[str, Any]:
    """What all kernels of features take besides their arrays."""
    return {"rows": len(x), "columns": x.shape[1], "epsilon": epsilon}


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
        fields = {"x": x, "gamma": gamma, "beta": beta, **sizes(x, epsilon)}
        results = {"out": out, "normalized": normalized, "mean": mean, "variance": variance}
        self._run_on(x, norm.batchnorm_train, **fields, **results)

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
        fields = {"x": x, "gamma": gamma, "beta": beta, **sizes(x, epsilon)}
        self._run_on(x, norm.batchnorm_infer, **fields, mean=mean, variance=variance, out=out)

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
        fields = {"dout": dout, "normalized": normalized, "gamma": gamma, "variance": variance}
        fields |= sizes(dout, epsilon)
        self._run_on(dout, norm.batchnorm_backward, **fields, dx=dx, dgamma=dgamma, dbeta=dbeta)

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
        parts = self._team.parts(WORK * x.size)
        squares = np.empty((parts, c + size), x.dtype)
        places = {"pixels": n * h * w, "channels": c, "size": size}
        settings = {"alpha": alpha / size, "beta": beta, "k": k}
        arrays = {"x": x, "out": out, "scale": scale, "squares": squares}
        constants = code(x), int(beta == 0.75)
        self._team.run(norm_response.lrn_forward, constants, parts, arrays, settings, places)

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
        parts = self._team.parts(WORK * x.size)
        terms, sums = np.empty((parts, c + size), x.dtype), np.empty((parts, c), x.dtype)
        places = {"pixels": n * h * w, "channels": c, "size": size}
        settings = {"alpha": alpha / size, "beta": beta}
        arrays = {"dout": dout, "x": x, "scale": scale, "dx": dx, "terms": terms, "sums": sums}
        constants = code(x), int(beta == 0.75)
        self._team.run(norm_response.lrn_backward, constants, parts, arrays, settings, places)

    def batchnorm2d_statistics(self, x: Array, mean: Array, variance: Array) -> None:
        first = x[0, :, 0, 0].astype(np.float64)
        first[~np.isfinite(first)] = 0  # it would make all others NaN
        rows = _Rows(self._team, x, x.size)
        table = rows.tables(np.float64, first)
        sums = np.empty((rows.parts, 2, rows.width))
        constants = code(x), self._team.machine.lanes(x.itemsize)
        rows.run(norm_images.moments, constants, x=x, first=table, sums=sums)
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
        centre, scale, shift = rows.tables(x.dtype, centre, scale, shift)
        tables = {"centre": centre, "scale": scale, "shift": shift}
        lanes = self._team.machine.lanes(x.itemsize)
        constants = code(x), lanes, int(residual is not None), int(relu)
        rows.run(norm_images.apply, constants, x=x, residual=residual, out=out, **tables)

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
        images = {"dout": dout, "gate": gate, "x": x}
        kept = {"kept": dresidual, "mean": centre, "sums": sums}
        rows.run(norm_images.gradient_sums, constants, **images, **kept)
        with np.errstate(invalid="ignore", over="ignore"):
            total, product = rows.total(sums)
            product *= inv_std
            dbeta[...], dgamma[...] = total, product
            # Mean and variance depend on x too: level and tilt take off what is constant over
            # the pixels, and what is proportional to x - mean.
            level, tilt = total / rows.pixels, product * inv_std / rows.pixels
            slope = gamma * inv_std
            centre, slope, level, tilt = rows.tables(x.dtype, mean, slope, level, tilt)
        if dx is None:
            return
        if dresidual is not None:  # it holds g: one array to read in place of two
            images |= {"dout": dresidual, "gate": None}
        tables = {"mean": centre, "slope": slope, "level": level, "tilt": tilt}
        gated = int(images["gate"] is not None)
        rows.run(norm_images.input_gradient, (*kind, gated), **images, **tables, dx=dx)
