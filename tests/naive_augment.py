"""The oracle of augmentation, in plain loops over float64; see `naive`."""

from __future__ import annotations

import math

import numpy as np

from .naive import float64


def value_at(plane, a, b, fill):
    """Bilinear interpolation: each neighbour counts by its nearness along both axes."""
    h, w = plane.shape
    if not (-1 < a < w and -1 < b < h):  # also if either is NaN
        return fill
    total = 0.0
    for row in (math.floor(b), math.floor(b) + 1):
        for column in (math.floor(a), math.floor(a) + 1):
            weight = (1 - abs(a - column)) * (1 - abs(b - row))
            if weight > 0:
                inside = 0 <= row < h and 0 <= column < w
                total += weight * (plane[row, column] if inside else fill)
    return total


def warp(x, matrix, field, fill):
    x, matrix = float64(x), float64(matrix)
    out = np.zeros(x.shape)
    for n, c, v, u in np.ndindex(*x.shape):
        a, b = matrix[n] @ [u, v, 1]
        if field is not None:
            a, b = a + float(field[n, 0, v, u]), b + float(field[n, 1, v, u])
        out[n, c, v, u] = value_at(x[n, c], a, b, fill)
    return out


def smooth(x, taps):
    """Each place sums the places around it, weighted by two taps; zeros outside."""
    x, taps = float64(x), float64(taps)
    h, w = x.shape[2:]
    radius = len(taps) // 2
    out = np.zeros(x.shape)
    for n, c, v, u in np.ndindex(*x.shape):
        for i, down in enumerate(taps):
            for j, across in enumerate(taps):
                row, column = v + i - radius, u + j - radius
                if 0 <= row < h and 0 <= column < w:
                    out[n, c, v, u] += down * across * x[n, c, row, column]
    return out


def tone(x, gain, offset, boxes, fill):
    x, gain, offset = float64(x), float64(gain), float64(offset)
    out = np.zeros(x.shape)
    for n, c, v, u in np.ndindex(*x.shape):
        top, left, bottom, right = boxes[n]
        inside = top <= v < bottom and left <= u < right
        out[n, c, v, u] = fill if inside else gain[n] * x[n, c, v, u] + offset[n]
    return out
