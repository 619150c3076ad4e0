"""Max and average pooling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastconv.geometry import window_geometry

from .case import REFERENCE, Arguments, Case, draw

__all__ = ["cases"]

Shape = tuple[int, int, int, int]

MAXIMA = ((100, 16, 28, 28), (100, 32, 16, 16), (100, 64, 8, 8))
"""(N, C, H, W) in front of DeepConvNet's three 2x2 poolings of stride 2."""

AVERAGES = (((8, 2048, 7, 7), 7), ((8, 1024, 7, 7), 7), ((8, 256, 28, 28), 2))
"""(N, C, H, W) and the window's side: ResNet-50, GoogLeNet; between DenseNet's blocks."""


def cases(full: bool) -> Iterator[Case]:
    for shape in MAXIMA if full else ((2, 6, 8, 8),):
        yield from _maxima(shape)
    for shape, side in AVERAGES if full else (((2, 5, 6, 6), 3),):
        yield from _averages(shape, side)


def _maxima(shape: Shape) -> Iterator[Case]:
    g = window_geometry("benchmark", shape, 2, 2, 2, 0)
    out = g.output_shape(g.c)
    label = f"{g.c}@{g.h},2x2/2,N={g.n}"

    def forward(rng: np.random.Generator) -> Arguments:
        return {"x": draw(rng, *shape), "geometry": g}

    def backward(rng: np.random.Generator) -> Arguments:
        winner = np.zeros(out, np.uint8)
        REFERENCE.maxpool2d_forward(**forward(rng), out=np.zeros(out), winner=winner)
        return {"dout": draw(rng, *out), "winner": winner, "geometry": g}

    yield Case("maxpool2d_forward", label, forward, {"out": out, "winner": out})
    yield Case("maxpool2d_backward", label, backward, {"dx": shape})


def _averages(shape: Shape, side: int) -> Iterator[Case]:
    """Windows that tile the image."""
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
