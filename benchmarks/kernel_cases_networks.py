"""The kernels of networks after the book's, on their shapes.

Notation: N images, C channels; FN filters; D features, M units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np

import fastconv
from fastconv.backends.table import Activation
from fastconv.geometry import window_geometry

from .kernel_case import Arguments, Case, draw

__all__ = ["activation", "augmentation", "averages", "grouped", "norm", "response"]


def grouped(
    name: str,
    shape: tuple[int, int, int, int],
    fn: int,
    stride: int,
    dilation: int,
    groups: int,
) -> Iterator[Case]:
    """Windows of 3x3 that keep the images' size at stride 1."""
    g = window_geometry("benchmark", shape, 3, 3, stride, dilation, dilation)
    label = f"{name}:{g.c}@{g.h}->{fn},3x3" + f"/{stride}" * (stride > 1)
    label += f",{groups} groups" if groups > 1 else f",dilation {dilation}"
    kind = f"stride {stride}, dilation {dilation}, {g.c // groups} channels a group"
    weight, out = (fn, g.c // groups, 3, 3), g.output_shape(fn)
    flops = 2 * math.prod(out) * math.prod(weight[1:])

    def images(rng: np.random.Generator) -> Arguments:
        arrays = {"x": draw(rng, *shape), "weight": draw(rng, *weight)}
        return arrays | {"geometry": g, "groups": groups}

    yield Case(
        "conv2d_grouped_forward",
        label,
        lambda rng: images(rng) | {"bias": draw(rng, fn)},
        {"out": out},
        flops,
        kind,
    )
    yield Case(
        "conv2d_grouped_backward",
        label,
        lambda rng: images(rng) | {"dout": draw(rng, *out)},
        {"dx": shape, "dweight": weight, "dbias": (fn,)},
        2 * flops,
        kind,
    )


def response(*shape: int) -> Iterator[Case]:
    settings: Arguments = {"size": 5, "alpha": 5e-4, "beta": 0.75}
    label = f"{shape[1]}@{shape[2]},5 channels,N={shape[0]}"

    def forward(rng: np.random.Generator) -> Arguments:
        return {"x": draw(rng, *shape), "k": 2.0} | settings

    def backward(rng: np.random.Generator) -> Arguments:
        arrays = {name: draw(rng, *shape) for name in ("dout", "x")}
        return arrays | {"scale": np.abs(draw(rng, *shape)) + 2} | settings

    yield Case("lrn_forward", label, forward, {"out": shape, "scale": shape})
    yield Case("lrn_backward", label, backward, {"dx": shape})


def activation(kind: Activation, size: int) -> Iterator[Case]:
    def inputs(rng: np.random.Generator, *names: str) -> Arguments:
        return {name: draw(rng, size) for name in names} | {"kind": kind, "slope": 0.3}

    label = f"{kind},{size}"
    outputs = {"out": (size,)}
    yield Case("activation_forward", label, lambda rng: inputs(rng, "x"), outputs, kind=kind)
    outputs = {"dx": (size,)}
    yield Case(
        "activation_backward", label, lambda rng: inputs(rng, "dout", "x"), outputs, kind=kind
    )


def averages(shape: tuple[int, int, int, int], side: int) -> Iterator[Case]:
    """Average pooling by windows that tile the image."""
    n, c, h, _ = shape
    g = window_geometry("benchmark", shape, side, side, side, 0)
    label = f"{c}@{h},{side}x{side}/{side},N={n}"
    begin = side * np.arange(g.oh, dtype=np.int64)
    windows = np.stack([begin, begin + side, np.full(g.oh, side)], axis=1)
    bounds = {"rows": windows, "cols": windows}

    def forward(rng: np.random.Generator) -> Arguments:
        return {"x": draw(rng, *shape), **bounds}

    def backward(rng: np.random.Generator) -> Arguments:
        return {"dout": draw(rng, *g.output_shape(c)), **bounds}

    yield Case("avgpool2d_forward", label, forward, {"out": g.output_shape(c)})
    yield Case("avgpool2d_backward", label, backward, {"dx": shape})


def norm(shape: tuple[int, int, int, int]) -> Iterator[Case]:
    """Batch normalisation per channel, as between two convolutions: ReLU, nothing added."""
    n, c, h, _ = shape
    label = f"{c}@{h},N={n}"

    def vectors(rng: np.random.Generator, *names: str) -> Arguments:
        return {name: np.abs(draw(rng, c)) + 0.5 for name in names}

    def apply(rng: np.random.Generator) -> Arguments:
        inputs = {"x": draw(rng, *shape), "residual": None, "relu": True}
        return inputs | vectors(rng, "centre", "scale", "shift")

    def backward(rng: np.random.Generator) -> Arguments:
        inputs = {name: draw(rng, *shape) for name in ("dout", "gate", "x")}
        return inputs | vectors(rng, "mean", "inv_std", "gamma")

    outputs = {"mean": (c,), "variance": (c,)}
    yield Case("batchnorm2d_statistics", label, lambda rng: {"x": draw(rng, *shape)}, outputs)
    yield Case("batchnorm2d_apply", label, apply, {"out": shape})
    gradients = {"dx": shape, "dgamma": (c,), "dbeta": (c,), "dresidual": None}
    yield Case("batchnorm2d_backward", label, backward, gradients)


def augmentation(shape: tuple[int, int, int, int]) -> Iterator[Case]:
    """Images turned and moved a little, alone and with an elastic field; its smoothing; tone."""
    n, c, h, w = shape
    label, threads = f"{c}@{h}x{w},N={n}", {"threads": fastconv.get_num_threads()}

    def warp(rng: np.random.Generator, elastic: bool) -> Arguments:
        # In parts of a pixel that float32 holds exactly: between two pixels of noise, a place that
        # is off by the rounding of its coordinate has a value that is off by more than a kernel's.
        matrix = _whole_parts(np.eye(2, 3) + draw(rng, n, 2, 3) * [0.1, 0.1, 2])
        field = _whole_parts(draw(rng, n, 2, h, w)) if elastic else None
        return {"x": draw(rng, *shape), "matrix": matrix, "field": field, "fill": 0.0} | threads

    def smooth(rng: np.random.Generator) -> Arguments:
        return {"x": draw(rng, n, 2, h, w), "taps": draw(rng, 25)} | threads

    def tone(rng: np.random.Generator) -> Arguments:
        boxes = np.tile(np.array([0, 1, h // 2, w // 2], np.int64), (n, 1))
        numbers = {"gain": draw(rng, n), "offset": draw(rng, n), "boxes": boxes, "fill": 0.0}
        return {"x": draw(rng, *shape)} | numbers | threads

    for field in (False, True):
        name = label + "+field" * field
        yield Case(
            "warp",
            name,
            partial(warp, elastic=field),
            {"out": shape},
            kind=f"{c} channels{'+field' * field}",
        )
    yield Case("smooth", f"2@{h}x{w},25 taps,N={n}", smooth, {"out": (n, 2, h, w)})
    yield Case("tone", label, tone, {"out": shape})


def _whole_parts(numbers: np.ndarray) -> np.ndarray:
    return np.rint(numbers * 256) / 256
