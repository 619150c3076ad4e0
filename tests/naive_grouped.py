"""Grouped and dilated convolution in plain loops: see `naive`, whose rules hold here."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .naive import float64, sides, steps, windows_of


def terms(shape, weight, stride, pad, dilation, groups) -> Iterator[tuple[int, ...]]:
    """(f, oy, ox, c, fy, fx, channel, y, x) of each product, with the output that sums it."""
    fn, channels, fh, fw = weight
    (down, across), ((above, _), (before, _)) = steps(stride), sides(pad)
    oh, ow = counted(shape, fh, fw, stride, pad, dilation)
    for f in range(fn):
        group = f * groups // fn
        for oy in range(oh):
            for ox in range(ow):
                for fy in range(fh):
                    for fx in range(fw):
                        y = oy * down + fy * dilation - above
                        x = ox * across + fx * dilation - before
                        if 0 <= y < shape[2] and 0 <= x < shape[3]:
                            for c in range(channels):
                                yield f, oy, ox, c, fy, fx, group * channels + c, y, x


def counted(shape, fh, fw, stride, pad, dilation) -> tuple[int, int]:
    """How many windows there are, down and across."""
    return windows_of(shape, dilation * (fh - 1) + 1, dilation * (fw - 1) + 1, stride, pad)


def conv2d(x, weight, bias, stride=1, pad=0, dilation=1, groups=1):
    x, weight, bias = float64(x), float64(weight), float64(bias)
    _, _, fh, fw = weight.shape
    windows = counted(x.shape, fh, fw, stride, pad, dilation)
    out = np.zeros((len(x), len(bias), *windows)) + bias.reshape(-1, 1, 1)
    each = terms(x.shape, weight.shape, stride, pad, dilation, groups)
    for f, oy, ox, c, fy, fx, channel, row, column in each:
        out[:, f, oy, ox] += x[:, channel, row, column] * weight[f, c, fy, fx]
    return out


def conv2d_gradients(dout, x, weight, stride=1, pad=0, dilation=1, groups=1):
    """(dx, dweight, dbias)."""
    dout, x, weight = float64(dout), float64(x), float64(weight)
    dx, dweight = np.zeros(x.shape), np.zeros(weight.shape)
    each = terms(x.shape, weight.shape, stride, pad, dilation, groups)
    for f, oy, ox, c, fy, fx, channel, row, column in each:
        dx[:, channel, row, column] += dout[:, f, oy, ox] * weight[f, c, fy, fx]
        dweight[f, c, fy, fx] += (dout[:, f, oy, ox] * x[:, channel, row, column]).sum()
    dbias = [dout[:, f].sum() for f in range(len(weight))]
    return dx, dweight, np.array(dbias)
