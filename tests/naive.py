"""The oracle: every operation in plain loops over float64, slow and readable.

It imports nothing of fastconv. Each function is written from the definition, not from
another implementation: a window is cut out and multiplied, a maximum is searched place
by place, a gradient is scattered back to where its term came from.

Notation: N images, C channels, H x W pixels; FN filters of FH x FW; OH x OW
windows; D features, M units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np


def float64(array):
    return np.array(array, dtype=np.float64)


# ---- windows ------------------------------------------------------------------------


def windows_along(size: int, window: int, stride: int, pad, ceil: bool = False) -> int:
    """How many windows fit along one axis, counted by sliding one.

    `pad` is (before, after), or one number for both. In ceil mode a window may hang over the end,
    if it begins in the image or before it.
    """
    before, after = pad if isinstance(pad, tuple) else (pad, pad)
    count, start = 0, -before
    while start + window <= size + after:
        count += 1
        start += stride
    overhangs = start - stride + window < size + after and start < size
    return count + (ceil and overhangs)


def steps(stride) -> tuple[int, int]:
    """(down, across) of a stride, which may be one number for both."""
    return stride if isinstance(stride, tuple) else (stride, stride)


def sides(pad) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) of padding, which may be one number for all."""
    return pad if isinstance(pad, tuple) else ((pad, pad), (pad, pad))


def padded(x: np.ndarray, pad) -> np.ndarray:
    n, c, h, w = x.shape
    (top, bottom), (left, right) = sides(pad)
    out = np.zeros((n, c, top + h + bottom, left + w + right))
    inside(out, x.shape, pad)[...] = x
    return out


def inside(images: np.ndarray, shape, pad) -> np.ndarray:
    """The part of padded images that is not padding."""
    (top, _), (left, _) = sides(pad)
    return images[:, :, top : top + shape[2], left : left + shape[3]]


def windows_of(shape, fh, fw, stride, pad, ceil=False) -> tuple[int, int]:
    """How many windows there are, down and across."""
    (down, across), (rows, columns) = steps(stride), sides(pad)
    return (
        windows_along(shape[2], fh, down, rows, ceil),
        windows_along(shape[3], fw, across, columns, ceil),
    )


def each_window(shape, fh, fw, stride, pad, ceil=False) -> Iterator[tuple[int, int, int, int]]:
    """(y, x, top, left): the window's number, and its corner in the padded image."""
    (down, across), (oh, ow) = steps(stride), windows_of(shape, fh, fw, stride, pad, ceil)
    for y in range(oh):
        for x in range(ow):
            yield y, x, y * down, x * across


# ---- columns ------------------------------------------------------------------------


def im2col(x, fh, fw, stride=1, pad=0):
    x = float64(x)
    rows = []
    for image in padded(x, pad):
        for _, _, top, left in each_window(x.shape, fh, fw, stride, pad):
            row = []
            for channel in image:
                for fy in range(fh):
                    for fx in range(fw):
                        row.append(channel[top + fy, left + fx])
            rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(len(rows), x.shape[1] * fh * fw)


def col2im(col, shape, fh, fw, stride=1, pad=0):
    col = float64(col)
    out = padded(np.zeros(shape), pad)
    rows = iter(col)
    for image in out:
        for _, _, top, left in each_window(shape, fh, fw, stride, pad):
            entries = iter(next(rows))
            for channel in image:
                for fy in range(fh):
                    for fx in range(fw):
                        channel[top + fy, left + fx] += next(entries)
    return inside(out, shape, pad)


# ---- convolution --------------------------------------------------------------------


def conv2d(x, weight, bias, stride=1, pad=0):
    x, weight, bias = float64(x), float64(weight), float64(bias)
    fn, _, fh, fw = weight.shape
    out = np.zeros((len(x), fn, *windows_of(x.shape, fh, fw, stride, pad)))
    images = padded(x, pad)
    for oy, ox, top, left in each_window(x.shape, fh, fw, stride, pad):
        patch = images[:, None, :, top : top + fh, left : left + fw]
        out[:, :, oy, ox] = (patch * weight).sum(axis=(2, 3, 4)) + bias
    return out


def conv2d_gradients(dout, x, weight, stride=1, pad=0):
    """(dx, dweight, dbias): each output passes its gradient back to what it was made from."""
    dout, x, weight = float64(dout), float64(x), float64(weight)
    fn, _, fh, fw = weight.shape
    images = padded(x, pad)
    dimages, dweight, dbias = np.zeros(images.shape), np.zeros(weight.shape), np.zeros(fn)
    for oy, ox, top, left in each_window(x.shape, fh, fw, stride, pad):
        patch = images[:, :, top : top + fh, left : left + fw]
        dpatch = dimages[:, :, top : top + fh, left : left + fw]
        gradient = dout[:, :, oy, ox].reshape(-1, fn, 1, 1, 1)
        dpatch += (gradient * weight).sum(axis=1)
        dweight += (gradient * patch[:, None]).sum(axis=0)
        dbias += gradient.sum(axis=(0, 2, 3, 4))
    return inside(dimages, x.shape, pad), dweight, dbias


