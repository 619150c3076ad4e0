"""The Numba backend: what the kernel table says, as addresses and numbers for the kernels.

Arrays reach the kernels as addresses: no kernel is compiled once more for a read-only array,
and none looks at strides, because the contract fixes them. The kernels are in ``_numba/``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BackendUnavailable
from ..geometry import WindowGeometry
from .base import Array, Bytes, Labels, Layout

try:
    import llvmlite.binding as llvm
    import numba
except ImportError as error:
    raise BackendUnavailable(
        f"numba: the package cannot be imported ({error}); pip install --upgrade numba"
    ) from error

from ._numba import columns, dense, plan, pool, product
from ._numba.build import Builder, Factory
from ._numba.machine import Machine, machine
from ._numba.plan import Product, WeightLayout
from ._numba.pointer import BYTE, DOUBLE, FLOAT, INT
from ._numba.team import Team

__all__ = ["NumbaBackend", "create"]

settings: Any = numba.config

GRAIN = 1 << 15
"""Elements, or vectors of multiply-adds, that are worth the start of a thread."""

SUMS_BYTES = 1 << 26
"""Memory for the threads' own sums of a weight gradient; where it is full, they share."""

LINE = 64
"""Bytes of a cache line, and of the longest vector: packed operands begin at one."""


def create(max_isa: str | None = None, cache_dir: Path | None = None) -> NumbaBackend:
    """Return the Numba backend; compiles nothing and starts no thread yet.

    Parameters
    ----------
    max_isa : str or None
        Widest instruction set to use: ``"baseline"``, ``"avx2"`` or ``"avx512"``.
    cache_dir : Path or None
        Folder for compiled kernels, by default ``~/.cache/fastconv/numba``.

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
    if cache_dir is None:
        cache_dir = Path.home() / ".cache" / "fastconv" / "numba"
    return NumbaBackend(machine(max_isa), Team(Builder(cache_dir)))


def code(array: np.ndarray) -> int:
    """The kernels' name of an array's element type."""
    return {"f4": FLOAT, "f8": DOUBLE, "u1": BYTE, "i4": INT}[array.dtype.str[1:]]


def addresses(*arrays: np.ndarray) -> list[int]:
    return [array.ctypes.data for array in arrays]


def workspace(dtype: np.dtype[Any], *counts: int) -> tuple[np.ndarray, list[int]]:
    """Memory for several arrays of so many elements, and where each begins, on a `LINE`.

    The memory lives as long as the first result does.
    """
    sizes = [-(-count * dtype.itemsize // LINE) * LINE for count in counts]
    memory = np.empty(sum(sizes) + LINE, np.uint8)
    begin = memory.ctypes.data + -memory.ctypes.data % LINE
    return memory, [begin + sum(sizes[:i]) for i in range(len(sizes))]


def conv_layout(weight: Array) -> WeightLayout:
    """Layout of (FN, C, FH, FW)."""
    return WeightLayout(len(weight), weight[0].size, 1)


def affine_layout(weight: Array) -> WeightLayout:
    """Layout of (D, M): a column is a filter."""
    return WeightLayout(weight.shape[1], 1, weight.shape[1])


def affine_geometry(x: Array) -> WindowGeometry:
    """x (N, D) as one image of 1 x N pixels."""
    n, d = x.shape
    return WindowGeometry(1, d, 1, n, fh=1, fw=1, stride=1, pad=0, oh=1, ow=n)


class NumbaBackend:
    """The kernel table in Numba; see `fastconv.backends.base.Backend` for each contract."""

    name = "numba"
    layout: Layout = "channels_last"

    def __init__(self, machine: Machine, team: Team) -> None:
        self._machine = machine
        self._team = team

    def configure(self, *, threads: int) -> None:
        """Use this many threads; more than Numba has (NUMBA_NUM_THREADS) share those it has."""
        self._team.threads = threads

    def describe(self) -> dict[str, str]:
        builder = self._team.builder
        return {
            "numba": numba.__version__,
            "llvm": ".".join(map(str, llvm.llvm_version_info)),
            "instruction set": self._machine.isa,
            "threading layer": self._team.layer(),
            "compiled kernels": str(builder.folder or f"not kept: {builder.reason}"),
        }

    def _run(
        self, factory: Factory, constants: tuple[int, ...], work: int, *arguments: int
    ) -> None:
        """Run a kernel on as many threads as its work is worth."""
        self._team.run(factory, constants, list(arguments), self._parts(work))

    def _parts(self, work: int) -> int:
        return max(1, min(self._team.threads, work // GRAIN))

    # ---- columns ------------------------------------------------------------------

    def im2col(self, x: Array, geometry: WindowGeometry, col: Array) -> None:
        self._columns(columns.im2col, x, geometry, col)

    def col2im(self, col: Array, geometry: WindowGeometry, x: Array) -> None:
        self._columns(columns.col2im, x, geometry, col)

    def _columns(self, factory: Factory, x: Array, g: WindowGeometry, col: Array) -> None:
        at, along = plan.column_tables(g)
        frame = g.c * (g.h + 2 * g.pad) * (g.w + 2 * g.pad)
        parts = self._parts(col.size)
        _memory, (scratch,) = workspace(x.dtype, parts * frame)
        arguments = [x.ctypes.data, scratch, *addresses(col, at, along)]
        arguments += [g.n, g.c, g.h, g.w, g.pad, len(at), len(along)]
        self._team.run(factory, (code(x),), arguments, parts)

    # ---- convolution --------------------------------------------------------------

    def conv2d_forward(
        self, x: Array, weight: Array, bias: Array, geometry: WindowGeometry, out: Array
    ) -> None:
        self._forward(x, weight, bias, geometry, conv_layout(weight), out)

    def conv2d_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        geometry: WindowGeometry,
        dx: Array | None,
        dweight: Array,
        dbias: Array,
    ) -> None:
        layout = conv_layout(weight)
        if dx is not None:
            self._input_gradient(dout, weight, geometry, layout, dx)
        self._weight_gradient(dout, x, geometry, layout, dweight, dbias)

    def _forward(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        g: WindowGeometry,
        layout: WeightLayout,
        out: Array,
    ) -> None:
        shape = self._machine.tile(layout.filters, x.itemsize)
        self._multiply(plan.forward(g, layout, shape[1]), shape, g.n, x, weight, bias, out)

    def _input_gradient(
        self, dout: Array, weight: Array, g: WindowGeometry, layout: WeightLayout, dx: Array
    ) -> None:
        shape = self._machine.tile(g.c, dx.itemsize)
        products = plan.input_gradient(g, layout, shape[1])
        if sum(part.rows for part in products) < g.h * g.w:
            dx[...] = 0
        for part in products:
            self._multiply(part, shape, g.n, dout, weight, None, dx)

    def _multiply(
        self,
        p: Product,
        shape: tuple[int, int, int],
        images: int,
        x: Array,
        weight: Array,
        bias: Array | None,
        result: Array,
    ) -> None:
        """Product `p` for each image, in tiles of this shape (lanes, rows, vectors)."""
        lanes, rows, vectors = shape
        width = lanes * vectors
        start = np.zeros(-(-p.columns // width) * width, x.dtype)
        if bias is not None:
            start[: p.columns] = bias
        tiles = len(p.at) // rows
        parts = self._parts(images * tiles * len(start) // lanes * p.terms)
        packed_size = len(start) * p.terms
        _memory, (packed, scratch) = workspace(x.dtype, packed_size, parts * p.frame.size)
        *tables, weights = p.addresses
        arguments = [weight.ctypes.data, packed, weights]
        arguments += [p.columns, p.terms, p.column_step, width]
        self._team.run(product.pack, (code(x),), arguments, self._parts(packed_size))
        arguments = [x.ctypes.data, scratch, packed, *addresses(start, result), *tables]
        arguments += [images, tiles, p.columns, p.terms, result.size // max(images, 1)]
        arguments += p.frame.numbers
        self._team.run(product.multiply, (code(x), *shape), arguments, parts)

    def _weight_gradient(
        self,
        dout: Array,
        x: Array,
        g: WindowGeometry,
        layout: WeightLayout,
        dweight: Array,
        dbias: Array,
    ) -> None:
        """Sums of the products of taps and filters over all pixels of all images."""
        shape = lanes, rows, vectors = self._machine.tile(layout.filters, x.itemsize)
        p = plan.forward(g, layout, rows)
        width = lanes * vectors
        whole = -(-p.columns // width) * width
        tiles = len(p.along) // rows
        parts = self._parts(g.n * p.rows * len(p.along) * whole // lanes)
        right_size = p.rows * whole if whole > p.columns else 0
        group_size = (len(p.along) + 1) * whole
        groups = max(1, min(parts, g.n, SUMS_BYTES // (group_size * x.itemsize)))
        _memory, (scratch, right, sums) = workspace(
            x.dtype, parts * p.frame.size, parts * right_size, groups * group_size
        )
        zeros = np.zeros(width, x.dtype)
        at, along, _, weights = p.addresses
        arguments = [x.ctypes.data, scratch, dout.ctypes.data, right, zeros.ctypes.data, sums]
        arguments += [along, at]
        arguments += [g.n, tiles, p.columns, p.rows, groups, *p.frame.numbers]
        self._team.run(product.accumulate, (code(x), *shape), arguments, parts)
        arguments = [sums, *addresses(dweight, dbias), weights]
        arguments += [groups, group_size, p.terms, p.columns, whole, p.column_step]
        self._team.run(product.collect, (code(x),), arguments, self._parts(groups * group_size))

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
        constants = (code(source), code(winner), self._machine.lanes(source.itemsize))
        sizes = (g.n, g.c, g.h, g.w, g.fh, g.fw, g.stride, g.pad, g.oh, g.ow)
        self._run(factory, constants, work, *addresses(source, target, winner), *sizes)

    # ---- fully connected ----------------------------------------------------------

    # A convolution of 1 x 1 over one image of 1 x N pixels, whose channels are the features.

    def affine_forward(self, x: Array, weight: Array, bias: Array, out: Array) -> None:
        if len(x):
            g = affine_geometry(x)
            self._forward(x, weight, bias, g, affine_layout(weight), out)

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
        g, layout = affine_geometry(x), affine_layout(weight)
        if dx is not None:
            self._input_gradient(dout, weight, g, layout, dx)
        self._weight_gradient(dout, x, g, layout, dweight, dbias)

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
        self, scores: Array, labels: Labels, probabilities: Array
    ) -> float:
        losses = np.empty(len(labels))
        arrays = [scores, probabilities, labels, losses]
        self._dense(dense.softmax_forward, scores.size, arrays, *scores.shape)
        return float(losses.mean())

    def softmax_cross_entropy_backward(
        self, probabilities: Array, labels: Labels, scale: float, dscores: Array
    ) -> None:
        arrays = [probabilities, dscores, labels, np.array([float(scale)])]
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
