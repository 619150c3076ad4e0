"""The reference system, stated once more and independently: NumPy, float64, no fastconv.

Layers, DeepConvNet, Adam and the training loop of the book's chapters 7 and 8, as the
contract describes them: every draw from NumPy's global generator, in this order.
`naive` is the oracle of single operations; this one is fast enough for the network.
"""

from __future__ import annotations

import numpy as np

FILTERS = ((16, 1), (16, 1), (32, 1), (32, 2), (64, 1), (64, 1))
"""(number, pad) of the six 3x3 convolutions."""


def windows(x, size, stride, pad):
    """(N, C, OH, OW, size, size): a copy of every window of zero-padded images."""
    n, c, h, w = x.shape
    frame = np.zeros((n, c, h + 2 * pad, w + 2 * pad))
    frame[:, :, pad : pad + h, pad : pad + w] = x
    oh, ow = (h + 2 * pad - size) // stride + 1, (w + 2 * pad - size) // stride + 1
    out = np.empty((n, c, oh, ow, size, size))
    for y in range(oh):
        for z in range(ow):
            top, left = y * stride, z * stride
            out[:, :, y, z] = frame[:, :, top : top + size, left : left + size]
    return out


def put_back(gradients, shape, stride, pad):
    """Adjoint of `windows`."""
    n, c, h, w = shape
    size = gradients.shape[-1]
    frame = np.zeros((n, c, h + 2 * pad, w + 2 * pad))
    for y in range(gradients.shape[2]):
        for z in range(gradients.shape[3]):
            top, left = y * stride, z * stride
            frame[:, :, top : top + size, left : left + size] += gradients[:, :, y, z]
    return frame[:, :, pad : pad + h, pad : pad + w]


class Conv:
    def __init__(self, weight, pad):
        self.values = [weight, np.zeros(len(weight))]
        self.pad = pad

    def forward(self, x, training):
        weight, bias = self.values
        self.shape = x.shape
        self.windows = windows(x, weight.shape[2], 1, self.pad)
        return np.einsum("ncyzij,fcij->nfyz", self.windows, weight, optimize=True) + bias.reshape(
            1, -1, 1, 1
        )

    def backward(self, dout):
        weight, _ = self.values
        dweight = np.einsum("nfyz,ncyzij->fcij", dout, self.windows, optimize=True)
        self.gradients = [dweight, dout.sum(axis=(0, 2, 3))]
        each = np.einsum("nfyz,fcij->ncyzij", dout, weight, optimize=True)
        return put_back(each, self.shape, 1, self.pad)


class Dense:
    def __init__(self, weight):
        self.values = [weight, np.zeros(weight.shape[1])]

    def forward(self, x, training):
        self.shape, self.rows = x.shape, x.reshape(len(x), -1)
        return self.rows @ self.values[0] + self.values[1]

    def backward(self, dout):
        self.gradients = [self.rows.T @ dout, dout.sum(axis=0)]
        return (dout @ self.values[0].T).reshape(self.shape)


class Rectify:
    values = ()

    def forward(self, x, training):
        self.positive = x > 0
        return x * self.positive

    def backward(self, dout):
        return dout * self.positive


class Pool:
    values = ()

    def forward(self, x, training):
        self.shape = x.shape
        places = windows(x, 2, 2, 0)
        rows = places.reshape(*places.shape[:4], 4)
        self.winner = rows.argmax(axis=-1)
        return rows.max(axis=-1)

    def backward(self, dout):
        won = np.arange(4) == self.winner[..., None]
        return put_back((won * dout[..., None]).reshape(*dout.shape, 2, 2), self.shape, 2, 0)


class Drop:
    values = ()

    def forward(self, x, training):
        if not training:
            return x * 0.5
        self.kept = np.random.rand(*x.shape) > 0.5
        return x * self.kept

    def backward(self, dout):
        return dout * self.kept


class ReferenceNet:
    """DeepConvNet for images (1, side, side)."""

    def __init__(self, side=28, filters=FILTERS, hidden=50, classes=10):
        self.layers = []
        channels = 1
        for number, (count, pad) in enumerate(filters):
            weight = np.sqrt(2 / (channels * 9)) * np.random.randn(count, channels, 3, 3)
            self.layers += [Conv(weight, pad), Rectify()]
            channels, side = count, side + 2 * pad - 2
            if number % 2:
                self.layers.append(Pool())
                side //= 2
        features = channels * side * side
        self.layers += [
            Dense(np.sqrt(2 / features) * np.random.randn(features, hidden)),
            Rectify(),
            Drop(),
            Dense(np.sqrt(2 / hidden) * np.random.randn(hidden, classes)),
            Drop(),
        ]

    def named(self, kind):
        """`values` or `gradients` under the names W1, b1, W2, b2, and so on."""
        trained = [layer for layer in self.layers if len(layer.values)]
        return {
            f"{name}{number}": array
            for number, layer in enumerate(trained, start=1)
            for name, array in zip("Wb", getattr(layer, kind), strict=True)
        }

    def scores(self, x, training=False):
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def loss(self, x, t):
        """Mean cross-entropy in training mode; leaves the gradient of the scores behind."""
        scores = self.scores(x, training=True)
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        y = exponentials / exponentials.sum(axis=1, keepdims=True)
        rows = np.arange(len(t))
        self.dscores = y.copy()
        self.dscores[rows, t] -= 1
        self.dscores /= len(t)
        return -np.log(y[rows, t] + 1e-7).mean()

    def gradient(self, x, t):
        self.last_loss = self.loss(x, t)
        dout = self.dscores
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return self.named("gradients")


class ReferenceAdam:
    def __init__(self, lr=0.001):
        self.lr, self.step, self.m, self.v = lr, 0, {}, {}

    def update(self, values, gradients):
        self.step += 1
        lr_t = self.lr * np.sqrt(1 - 0.999**self.step) / (1 - 0.9**self.step)
        for key, g in gradients.items():
            m, v = self.m.get(key, 0 * g), self.v.get(key, 0 * g)
            self.m[key] = m + 0.1 * (g - m)
            self.v[key] = v + 0.001 * (g * g - v)
            values[key] -= lr_t * self.m[key] / (np.sqrt(self.v[key]) + 1e-7)


def train(network, x, t, batch, steps):
    """The original's loop: draw, step, then the loss of a second forward pass."""
    adam, losses = ReferenceAdam(), []
    for _ in range(steps):
        chosen = np.random.choice(len(x), batch)
        gradients = network.gradient(x[chosen], t[chosen])
        adam.update(network.named("values"), gradients)
        losses.append(network.loss(x[chosen], t[chosen]))
    return losses