# ---- max pooling --------------------------------------------------------------------


def maxpool2d(x, fh, fw, stride=1, pad=0, ceil=False):
    """(out, winner): the maximum, and its position fy*fw + fx in the window.

    The first maximum wins, the first NaN before any number; padding never does.
    """
    x = float64(x)
    n, c, h, w = x.shape
    oh, ow = windows_of(x.shape, fh, fw, stride, pad, ceil)
    (above, _), (before, _) = sides(pad)
    out, winner = np.zeros((n, c, oh, ow)), np.zeros((n, c, oh, ow), dtype=int)
    for oy, ox, top, left in each_window(x.shape, fh, fw, stride, pad, ceil):
        best, place = None, np.zeros((n, c), dtype=int)
        for fy in range(fh):
            for fx in range(fw):
                row, column = top - above + fy, left - before + fx
                if not (0 <= row < h and 0 <= column < w):
                    continue
                value = x[:, :, row, column]
                if best is None:
                    best, place[...] = value.copy(), fy * fw + fx
                wins = (value > best) | (np.isnan(value) & ~np.isnan(best))
                best[wins], place[wins] = value[wins], fy * fw + fx
        out[:, :, oy, ox], winner[:, :, oy, ox] = best, place
    return out, winner


def maxpool2d_gradient(dout, winner, shape, fw, stride=1, pad=0):
    dout = float64(dout)
    dx = np.zeros(shape)
    (down, across), ((above, _), (before, _)) = steps(stride), sides(pad)
    for (i, j, oy, ox), gradient in np.ndenumerate(dout):
        fy, fx = divmod(int(winner[i, j, oy, ox]), fw)
        dx[i, j, oy * down + fy - above, ox * across + fx - before] += gradient
    return dx


# ---- fully connected ----------------------------------------------------------------


def affine(x, weight, bias):
    x, weight, bias = float64(x), float64(weight), float64(bias)
    out = np.zeros((len(x), weight.shape[1]))
    for n in range(len(x)):
        for m in range(weight.shape[1]):
            out[n, m] = (x[n] * weight[:, m]).sum() + bias[m]
    return out


def affine_gradients(dout, x, weight):
    """(dx, dweight, dbias)."""
    dout, x, weight = float64(dout), float64(x), float64(weight)
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(weight.shape[1])
    for (n, m), gradient in np.ndenumerate(dout):
        dx[n] += gradient * weight[:, m]
        dweight[:, m] += gradient * x[n]
        dbias[m] += gradient
    return dx, dweight, dbias


# ---- elementwise --------------------------------------------------------------------


def relu(x):
    """(out, mask): mask is 1 where x > 0; NaN passes, and gets no gradient."""
    x = float64(x)
    out, mask = np.zeros(x.shape), np.zeros(x.shape, dtype=int)
    for index, value in np.ndenumerate(x):
        out[index] = value if value > 0 or math.isnan(value) else 0.0
        mask[index] = 1 if value > 0 else 0
    return out, mask


def sigmoid(x):
    out = float64(x)
    for index, value in np.ndenumerate(out):
        out[index] = 1 / (1 + math.exp(-value))
    return out


# ---- batch normalisation, per activation --------------------------------------------


def batchnorm_train(x, gamma, beta, epsilon=1e-6):
    """(out, normalized, mean, variance) over axis 0 of x (N, D)."""
    x, gamma, beta = float64(x), float64(gamma), float64(beta)
    n, d = x.shape
    mean, variance = np.zeros(d), np.zeros(d)
    normalized, out = np.zeros(x.shape), np.zeros(x.shape)
    for j in range(d):
        mean[j] = sum(x[:, j]) / n
        variance[j] = sum((value - mean[j]) ** 2 for value in x[:, j]) / n
        for i in range(n):
            normalized[i, j] = (x[i, j] - mean[j]) / math.sqrt(variance[j] + epsilon)
            out[i, j] = gamma[j] * normalized[i, j] + beta[j]
    return out, normalized, mean, variance


def batchnorm_infer(x, gamma, beta, mean, variance, epsilon=1e-6):
    x = float64(x)
    out = np.zeros(x.shape)
    for (i, j), value in np.ndenumerate(x):
        out[i, j] = gamma[j] * (value - mean[j]) / math.sqrt(variance[j] + epsilon) + beta[j]
    return out


