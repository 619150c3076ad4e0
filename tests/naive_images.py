"""The oracle for layers on images: average pooling, batch normalisation per channel.

A continuation of `naive`: plain loops over float64 that import nothing of fastconv.
"""

from __future__ import annotations

import math

import numpy as np

from .naive import (
    batchnorm_gradients,
    batchnorm_infer,
    batchnorm_train,
    each_window,
    float64,
    sides,
)

# ---- average pooling ----------------------------------------------------------------


def average_terms(shape, fh, fw, stride=1, pad=0, ceil=False, count_padding=True):
    """(oy, ox, y, x, share): the weight of each place (y, x) in the average (oy, ox)."""
    h, w = shape[2:]
    (above, below), (before, behind) = sides(pad)
    for oy, ox, top, left in each_window(shape, fh, fw, stride, pad, ceil):
        places, inside = 0, []
        for y in range(top - above, top - above + fh):
            for x in range(left - before, left - before + fw):
                real = 0 <= y < h and 0 <= x < w
                places += real or (count_padding and y < h + below and x < w + behind)
                inside += [(y, x)] if real else []
        for y, x in inside:
            yield oy, ox, y, x, 1 / places


def adaptive_terms(shape, oh, ow):
    """The same for windows that cover an image evenly."""
    h, w = shape[2:]
    for oy in range(oh):
        for ox in range(ow):
            inside = [
                (y, x)
                for y in range(math.floor(oy * h / oh), math.ceil((oy + 1) * h / oh))
                for x in range(math.floor(ox * w / ow), math.ceil((ox + 1) * w / ow))
            ]
            for y, x in inside:
                yield oy, ox, y, x, 1 / len(inside)


def avgpool2d(x, terms, oh, ow):
    """(N, C, OH, OW), by the terms of its windows."""
    x = float64(x)
    out = np.zeros((*x.shape[:2], oh, ow))
    for oy, ox, y, j, part in terms:
        out[:, :, oy, ox] += part * x[:, :, y, j]
    return out


def avgpool2d_gradient(dout, terms, shape):
    dx, dout = np.zeros(shape), float64(dout)
    for oy, ox, y, j, part in terms:
        dx[:, :, y, j] += part * dout[:, :, oy, ox]
    return dx


# ---- batch normalisation, per channel -----------------------------------------------


def rows_of_channels(images):
    """(N, C, H, W) as (N*H*W, C): a channel's pixels are the samples of an activation."""
    images = float64(images)
    return images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1])


def images_of_rows(rows, shape):
    """Inverse of `rows_of_channels`, to images of this (N, C, H, W) shape."""
    n, c, h, w = shape
    return rows.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def batchnorm2d(x, gamma, beta, epsilon=1e-5, statistics=None):
    """(out, mean, variance), by x's own statistics or by given ones."""
    rows = rows_of_channels(x)
    if statistics is None:
        out, _, mean, variance = batchnorm_train(rows, gamma, beta, epsilon)
    else:
        mean, variance = statistics
        out = batchnorm_infer(rows, gamma, beta, mean, variance, epsilon)
    return images_of_rows(out, np.shape(x)), mean, variance


def add_and_rectify(out, residual, rectified):
    """out + residual, and 0 where that is not above 0, unless it is NaN."""
    out = float64(out)
    for index, value in np.ndenumerate(out):
        if residual is not None:
            value += float(residual[index])
        out[index] = 0.0 if rectified and value <= 0 else value
    return out


def batchnorm2d_gradients(dout, x, gamma, epsilon=1e-5, gate=None):
    """(dx, dgamma, dbeta, g); g is dout where the gate is above 0, else 0."""
    g = float64(dout)
    for index in np.ndindex(*g.shape):
        if gate is not None and not gate[index] > 0:
            g[index] = 0.0
    rows = rows_of_channels(g), rows_of_channels(x)
    dx, dgamma, dbeta = batchnorm_gradients(*rows, gamma, epsilon)
    return images_of_rows(dx, np.shape(x)), dgamma, dbeta, g
