"""Strokes of a pen as an image like MNIST's.

A digit drawn by a mouse is a line without width, anywhere on the page and of any size. MNIST's
were written by pens of some width, scaled to fit a box of 20x20, and centred by mass in 28x28; see
`fastconv.datasets.image_file` for the same from a picture. A line can be given the width that such
a pen has in the image, whatever the size of the drawing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, ShapeError
from .image_file import BOX, SIDE

__all__ = ["frame_strokes"]

RADIUS = 1.3
"""Half the width of a stroke in the image, in pixels: images have as much ink as MNIST's."""

STEP = 0.25
"""Pixels between the points of a stroke that are used; nearer ones change nothing that is seen."""

FARTHEST = 1e9
"""Places farther from 0 are refused, and drawings smaller than its inverse are dots."""

MOST_POINTS = 10_000
"""Most points of a drawing: minutes of drawing."""

AT_ONCE = 512
"""Pieces of strokes whose distances are computed at a time."""


def frame_strokes(strokes: Sequence[ArrayLike]) -> NDArray[np.float32]:
    """Draw strokes as an image like MNIST's: scaled, of a pen's width, centred by mass.

    Parameters
    ----------
    strokes : sequence of array
        The places (n, 2) that the pen went through, x to the right and y down, in any unit. One
        place alone is a dot.

    Returns
    -------
    ndarray of float32
        (1, 28, 28), 0 background to 1 ink.

    Raises
    ------
    ShapeError, ArgumentError
        Something other than places, no strokes, or more than `MOST_POINTS` places.
    """
    lines = [np.asarray(stroke, np.float64) for stroke in strokes]
    for line in lines:
        if line.ndim != 2 or line.shape[1] != 2 or not len(line):
            raise ShapeError(f"frame_strokes: expected strokes of shape (n, 2), got {line.shape}")
    points = sum(map(len, lines))
    if not 1 <= points <= MOST_POINTS:
        raise ArgumentError(f"frame_strokes: expected 1 to {MOST_POINTS:,} points, got {points:,}")
    every = np.concatenate(lines)
    if not (np.abs(every) <= FARTHEST).all():
        raise ArgumentError(f"frame_strokes: expected places within {FARTHEST:g} of 0, or got NaN")

    low, extent = every.min(0), np.ptp(every, 0)
    scale = (BOX - 2 * RADIUS) / extent.max() if extent.max() > 1 / FARTHEST else 1.0
    lines = [_thinned((line - low) * scale) for line in lines]
    pieces = np.concatenate([np.stack([line[:-1], line[1:]], axis=1) for line in lines])
    ends = np.concatenate([line[[0, -1]] for line in lines])
    # The ink of a piece is as its length, that of an end half a round cap.
    lengths, cap = np.linalg.norm(pieces[:, 1] - pieces[:, 0], axis=1), np.pi * RADIUS / 4
    mass = lengths @ pieces.mean(1) + cap * ends.sum(0)
    centre = mass / (lengths.sum() + cap * len(ends))
    offset = np.clip(SIDE / 2 - centre, RADIUS, SIDE - RADIUS - extent * scale)

    middles = np.arange(SIDE) + 0.5
    places = np.stack(np.meshgrid(middles, middles), -1).reshape(-1, 2)
    nearest = np.full(SIDE * SIDE, np.inf)
    for start in range(0, len(pieces), AT_ONCE):
        some = pieces[start : start + AT_ONCE] + offset
        nearest = np.minimum(nearest, _squared_distances(places, some).min(1))
    ink = np.clip(RADIUS - np.sqrt(nearest) + 0.5, 0, 1)  # half of it at the stroke's edge
    return ink.reshape(1, SIDE, SIDE).astype(np.float32)


def _thinned(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places of a line (n, 2) that are `STEP` apart, with the first and the last; at least two."""
    way = np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))
    kept = np.diff(np.floor(way / STEP), prepend=0.0) > 0
    return np.concatenate([line[:1], line[1:][kept], line[-1:]])


def _squared_distances(
    places: NDArray[np.float64], pieces: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The distance of each place (n, 2) from each straight piece (m, 2, 2), squared: (n, m)."""
    start, along = pieces[:, 0], pieces[:, 1] - pieces[:, 0]
    length = (along**2).sum(1)
    over = places @ along.T - (start * along).sum(1)  # the place from the start, along the piece
    share = np.clip(over / np.where(length > 0, length, 1), 0, 1)
    away = (places**2).sum(1)[:, None] - 2 * places @ start.T + (start**2).sum(1)
    return np.maximum(away - share * (2 * over - share * length), 0)