def batchnorm_gradients(dout, x, gamma, epsilon=1e-6):
    """(dx, dgamma, dbeta), by the chain rule through the variance and the mean in turn."""
    dout, x, gamma = float64(dout), float64(x), float64(gamma)
    n, d = x.shape
    _, normalized, mean, variance = batchnorm_train(x, gamma, np.zeros(d), epsilon)
    dx, dgamma, dbeta = np.zeros(x.shape), np.zeros(d), np.zeros(d)
    for j in range(d):
        deviation = math.sqrt(variance[j] + epsilon)
        centred = x[:, j] - mean[j]
        dnormalized = gamma[j] * dout[:, j]
        dvariance = sum(dnormalized * centred) * -0.5 * deviation**-3
        dmean = -sum(dnormalized) / deviation + dvariance * -2 * sum(centred) / n
        dx[:, j] = dnormalized / deviation + dvariance * 2 * centred / n + dmean / n
        dgamma[j] = sum(dout[:, j] * normalized[:, j])
        dbeta[j] = sum(dout[:, j])
    return dx, dgamma, dbeta


# ---- softmax with cross-entropy -----------------------------------------------------


def softmax(x):
    """Over the last axis, for 1-D and 2-D input."""
    x = float64(x)
    if x.ndim == 1:
        largest = max(x)
        exponentials = [math.exp(value - largest) for value in x]
        return np.array(exponentials) / sum(exponentials)
    return np.array([softmax(row) for row in x]).reshape(x.shape)


def cross_entropy(y, labels):
    """Mean of -log(y[label] + 1e-7) over the rows of y (N, M)."""
    return sum(-math.log(row[label] + 1e-7) for row, label in zip(y, labels, strict=True)) / len(y)


def smoothed_cross_entropy(scores, labels, smoothing):
    """Mean of -sum(q * log(p)), where q spreads a share of the label over all classes equally."""
    loss = 0.0
    for row, label in zip(float64(scores), labels, strict=True):
        largest = max(row)
        log_total = math.log(sum(math.exp(value - largest) for value in row))
        for j, value in enumerate(row):
            q = smoothing / len(row) + (1 - smoothing if j == label else 0)
            loss -= q * (value - largest - log_total)
    return loss / len(scores)


def softmax_cross_entropy_gradient(y, labels, scale, smoothing=0.0):
    out = float64(y)
    for row, label in zip(out, labels, strict=True):
        for j in range(len(row)):
            row[j] -= smoothing / len(row) + (1 - smoothing if j == label else 0)
    return out * scale


# ---- optimizers, one number at a time -----------------------------------------------


def sgd(p, g, state, lr=0.01):
    return p - lr * g


def momentum(p, g, state, lr=0.01, momentum=0.9):
    state["v"] = momentum * state.get("v", 0.0) - lr * g
    return p + state["v"]


def nesterov(p, g, state, lr=0.01, momentum=0.9):
    old = state.get("v", 0.0)
    state["v"] = momentum * old - lr * g
    return p + momentum * momentum * old - (1 + momentum) * lr * g


def adagrad(p, g, state, lr=0.01):
    state["h"] = state.get("h", 0.0) + g * g
    return p - lr * g / (math.sqrt(state["h"]) + 1e-7)


def rmsprop(p, g, state, lr=0.01, decay_rate=0.99):
    state["h"] = decay_rate * state.get("h", 0.0) + (1 - decay_rate) * g * g
    return p - lr * g / (math.sqrt(state["h"]) + 1e-7)


def adam_step(p, g, state, lr, beta1, beta2, epsilon):
    """Adam's step with a learning rate that is already corrected for bias."""
    state["m"] += (1 - beta1) * (g - state["m"])
    state["v"] += (1 - beta2) * (g * g - state["v"])
    return p - lr * state["m"] / (math.sqrt(state["v"]) + epsilon)


def adam(p, g, state, lr=0.001, beta1=0.9, beta2=0.999):
    t = state["t"] = state.get("t", 0) + 1
    state.setdefault("m", 0.0)
    state.setdefault("v", 0.0)
    lr_t = lr * math.sqrt(1 - beta2**t) / (1 - beta1**t)
    return adam_step(p, g, state, lr_t, beta1, beta2, 1e-7)


def adamw(p, g, state, lr=0.001, beta1=0.9, beta2=0.999, weight_decay=0.01, eps=1e-8):
    t = state["t"] = state.get("t", 0) + 1
    state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
    state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g * g
    first, second = state["m"] / (1 - beta1**t), state["v"] / (1 - beta2**t)
    return p - lr * weight_decay * p - lr * first / (math.sqrt(second) + eps)


# ---- gradients by finite differences ------------------------------------------------


def numerical_gradient(f: Callable[[], float], x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """Central differences of f, which reads the float64 array x, at every element of x."""
    gradient = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        value = x[index]
        x[index] = value + h
        above = f()
        x[index] = value - h
        below = f()
        x[index] = value
        gradient[index] = (above - below) / (2 * h)
    return gradient
