"""The calls on which a backend is compared with the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..backends.numpy_backend import NumpyBackend
from ..geometry import WindowGeometry, window_geometry
from .strict import Arguments, call_kernel

__all__ = ["cases"]

# (N, C, H, W), FN, (FH, FW), stride, pad. Channels cross the widths of vectors and of
# blocks of vectors; windows leave rows over, hang over the edge, or see padding alone.
GEOMETRIES: tuple[tuple[tuple[int, int, int, int], int, tuple[int, int], int, int], ...] = (
    ((2, 1, 28, 28), 16, (3, 3), 1, 1),
    ((3, 16, 14, 14), 32, (3, 3), 1, 2),
    ((2, 32, 8, 8), 64, (3, 3), 1, 1),
    ((1, 64, 5, 5), 48, (3, 3), 1, 1),
    ((2, 3, 9, 7), 8, (5, 5), 1, 2),
    ((1, 15, 7, 9), 17, (3, 3), 2, 1),
    ((3, 17, 6, 5), 15, (2, 3), 1, 0),
    ((2, 33, 5, 6), 31, (3, 1), 1, 1),
    ((1, 1, 12, 12), 1, (7, 7), 1, 3),
    ((2, 2, 11, 10), 3, (7, 5), 4, 3),
    ((1, 4, 10, 13), 5, (3, 3), 3, 0),
    ((2, 5, 6, 6), 2, (1, 1), 1, 0),
    ((2, 5, 7, 6), 2, (1, 1), 3, 2),
    ((1, 3, 1, 1), 4, (1, 1), 1, 0),
    ((1, 3, 4, 4), 4, (4, 4), 1, 0),
    ((4, 8, 6, 6), 24, (2, 2), 2, 0),
    ((1, 2, 1, 9), 3, (1, 4), 2, 0),
    ((0, 3, 6, 6), 4, (3, 3), 1, 1),
    ((1, 1, 20, 20), 1, (17, 16), 1, 0),
)

# (N, D, M): rows, features, units.
MATRICES = ((100, 64, 50), (7, 50, 10), (1, 1, 1), (3, 17, 33), (16, 15, 1), (5, 1, 48), (0, 4, 3))

VALUES = np.array([0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, np.inf, -np.inf, np.nan])
"""What a ReLU must decide about."""


Case = tuple[str, Arguments, bool]
"""Kernel, its inputs, and whether the result must be exact."""


def cases(reference: NumpyBackend, dtype: np.dtype[Any]) -> Iterator[Case]:
    """Every call in this dtype; `reference` makes what backward kernels need of forward."""
    rng = np.random.default_rng(0)
    for shape, filters, (fh, fw), stride, pad in GEOMETRIES:
        geometry = window_geometry("check_backend", shape, fh, fw, stride, pad)
        for whole in (False, True):
            draw = _drawer(rng, dtype, whole)
            yield from _convolution(draw, geometry, filters, whole)
            for pool in (False, True):
                yield from _block(reference, draw, geometry, filters, pool, whole)
            if pad < min(fh, fw):
                # Whole numbers are full of ties.
                yield from _pooling(reference, draw, geometry)
    for n, d, m in MATRICES:
        for whole in (False, True):
            yield from _affine(_drawer(rng, dtype, whole), n, d, m, whole)
        yield from _rows(reference, _drawer(rng, dtype, False), n, d)
    signs = np.tile(VALUES, 7).astype(dtype)
    yield "relu_forward", {"x": signs}, True
    for mask in (signs > 0, signs <= 0):
        yield "relu_backward", {"dout": signs, "mask": np.asarray(mask, np.uint8)}, True


def _drawer(rng: np.random.Generator, dtype: np.dtype[Any], whole: bool) -> Any:
    """A function of a shape that draws numbers; whole ones are so small that sums are exact."""
    if whole:
        return lambda *shape: rng.integers(-2, 3, shape).astype(dtype)
    return lambda *shape: np.asarray(rng.standard_normal(shape), dtype)


def _convolution(draw: Any, geometry: WindowGeometry, filters: int, exact: bool) -> Iterator[Case]:
    g = geometry
    x, bias = draw(*g.input_shape), draw(filters)
    weight, dout = draw(filters, g.c, g.fh, g.fw), draw(*g.output_shape(filters))
    yield "im2col", {"x": x, "geometry": g}, True
    yield "col2im", {"col": draw(*g.column_shape), "geometry": g}, exact
    forward = {"x": x, "weight": weight, "bias": bias, "geometry": g}
    yield "conv2d_forward", forward, exact
    backward = {"dout": dout, "x": x, "weight": weight, "geometry": g}
    yield "conv2d_backward", backward, exact
    yield "conv2d_backward", {**backward, "dx": None}, exact
    if x.size:
        broken = x.copy()
        broken[0, -1, 0, 0] = np.nan
        yield "conv2d_forward", {**forward, "x": broken}, exact


def _block(
    reference: NumpyBackend,
    draw: Any,
    geometry: WindowGeometry,
    filters: int,
    pool: bool,
    exact: bool,
) -> Iterator[Case]:
    g = geometry
    if pool and min(g.oh, g.ow) < 2:
        return
    images = {"x": draw(*g.input_shape), "weight": draw(filters, g.c, g.fh, g.fw), "geometry": g}
    forward = {**images, "bias": draw(filters), "pool": pool}
    if not pool:
        forward["winner"] = None
    elif exact:  # else rounding may decide between two places
        yield "conv2d_block_forward", forward, exact
    yield "conv2d_block_forward", {**forward, "winner": None}, exact
    done = call_kernel(reference, "conv2d_block_forward", **forward)
    gate = done["winner"] if pool else done["out"]
    backward = {**images, "dout": draw(*gate.shape), "gate": gate, "pool": pool}
    yield "conv2d_block_backward", backward, exact
    yield "conv2d_block_backward", {**backward, "dx": None}, exact


def _pooling(reference: NumpyBackend, draw: Any, geometry: WindowGeometry) -> Iterator[Case]:
    g = geometry
    x, dout = draw(*g.input_shape), draw(*g.output_shape(g.c))
    broken = np.where(draw(*g.input_shape) > 1, np.nan, x).astype(x.dtype)
    low = np.full_like(x, -np.inf)
    for images in (x, broken, low):
        forward = {"x": images, "geometry": g}
        yield "maxpool2d_forward", forward, True
        winner = call_kernel(reference, "maxpool2d_forward", **forward)["winner"]
        yield "maxpool2d_backward", {"dout": dout, "winner": winner, "geometry": g}, False


def _affine(draw: Any, n: int, d: int, m: int, exact: bool) -> Iterator[Case]:
    x, weight, dout = draw(n, d), draw(d, m), draw(n, m)
    yield "affine_forward", {"x": x, "weight": weight, "bias": draw(m)}, exact
    backward = {"dout": dout, "x": x, "weight": weight}
    yield "affine_backward", backward, exact
    yield "affine_backward", {**backward, "dx": None}, exact


def _rows(reference: NumpyBackend, draw: Any, n: int, d: int) -> Iterator[Case]:
    """Batch normalisation, softmax with cross-entropy, and Adam, of N rows and D columns."""
    x, dout, gamma, beta = draw(n, d), draw(n, d), draw(d), draw(d)
    mean, variance = draw(d), draw(d) ** 2
    numbers = {"gamma": gamma, "epsilon": 1e-6}
    infer = {**numbers, "x": x, "beta": beta, "mean": mean, "variance": variance}
    yield "batchnorm_infer", infer, False
    labels = np.arange(n, dtype=np.int64) % d
    if n:
        train = {**numbers, "x": x, "beta": beta}
        yield "batchnorm_train", train, False
        done = call_kernel(reference, "batchnorm_train", **train)
        kept = {key: done[key] for key in ("normalized", "variance")}
        yield "batchnorm_backward", {**numbers, **kept, "dout": dout}, False
        for smoothing in (0.0, 0.1):
            scores = {"scores": 30 * x, "labels": labels, "smoothing": smoothing}
            yield "softmax_cross_entropy_forward", scores, False
            p = call_kernel(reference, "softmax_cross_entropy_forward", **scores)["probabilities"]
            loss = {"probabilities": p, "labels": labels, "smoothing": smoothing, "scale": 1 / n}
            yield "softmax_cross_entropy_backward", loss, False
    arrays = {"param": x, "grad": dout, "m": draw(n, d), "v": draw(n, d) ** 2}
    settings = {"lr": 0.003, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7}
    flat = {key: array.reshape(-1) for key, array in arrays.items()}
    yield "adam_update", {**flat, **settings}, False
