"""The book's unfolding of windows into a column matrix, and its adjoint."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..shapes import conv_shapes, small_conv_shapes
from .case import Case, draw

__all__ = ["cases"]

LARGEST_BYTES = 1 << 28
"""Of a column matrix, in float64; above it the shape is left out."""


def cases(full: bool) -> Iterator[Case]:
    for s in conv_shapes() if full else small_conv_shapes():
        g = s.geometry
        # A 1x1 window is the image itself, transposed: nobody unfolds it.
        if s.size == 1 or 8 * math.prod(g.column_shape) > LARGEST_BYTES:
            continue
        yield Case(
            "im2col",
            s.label,
            lambda rng, g=g: {"x": draw(rng, *g.input_shape), "geometry": g},
            {"col": g.column_shape},
            kind=s.window,
        )
        yield Case(
            "col2im",
            s.label,
            lambda rng, g=g: {"col": draw(rng, *g.column_shape), "geometry": g},
            {"x": g.input_shape},
            kind=s.window,
        )
