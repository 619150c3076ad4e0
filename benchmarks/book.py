"""The book's own code: DeepConvNet in NumPy, float64, for timing against.

What a reader of the book has: the whole column matrix, unfolded by one strided slice copy
for each place of the window, `np.dot`, and a second copy back. Nothing is slower than it
is there, nothing faster. `tests/reference_net.py` is another statement of the same
network, an oracle made to be clear; this one is made to take the time that the book's takes.

Notation: N images, C channels, H x W pixels; FN filters; OH x OW windows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["BookAdam", "BookNet"]

Array = np.ndarray


def im2col(images: Array, size: int, stride: int, pad: int) -> Array:
    """(N, C, H, W) unfolded to (N*OH*OW, C*size*size)."""
    n, c, h, w = images.shape
    oh, ow = (h + 2 * pad - size) // stride + 1, (w + 2 * pad - size) // stride + 1
    padded = np.pad(images, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    col = np.zeros((n, c, size, size, oh, ow))
    for fy in range(size):
        for fx in range(size):
            col[:, :, fy, fx] = padded[
                :, :, fy : fy + stride * oh : stride, fx : fx + stride * ow : stride
            ]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(n * oh * ow, -1)


def col2im(col: Array, shape: tuple[int, ...], size: int, stride: int, pad: int) -> Array:
    """The adjoint of `im2col`, for images (N, C, H, W) of this shape."""
    n, c, h, w = shape
    oh, ow = (h + 2 * pad - size) // stride + 1, (w + 2 * pad - size) // stride + 1
    places = col.reshape(n, oh, ow, c, size, size).transpose(0, 3, 4, 5, 1, 2)
    padded = np.zeros((n, c, h + 2 * pad + stride - 1, w + 2 * pad + stride - 1))
    for fy in range(size):
        for fx in range(size):
            padded[:, :, fy : fy + stride * oh : stride, fx : fx + stride * ow : stride] += places[
                :, :, fy, fx
            ]
    return padded[:, :, pad : h + pad, pad : w + pad]


class Convolution:
    def __init__(self, weight: Array, bias: Array, pad: int) -> None:
        self.weight, self.bias, self.pad = weight, bias, pad

    def forward(self, x: Array) -> Array:
        filters, _, size, _ = self.weight.shape
        n, _, h, w = x.shape
        oh, ow = h + 2 * self.pad - size + 1, w + 2 * self.pad - size + 1
        self.shape = x.shape
        self.col = im2col(x, size, 1, self.pad)
        out = np.dot(self.col, self.weight.reshape(filters, -1).T) + self.bias
        return out.reshape(n, oh, ow, filters).transpose(0, 3, 1, 2)

    def backward(self, dout: Array) -> Array:
        filters, _, size, _ = self.weight.shape
        rows = dout.transpose(0, 2, 3, 1).reshape(-1, filters)
        self.dbias = np.sum(rows, axis=0)
        self.dweight = np.dot(self.col.T, rows).T.reshape(self.weight.shape)
        dcol = np.dot(rows, self.weight.reshape(filters, -1))
        return col2im(dcol, self.shape, size, 1, self.pad)


class Affine:
    def __init__(self, weight: Array, bias: Array) -> None:
        self.weight, self.bias = weight, bias

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        self.rows = x.reshape(len(x), -1)
        return np.dot(self.rows, self.weight) + self.bias

    def backward(self, dout: Array) -> Array:
        self.dweight, self.dbias = np.dot(self.rows.T, dout), np.sum(dout, axis=0)
        return np.dot(dout, self.weight.T).reshape(self.shape)


class Relu:
    def forward(self, x: Array) -> Array:
        self.stopped = x <= 0
        out = x.copy()
        out[self.stopped] = 0
        return out

    def backward(self, dout: Array) -> Array:
        dout[self.stopped] = 0
        return dout


class Pooling:
    """2x2, stride 2."""

    def forward(self, x: Array) -> Array:
        n, c, h, w = x.shape
        self.shape = x.shape
        rows = im2col(x, 2, 2, 0).reshape(-1, 4)
        self.winner = np.argmax(rows, axis=1)
        return np.max(rows, axis=1).reshape(n, h // 2, w // 2, c).transpose(0, 3, 1, 2)

    def backward(self, dout: Array) -> Array:
        gradient = dout.transpose(0, 2, 3, 1)
        rows = np.zeros((gradient.size, 4))
        rows[np.arange(gradient.size), self.winner] = gradient.flatten()
        return col2im(rows.reshape(gradient.size // dout.shape[1], -1), self.shape, 2, 2, 0)


class Dropout:
    """Half is dropped; what is kept is not rescaled."""

    def forward(self, x: Array, training: bool) -> Array:
        if not training:
            return x * 0.5
        self.mask = np.random.rand(*x.shape) > 0.5
        return x * self.mask

    def backward(self, dout: Array) -> Array:
        return dout * self.mask


class BookNet:
    """DeepConvNet with given parameters.

    Parameters
    ----------
    params : dict of str to array
        ``W1 b1 ... W8 b8`` of a `fastconv.DeepConvNet`; float64 copies are kept in `params`.
    """

    def __init__(self, params: dict[str, Array]) -> None:
        self.params = {key: value.astype(np.float64) for key, value in params.items()}
        p = self.params
        self.layers: list[Any] = []
        for number in range(1, 7):
            pad = 2 if number == 4 else 1
            self.layers += [Convolution(p[f"W{number}"], p[f"b{number}"], pad), Relu()]
            if number % 2 == 0:
                self.layers.append(Pooling())
        self.layers += [Affine(p["W7"], p["b7"]), Relu(), Dropout()]
        self.layers += [Affine(p["W8"], p["b8"]), Dropout()]

    def predict(self, x: Array, training: bool = False) -> Array:
        """Return scores (N, classes)."""
        for layer in self.layers:
            x = layer.forward(x, training) if isinstance(layer, Dropout) else layer.forward(x)
        return x

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        """Return the gradients of the mean cross-entropy under the names of `params`."""
        scores = self.predict(x, training=True)
        y = np.exp(scores - np.max(scores, axis=1, keepdims=True))
        y /= np.sum(y, axis=1, keepdims=True)
        rows = np.arange(len(t))
        self.loss = -np.sum(np.log(y[rows, t] + 1e-7)) / len(t)
        dout = y.copy()
        dout[rows, t] -= 1
        dout /= len(t)
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        trained = [layer for layer in self.layers if hasattr(layer, "weight")]
        return {
            name: gradient
            for number, layer in enumerate(trained, start=1)
            for name, gradient in ((f"W{number}", layer.dweight), (f"b{number}", layer.dbias))
        }


class BookAdam:
    """Adam, in place."""

    def __init__(self, lr: float = 0.001) -> None:
        self.lr, self.steps = lr, 0
        self.m: dict[str, Array] = {}
        self.v: dict[str, Array] = {}

    def update(self, params: dict[str, Array], gradients: dict[str, Array]) -> None:
        """Take one step."""
        if not self.m:
            self.m = {key: np.zeros_like(value) for key, value in params.items()}
            self.v = {key: np.zeros_like(value) for key, value in params.items()}
        self.steps += 1
        lr = self.lr * np.sqrt(1.0 - 0.999**self.steps) / (1.0 - 0.9**self.steps)
        for key in params:
            self.m[key] += 0.1 * (gradients[key] - self.m[key])
            self.v[key] += 0.001 * (gradients[key] ** 2 - self.v[key])
            params[key] -= lr * self.m[key] / (np.sqrt(self.v[key]) + 1e-7)
