"""The Numba backend: what the kernel table says, as addresses and numbers for the kernels.

Arrays reach the kernels as addresses: no kernel is compiled once more for a read-only array,
and none looks at strides, because the contract fixes them. The kernels are in ``_numba/``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BackendUnavailable
from ..geometry import WindowGeometry
from .base import Array, Bytes, Labels, Layout
from .short import NumpyShort, Short

try:
    import llvmlite.binding as llvm
    import numba
except ImportError as error:
    raise BackendUnavailable(
        f"numba: the package cannot be imported ({error}); pip install --upgrade numba"
    ) from error

from ._numba import columns, conv, dense, pool
from ._numba.build import Builder, Factory
from ._numba.gate import NO_GATE, POOL_GATE, RELU_GATE, Incoming, Outgoing
from ._numba.machine import machine
from ._numba.memory import addresses, code, workspace
from ._numba.team import Team
from ._numba.weight_gradient import weight_gradient
from .algorithms import ConvAlgorithms, choose
from .numba_activations import NumbaActivations
from .numba_augment import NumbaAugment
from .numba_avgpool2d import NumbaAvgPool2d
from .numba_batchnorm2d import NumbaBatchNorm2d
from .numba_grouped import NumbaGrouped

__all__ = ["NumbaBackend", "create"]

settings: Any = numba.config


def create(max_isa: str | None, cache_dir: Callable[[], Path]) -> NumbaBackend:
    """Return the Numba backend; compiles nothing and starts no thread yet.

    Parameters
    ----------
    max_isa : str or None
        Widest instruction set to use: ``"baseline"``, ``"avx2"`` or ``"avx512"``.
    cache_dir : callable
        Returns the folder for compiled kernels, or raises OSError where there is none; called
        when the first kernel is needed.

    Raises
    ------
    BackendUnavailable
        Numba is told not to compile. (Where it is missing, the import of this module
        raises it.)
    """
    if settings.DISABLE_JIT:
        raise BackendUnavailable(
            "numba: NUMBA_DISABLE_JIT is set, so Numba compiles nothing; unset it"
        )
    # Its OpenMP library learns how to wait when it is loaded, which the registry sees to; no
    # thread starts yet.
    with suppress(ImportError):
        importlib.import_module("numba.np.ufunc.omppool")
    return NumbaBackend(Team(Builder(cache_dir), machine(max_isa)))


class NumbaBackend(NumbaActivations, NumbaAugment, NumbaAvgPool2d, NumbaBatchNorm2d, NumbaGrouped):
    """The kernel table in Numba; see `fastconv.backends.base.Backend` for each contract."""

    name = "numba"
    layout: Layout = "channels_last"

    def __init__(self, team: Team) -> None:
        self.short: Short = NumpyShort()
        self._team = team
        self._math_mode = "default"
        self._algorithm = "auto"

    def configure(self, *, threads: int, math_mode: str, algorithm: str) -> None:
        """Threads beyond those that Numba has (NUMBA_NUM_THREADS) share those it has."""
        self._team.threads = threads
        self._math_mode = math_mode
        self._algorithm = algorithm

    def describe(self) -> dict[str, str]:
        return {
            "numba": numba.__version__,
            "llvm": ".".join(map(str, llvm.llvm_version_info)),
            "instruction set": self._team.machine.isa,
            "threading layer": self._team.layer(),
            "compiled kernels": str(self._team.builder.store),
        }

    def _run(
        self, factory: Factory, constants: tuple[int, ...], work: int, *arguments: int
    ) -> None:
        """Run a kernel on as many threads as its work is worth."""
        self._team.run(factory, constants, list(arguments), self._team.parts(work))

    def conv2d_algorithms(
        self, geometry: WindowGeometry, filters: int, pooled: bool
    ) -> ConvAlgorithms:
        """How a convolution of this shape is computed."""
        return choose(geometry, filters, pooled, self._math_mode, self._algorithm)

    # ---- columns ------------------------------------------------------------------

    def im2col(self, x: Array, geometry: WindowGeometry, col: Array) -> None:
        self._columns(columns.im2col, x, geometry, col)

    def col2im(self, col: Array, geometry: WindowGeometry, x: Array) -> None:
        self._columns(columns.col2im, x, geometry, col)

    def _columns(self, factory: Factory, x: Array, g: WindowGeometry, col: Array) -> None:
        side = g.fh if g.fh == g.fw and g.fh in (3, 5) else 0
        row = g.ow * g.c * g.window
        most = max(1, min(g.ow, columns.STAGE_BYTES // (g.c * g.window * x.itemsize)))
        scratch_size = g.c * (g.h + 2 * g.pad) * (g.w + 2 * g.pad) + 2 * columns.SLACK
        stage_size = row + 2 * columns.SLACK
        parts = self._team.parts(col.size)
        _memory, places = workspace(x.dtype, parts * scratch_size, parts * stage_size)
        table = np.empty(parts * most * g.c * g.fh, np.int64)
        arguments = [x.ctypes.data, *places, *addresses(col, table)]
        arguments += [g.n, g.c, g.h, g.w, g.fh, g.fw, g.stride, g.pad, g.oh, g.ow]
        arguments += [scratch_size, stage_size, most, int(col.nbytes >= columns.STREAM_BYTES)]
        constants = (code(x), self._team.machine.lanes(x.itemsize), side)
        self._team.run(factory, constants, arguments, parts)

    # ---- convolution --------------------------------------------------------------

    def conv2d_forward(
        self, x: Array, weight: Array, bias: Array, geometry: WindowGeometry, out: Array
    ) -> None:
        self._forward(x, weight, bias, geometry, Outgoing(out))

    def _forward(
        self, x: Array, weight: Array, bias: Array, g: WindowGeometry, outgoing: Outgoing
    ) -> None:
        how = self.conv2d_algorithms(g, len(weight), outgoing.kind == POOL_GATE).forward
        layout = conv.conv_layout(weight)
        conv.forward(self._team, how, x, weight, bias, g, layout, outgoing)

    def conv2d_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        geometry: WindowGeometry,
        dx: Array | None,
        dweight: Array | None,
        dbias: Array | None,
    ) -> None:
        incoming = Incoming(dout)
        algorithms = self.conv2d_algorithms(geometry, len(weight), False)
        self._backward(incoming, x, weight, geometry, algorithms, dx, dweight, dbias)

    def _backward(
        self,
        incoming: Incoming,
        x: Array,
        weight: Array,
        g: WindowGeometry,
        algorithms: ConvAlgorithms,
        dx: Array | None,
        dweight: Array | None,
        dbias: Array | None,
    ) -> None:
        layout = conv.conv_layout(weight)
        if dx is not None:
            how = algorithms.input_gradient
            conv.input_gradient(self._team, how, incoming, weight, g, layout, dx)
        how = algorithms.weight_gradient
        if dweight is not None and dbias is not None:
            weight_gradient(self._team, how, incoming, x, g, layout, dweight, dbias)

    # ---- convolution blocks -------------------------------------------------------

    def conv2d_block_forward(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        residual: Array | None,
        geometry: WindowGeometry,
        relu: bool,
        pool: bool,
        out: Array,
        winner: Bytes | None,
    ) -> None:
        kind = POOL_GATE if pool else RELU_GATE if relu else NO_GATE
        outgoing = Outgoing(out, winner, kind, residual)
        self._forward(x, weight, bias, geometry, outgoing)

    def conv2d_block_backward(
        self,
        dout: Array,
        gate: Array | Bytes,
        x: Array,
        weight: Array,
        geometry: WindowGeometry,
        pool: bool,
        dx: Array | None,
        dweight: Array | None,
        dbias: Array | None,
    ) -> None:
        incoming = Incoming(dout, gate, POOL_GATE if pool else RELU_GATE)
        algorithms = self.conv2d_algorithms(geometry, len(weight), pool)
        self._backward(incoming, x, weight, geometry, algorithms, dx, dweight, dbias)

    # ---- max pooling --------------------------------------------------------------

    def maxpool2d_forward(
        self, x: Array, geometry: WindowGeometry, out: Array, winner: Bytes
    ) -> None:
        self._pool(pool.pool_forward, x, out, winner, geometry, out.size)

    def maxpool2d_backward(
        self, dout: Array, winner: Bytes, geometry: WindowGeometry, dx: Array
    ) -> None:
        self._pool(pool.pool_backward, dout, dx, winner, geometry, dx.size)

    def _pool(
        self,
        factory: Factory,
        source: Array,
        target: Array,
        winner: Bytes,
        g: WindowGeometry,
        work: int,
    ) -> None:
        tiled = g.fh == g.fw == g.stride <= 3 and g.pad == 0
        side = g.fh if tiled and (g.oh * g.fh, g.ow * g.fw) == (g.h, g.w) else 0
        constants = (code(source), code(winner), self._team.machine.lanes(source.itemsize), side)
        sizes = (g.n, g.c, g.h, g.w, g.fh, g.fw, g.stride, g.pad, g.oh, g.ow)
        self._run(factory, constants, work, *addresses(source, target, winner), *sizes)

    # ---- fully connected ----------------------------------------------------------

    def affine_forward(self, x: Array, weight: Array, bias: Array, out: Array) -> None:
        if len(x):
            g = conv.affine_geometry(x)
            layout = conv.affine_layout(weight)
            conv.forward(self._team, "direct", x, weight, bias, g, layout, Outgoing(out))

    def affine_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        dx: Array | None,
        dweight: Array,
        dbias: Array,
    ) -> None:
        if not len(x):
            dweight[...] = 0
            dbias[...] = 0
            return
        g, layout = conv.affine_geometry(x), conv.affine_layout(weight)
        incoming = Incoming(dout)
        if dx is not None:
            conv.input_gradient(self._team, "direct", incoming, weight, g, layout, dx)
        weight_gradient(self._team, "direct", incoming, x, g, layout, dweight, dbias)

    # ---- elementwise --------------------------------------------------------------

    def relu_forward(self, x: Array, out: Array, mask: Bytes) -> None:
        self._dense(dense.relu_forward, x.size, [x, out, mask], x.size)

    def relu_backward(self, dout: Array, mask: Bytes, dx: Array) -> None:
        self._dense(dense.relu_backward, dx.size, [dout, dx, mask], dx.size)

    def _dense(self, factory: Factory, work: int, arrays: list[np.ndarray], *sizes: int) -> None:
        self._run(factory, (code(arrays[0]),), work, *addresses(*arrays), *sizes)

    # ---- batch normalisation ------------------------------------------------------

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
        self._dense(dense.batchnorm_train, x.size, arrays, *x.shape)

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
        self._dense(dense.batchnorm_infer, x.size, arrays, *x.shape)

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
        self._dense(dense.batchnorm_backward, dx.size, arrays, *dx.shape)

    # ---- softmax with cross-entropy -----------------------------------------------

    def softmax_cross_entropy_forward(
        self, scores: Array, labels: Labels, smoothing: float, probabilities: Array
    ) -> float:
        losses = np.empty(len(labels))
        arrays = [scores, probabilities, labels, losses, np.array([float(smoothing)])]
        self._dense(dense.softmax_forward, scores.size, arrays, *scores.shape)
        return float(losses.mean())

    def softmax_cross_entropy_backward(
        self,
        probabilities: Array,
        labels: Labels,
        smoothing: float,
        scale: float,
        dscores: Array,
    ) -> None:
        settings = np.array([smoothing, scale], np.float64)
        arrays = [probabilities, dscores, labels, settings]
        self._dense(dense.softmax_backward, dscores.size, arrays, *dscores.shape)

    # ---- the optimizer's step -----------------------------------------------------

    def adam_update(
        self,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        lr: float,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> None:
        settings = np.array([lr, 1 - beta1, 1 - beta2, epsilon], np.float64)
        self._dense(dense.adam, param.size, [param, grad, m, v, settings], param.size)
