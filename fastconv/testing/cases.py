"""The calls on which a backend is compared with the reference."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np

from ..backends.numpy import NumpyBackend
from ..backends.table import Activation
from ..geometry import Pad, Stride, WindowGeometry, window_geometry
from .strict import Arguments, call_kernel

__all__ = ["cases"]

Images = tuple[int, int, int, int]

# (N, C, H, W), FN, (FH, FW), stride, pad. Channels cross the widths of vectors and of
# blocks of vectors; windows leave rows over, hang over the edge, or see padding alone.
GEOMETRIES: tuple[tuple[Images, int, tuple[int, int], int, Pad], ...] = (
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
    ((2, 17, 9, 8), 16, (3, 3), 1, ((0, 1), (2, 0))),
    ((1, 2, 8, 9), 5, (3, 2), 2, ((0, 3), (0, 1))),
    ((2, 18, 7, 6), 3, (1, 1), 1, ((0, 1), (0, 2))),
)

# The same, of windows that move further along one axis: columns and pools.
TWO_STRIDES: tuple[tuple[Images, tuple[int, int], tuple[int, int], Pad], ...] = (
    ((2, 17, 9, 8), (3, 3), (2, 1), ((1, 2), (0, 1))),
    ((1, 3, 8, 11), (2, 4), (1, 3), ((0, 1), (3, 0))),
    ((1, 2, 6, 6), (2, 2), (2, 1), 0),
)

# The same, of images that are mostly zeros, and enough of them for Winograd's tiles of 2 x 4:
# outputs whose windows hold only zeros are exact.
MOSTLY_ZEROS = (
    ((9, 17, 13, 15), 16, (3, 3), 1, 1),
    ((8, 33, 16, 16), 9, (3, 3), 1, 2),
    ((2, 3, 9, 11), 5, (5, 5), 2, 2),
    ((9, 17, 13, 14), 16, (3, 3), 1, ((2, 0), (0, 1))),
)

# The same, then dilation and groups: depthwise, groups that fill vectors and groups that do not,
# one group that is only dilated, taps that see only padding, strides past the image; two strides,
# also of one group, and padding by side.
GROUPED: tuple[tuple[Images, int, tuple[int, int], Stride, Pad, int, int], ...] = (
    ((2, 33, 9, 10), 33, (3, 3), 1, 1, 1, 33),
    ((2, 16, 8, 7), 16, (3, 2), 2, 1, 2, 16),
    ((1, 3, 5, 12), 3, (5, 3), 3, 2, 1, 3),
    ((2, 32, 7, 9), 32, (3, 3), 1, 1, 1, 8),
    ((1, 24, 6, 6), 48, (3, 3), 2, 1, 1, 2),
    ((2, 6, 6, 7), 9, (2, 3), 1, 2, 2, 3),
    ((2, 8, 9, 8), 16, (3, 3), 1, 2, 2, 1),
    ((1, 5, 6, 11), 3, (2, 3), 1, 3, 3, 1),
    ((1, 3, 7, 6), 5, (3, 2), 2, 2, 3, 1),
    ((1, 4, 2, 3), 4, (1, 3), 4, 6, 5, 2),
    ((0, 4, 6, 6), 4, (3, 3), 1, 1, 1, 4),
    ((2, 17, 9, 8), 18, (3, 3), (2, 1), ((1, 0), (0, 2)), 1, 1),
    ((2, 6, 7, 9), 9, (2, 3), (1, 3), 1, 1, 3),
    ((1, 19, 8, 9), 19, (3, 3), (1, 2), ((0, 1), (2, 0)), 1, 19),
    ((1, 3, 9, 8), 4, (2, 3), (3, 2), ((0, 2), (1, 0)), 2, 1),
    ((2, 8, 9, 8), 5, (3, 3), 1, ((1, 3), (4, 0)), 2, 1),
)

# (N, C, H, W) and size, beta: channels cross the width of a vector, windows those of channels.
RESPONSES = (((2, 17, 3, 4), 5, 0.75), ((1, 3, 2, 2), 8, 0.5), ((0, 4, 2, 2), 3, 0.75))

# (N, D, M): rows, features, units.
MATRICES = ((100, 64, 50), (7, 50, 10), (1, 1, 1), (3, 17, 33), (16, 15, 1), (5, 1, 48), (0, 4, 3))

# (N, C, H, W) of images to augment.
AUGMENTED = ((3, 1, 28, 28), (2, 3, 9, 17), (1, 2, 1, 1), (2, 1, 33, 8), (0, 1, 4, 4))
# (N, C, H, W) of images to normalise: rows that end within a vector, and pixels of all sizes.
NORMALISED = ((2, 3, 9, 7), (3, 16, 8, 8), (2, 1, 20, 15), (1, 130, 5, 5), (2, 515, 3, 4))

VALUES = np.array([0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, np.inf, -np.inf, np.nan])
"""What a ReLU must decide about."""


Case = tuple[str, Arguments, bool]
"""Kernel, its inputs, and whether the result must be exact."""


def cases(reference: NumpyBackend, dtype: np.dtype[Any]) -> Iterator[Case]:
    """Every call in this dtype; `reference` computes what backward kernels need from forward."""
    rng = np.random.default_rng(0)
    for shape, filters, (fh, fw), stride, pad in GEOMETRIES:
        geometry = window_geometry("check_backend", shape, fh, fw, stride, pad)
        for whole in (False, True):
            draw = _drawer(rng, dtype, whole)
            yield from _columns(draw, geometry, whole)
            yield from _convolution(draw, geometry, filters, whole)
            for pool in (False, True):
                yield from _block(reference, draw, geometry, filters, pool, whole)
            # Whole numbers are full of ties.
            yield from _pools(reference, draw, shape, (fh, fw), stride, pad)
    for shape, window, both, pad in TWO_STRIDES:
        geometry = window_geometry("check_backend", shape, *window, both, pad)
        for whole in (False, True):
            draw = _drawer(rng, dtype, whole)
            yield from _columns(draw, geometry, whole)
            yield from _pools(reference, draw, shape, window, both, pad)
    for shape, filters, (fh, fw), stride, pad in MOSTLY_ZEROS:
        geometry = window_geometry("check_backend", shape, fh, fw, stride, pad)
        yield from _mostly_zeros(_drawer(rng, dtype, False), geometry, filters)
    for shape, filters, window, steps, pad, dilation, groups in GROUPED:
        geometry = window_geometry("check_backend", shape, *window, steps, pad, dilation)
        for whole in (False, True):
            yield from _grouped(_drawer(rng, dtype, whole), geometry, filters, groups, whole)
    for shape, size, beta in RESPONSES:
        yield from _response(reference, _drawer(rng, dtype, False), shape, size, beta)
    for n, d, m in MATRICES:
        for whole in (False, True):
            yield from _affine(_drawer(rng, dtype, whole), n, d, m, whole)
        yield from _rows(reference, _drawer(rng, dtype, False), n, d)
    for shape in AUGMENTED:
        yield from _augmentation(rng, dtype, shape)
    for shape, _, (fh, fw), stride, pad in GEOMETRIES:
        geometry = window_geometry("check_backend", shape, fh, fw, stride, pad)
        yield from _averages(_drawer(rng, dtype, False), geometry)
    for shape in NORMALISED:
        yield from _channels(reference, _drawer(rng, dtype, False), shape)
    signs = np.tile(VALUES, 7).astype(dtype)
    yield "relu_forward", {"x": signs}, True
    for mask in (signs > 0, signs <= 0):
        yield "relu_backward", {"dout": signs, "mask": np.asarray(mask, np.uint8)}, True
    for kind in get_args(Activation):
        activation = {"x": np.linspace(-12, 12, 101).astype(dtype), "kind": kind, "slope": 0.3}
        yield "activation_forward", activation, False
        yield "activation_backward", {**activation, "dout": activation["x"]}, False


def _drawer(rng: np.random.Generator, dtype: np.dtype[Any], whole: bool) -> Any:
    """A function that draws numbers of a shape; whole ones are so small that sums are exact."""
    if whole:
        return lambda *shape: rng.integers(-2, 3, shape).astype(dtype)
    return lambda *shape: np.asarray(rng.standard_normal(shape), dtype)


def _columns(draw: Any, geometry: WindowGeometry, exact: bool) -> Iterator[Case]:
    yield "im2col", {"x": draw(*geometry.input_shape), "geometry": geometry}, True
    yield "col2im", {"col": draw(*geometry.column_shape), "geometry": geometry}, exact


def _convolution(draw: Any, geometry: WindowGeometry, filters: int, exact: bool) -> Iterator[Case]:
    g = geometry
    x, bias = draw(*g.input_shape), draw(filters)
    weight, dout = draw(filters, g.c, g.fh, g.fw), draw(*g.output_shape(filters))
    forward = {"x": x, "weight": weight, "bias": bias, "geometry": g}
    yield "conv2d_forward", forward, exact
    backward = {"dout": dout, "x": x, "weight": weight, "geometry": g}
    yield "conv2d_backward", backward, exact
    yield "conv2d_backward", {**backward, "dx": None}, exact
    if x.size:
        broken = x.copy()
        broken[0, -1, 0, 0] = np.nan
        yield "conv2d_forward", {**forward, "x": broken}, exact


def _mostly_zeros(draw: Any, geometry: WindowGeometry, filters: int) -> Iterator[Case]:
    """A patch in each image, and a pixel of the last channel."""
    g = geometry
    x, values = np.zeros_like(draw(*g.input_shape)), draw(*g.input_shape)
    patch = slice(None), slice(None), slice(g.h // 4, g.h // 2), slice(g.w // 4, g.w // 2)
    x[patch], x[:, -1, -1, -1], x[1::2, :, -2] = values[patch], values[:, -1, -1, -1], -0.0
    images = {
        "x": x,
        "weight": draw(filters, g.c, g.fh, g.fw),
        "geometry": g,
        "bias": draw(filters),
    }
    yield "conv2d_forward", images, False
    yield "conv2d_grouped_forward", {**images, "groups": 1}, False
    plain = {**images, "residual": None, "relu": True}
    yield "conv2d_block_forward", {**plain, "pool": True, "winner": None}, False
    for residual, relu in itertools.product((None, draw(*g.output_shape(filters))), (False, True)):
        added = {"residual": residual, "relu": relu, "pool": False, "winner": None}
        yield "conv2d_block_forward", {**images, **added}, False


def _grouped(
    draw: Any, geometry: WindowGeometry, filters: int, groups: int, exact: bool
) -> Iterator[Case]:
    g = geometry
    images = {"x": draw(*g.input_shape), "geometry": g, "groups": groups}
    images["weight"] = draw(filters, g.c // groups, g.fh, g.fw)
    yield "conv2d_grouped_forward", {**images, "bias": draw(filters)}, exact
    backward = {**images, "dout": draw(*g.output_shape(filters))}
    yield "conv2d_grouped_backward", backward, exact
    yield "conv2d_grouped_backward", {**backward, "dx": None}, exact


def _response(
    reference: NumpyBackend, draw: Any, shape: tuple[int, ...], size: int, beta: float
) -> Iterator[Case]:
    settings = {"x": draw(*shape), "size": size, "alpha": 0.5, "beta": beta}
    forward = {**settings, "k": 2.0}
    yield "lrn_forward", forward, False
    scale = call_kernel(reference, "lrn_forward", **forward)["scale"]
    yield "lrn_backward", {**settings, "scale": scale, "dout": draw(*shape)}, False


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
    plain = {"residual": None, "relu": True}
    forward = {**images, **plain, "bias": draw(filters), "pool": pool}
    if not pool:
        forward["winner"] = None
        residual = draw(*g.output_shape(filters))
        for added, relu in ((residual, True), (residual, False), (None, False)):
            yield "conv2d_block_forward", {**forward, "residual": added, "relu": relu}, exact
        if residual.size:
            broken = residual.copy()
            broken[0, -1, 0, 0], broken[-1, 0, -1, -1] = np.nan, np.inf
            yield "conv2d_block_forward", {**forward, "residual": broken}, exact
    elif exact:  # else rounding may decide between two places
        yield "conv2d_block_forward", forward, exact
    yield "conv2d_block_forward", {**forward, "winner": None}, exact
    done = call_kernel(reference, "conv2d_block_forward", **forward)
    gate = done["winner"] if pool else done["out"]
    backward = {**images, "dout": draw(*gate.shape), "gate": gate, "pool": pool}
    yield "conv2d_block_backward", backward, exact
    yield "conv2d_block_backward", {**backward, "dx": None}, exact


def _averages(draw: Any, geometry: WindowGeometry) -> Iterator[Case]:
    """Windows that overlap, leave gaps, hold nothing, or are the whole image."""
    g = geometry

    def bounds(size: int, window: int, count: int, stride: int, before: int) -> Any:
        first = np.arange(count) * stride - before
        begin, end = np.clip(first, 0, size), np.clip(first + window, 0, size)
        return np.stack([begin, end, np.arange(count) % 3 + 1], axis=1).astype(np.int64)

    windows = (
        bounds(g.h, g.fh, g.oh, g.strides[0], g.pads.top),
        bounds(g.w, g.fw, g.ow, g.strides[1], g.pads.left),
    )
    whole = (np.array([[0, size, size]], np.int64) for size in (g.h, g.w))
    for rows, cols in (windows, whole):
        x, dout = draw(*g.input_shape), draw(g.n, g.c, len(rows), len(cols))
        bounded = {"rows": rows, "cols": cols}
        yield "avgpool2d_forward", {"x": x, **bounded}, False
        yield "avgpool2d_backward", {"dout": dout, "dx": g.input_shape, **bounded}, False
        if x.size:
            x = x.copy()
            x[0, -1, 0, 0], x[0, 0, -1, -1] = np.nan, np.inf
            yield "avgpool2d_forward", {"x": x, **bounded}, False


def _pools(
    reference: NumpyBackend,
    draw: Any,
    shape: Images,
    window: tuple[int, int],
    stride: Stride,
    pad: Pad,
) -> Iterator[Case]:
    """Max pooling by these windows, and in ceil mode, where the padding allows it."""
    g = window_geometry("check_backend", shape, *window, stride, pad)
    if max(g.pads.top, g.pads.bottom) >= g.fh or max(g.pads.left, g.pads.right) >= g.fw:
        return
    yield from _pooling(reference, draw, g)
    ceiled = window_geometry("check_backend", shape, *window, stride, pad, ceil_mode=True)
    if ceiled != g:
        yield from _pooling(reference, draw, ceiled)


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


def _channels(reference: NumpyBackend, draw: Any, shape: tuple[int, ...]) -> Iterator[Case]:
    """Batch normalisation per channel, with and without what may follow it."""
    x, residual, dout = 3 * draw(*shape) + 1, draw(*shape), draw(*shape)
    x[0, 0, 0, 0] = 50  # no statistic may depend on the first pixel
    yield "batchnorm2d_statistics", {"x": x}, False
    vectors = {name: draw(shape[1]) for name in ("centre", "scale", "shift")}
    for added, relu in itertools.product((None, residual), (False, True)):
        forward = {"x": x, **vectors, "residual": added, "relu": relu}
        yield "batchnorm2d_apply", forward, False
        out = call_kernel(reference, "batchnorm2d_apply", **forward)["out"]
        gradient = {name: draw(shape[1]) for name in ("mean", "inv_std", "gamma")}
        gradient |= {"dout": dout, "gate": out if relu else None, "x": x}
        outputs = {} if relu or added is None else {"dresidual": None}
        yield "batchnorm2d_backward", gradient | outputs, False
        yield "batchnorm2d_backward", gradient | outputs | {"dx": None}, False
        yield "batchnorm2d_backward", gradient | {"dresidual": None}, False
    broken = np.where(draw(*shape) > 2, np.nan, x).astype(x.dtype)
    yield "batchnorm2d_statistics", {"x": broken}, False
    yield "batchnorm2d_apply", {"x": broken, **vectors, "residual": None, "relu": True}, False
    yield "batchnorm2d_apply", {"x": x[:0], **vectors, "residual": None, "relu": True}, False


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


def _augmentation(
    rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, int, int, int]
) -> Iterator[Case]:
    n, _, h, w = shape
    draw = _drawer(rng, dtype, False)
    few = {"threads": 2, "fill": 0.25}
    turned = draw(n, 2, 3) * np.array([0.2, 0.2, 2], dtype) + np.eye(2, 3, dtype=dtype)
    moved = np.asarray(np.eye(2, 3) + rng.integers(-2, 3, (n, 2, 1)) * [0, 0, 1], dtype)
    for field in (None, 2 * draw(n, 2, h, w)):
        yield "warp", {**few, "x": draw(*shape), "matrix": turned, "field": field}, False
    broken = np.where(draw(*shape) > 1, np.nan, draw(*shape)).astype(dtype)
    yield "warp", {**few, "x": broken, "matrix": moved, "field": None}, True
    wild = np.full((n, 2, h, w), np.nan, dtype)
    yield "warp", {**few, "x": broken, "matrix": moved, "field": wild}, True
    for count in (1, 3, 13):
        yield "smooth", {"x": draw(*shape), "taps": draw(count), "threads": 2}, False
    boxes = np.tile(np.array([0, w // 3, (h + 1) // 2, w]), (n, 1))
    yield (
        "tone",
        {**few, "x": draw(*shape), "gain": draw(n), "offset": draw(n), "boxes": boxes},
        False,
    )
