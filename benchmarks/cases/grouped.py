"""Convolutions in groups, depthwise ones among them, and dilated ones.

Sources: MobileNet arXiv:1704.04861, ResNeXt arXiv:1611.05431, DeepLab arXiv:1706.05587.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from fastconv.geometry import window_geometry

from .case import Arguments, Case, draw

__all__ = ["cases"]

# Network, (N, C, H, W), FN, stride, dilation, groups.
SHAPES = (
    ("mobilenet", (8, 32, 112, 112), 32, 1, 1, 32),
    ("mobilenet", (8, 64, 112, 112), 64, 2, 1, 64),
    ("mobilenet", (8, 128, 56, 56), 128, 1, 1, 128),
    ("mobilenet", (8, 512, 14, 14), 512, 1, 1, 512),
    ("resnext50", (8, 128, 56, 56), 128, 1, 1, 32),
    ("resnext50", (8, 512, 14, 14), 512, 1, 1, 32),
    ("deeplab", (8, 256, 28, 28), 256, 1, 2, 1),
)
SMALL = (
    ("small", (2, 9, 6, 6), 9, 1, 1, 9),
    ("small", (2, 8, 6, 6), 12, 2, 1, 4),
    ("small", (2, 4, 7, 7), 5, 1, 2, 1),
)


def cases(full: bool) -> Iterator[Case]:
    for numbers in SHAPES if full else SMALL:
        yield from _grouped(*numbers)


def _grouped(
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
