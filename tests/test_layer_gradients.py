"""Gradients of every layer against finite differences of its own forward pass, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.layers import (
    AdaptiveAveragePooling,
    Affine,
    AveragePooling,
    BatchNormalization,
    BatchNormalization2d,
    Convolution,
    Dropout,
    Elu,
    Gelu,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
    Relu,
    Sigmoid,
    Silu,
    SoftmaxWithLoss,
    Tanh,
)

from . import naive
from .compare import assert_close

pytestmark = pytest.mark.usefixtures("way")


def separate(rng, *shape):
    """Numbers at least 0.01 apart and away from 0, so that no difference changes an order."""
    ranks = rng.permutation(int(np.prod(shape))) + 1
    return (ranks * rng.choice([-1, 1], ranks.size) * 0.01).reshape(shape)


CASES = {
    "Relu": lambda rng, b: (Relu(b), separate(rng, 3, 4)),
    "Sigmoid": lambda rng, b: (Sigmoid(b), rng.standard_normal((3, 4))),
    "Affine": lambda rng, b: (
        Affine(rng.standard_normal((6, 4)), rng.standard_normal(4), b),
        rng.standard_normal((3, 2, 3)),
    ),
    "BatchNormalization": lambda rng, b: (
        BatchNormalization(rng.standard_normal(6), rng.standard_normal(6), backend=b),
        rng.standard_normal((5, 6)),
    ),
    "BatchNormalization of images": lambda rng, b: (
        BatchNormalization(rng.standard_normal(12), rng.standard_normal(12), backend=b),
        rng.standard_normal((5, 3, 2, 2)),
    ),
    "BatchNormalization2d": lambda rng, b: (
        BatchNormalization2d(rng.standard_normal(3), rng.standard_normal(3), backend=b),
        rng.standard_normal((2, 3, 3, 2)),
    ),
    "BatchNormalization2d in evaluation": lambda rng, b: (
        Evaluated(
            BatchNormalization2d(rng.standard_normal(3), rng.standard_normal(3), backend=b), rng
        ),
        rng.standard_normal((2, 3, 3, 2)),
    ),
    "Convolution": lambda rng, b: (
        Convolution(rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(3), 1, 1, b),
        rng.standard_normal((2, 2, 5, 4)),
    ),
    "Convolution with stride": lambda rng, b: (
        Convolution(rng.standard_normal((3, 2, 2, 3)), rng.standard_normal(3), 2, 2, b),
        rng.standard_normal((2, 2, 6, 5)),
    ),
    "Convolution, padded by side": lambda rng, b: (
        Convolution(rng.standard_normal((3, 2, 2, 3)), None, 2, ((0, 1), (2, 0)), b),
        rng.standard_normal((2, 2, 6, 5)),
    ),
    "Convolution with two strides": lambda rng, b: (
        Convolution(rng.standard_normal((3, 2, 3, 2)), rng.standard_normal(3), (2, 1), "same", b),
        rng.standard_normal((2, 2, 6, 5)),
    ),
    "Affine without bias": lambda rng, b: (
        Affine(rng.standard_normal((6, 4)), backend=b),
        rng.standard_normal((3, 2, 3)),
    ),
    "Convolution without bias": lambda rng, b: (
        Convolution(rng.standard_normal((3, 2, 3, 3)), None, 1, 1, b),
        rng.standard_normal((2, 2, 5, 4)),
    ),
    "Convolution, dilated": lambda rng, b: (
        Convolution(rng.standard_normal((3, 2, 3, 2)), None, 1, 2, b, dilation=2),
        rng.standard_normal((2, 2, 5, 6)),
    ),
    "Convolution in groups": lambda rng, b: (
        Convolution(rng.standard_normal((4, 2, 3, 3)), rng.standard_normal(4), 2, 1, b, groups=2),
        rng.standard_normal((2, 4, 5, 4)),
    ),
    "Convolution, depthwise": lambda rng, b: (
        Convolution(rng.standard_normal((3, 1, 3, 3)), rng.standard_normal(3), 1, 1, b, groups=3),
        rng.standard_normal((2, 3, 4, 7)),
    ),
    "Convolution, depthwise with stride": lambda rng, b: (
        Convolution(rng.standard_normal((3, 1, 3, 2)), None, 2, 1, b, dilation=2, groups=3),
        rng.standard_normal((2, 3, 6, 7)),
    ),
    "LeakyRelu": lambda rng, b: (LeakyRelu(0.1, b), separate(rng, 3, 4)),
    "Elu": lambda rng, b: (Elu(0.7, b), separate(rng, 3, 4)),
    "Gelu": lambda rng, b: (Gelu(b), rng.standard_normal((3, 4))),
    "Silu": lambda rng, b: (Silu(b), rng.standard_normal((3, 4))),
    "Tanh": lambda rng, b: (Tanh(b), rng.standard_normal((3, 4))),
    "LocalResponseNormalization": lambda rng, b: (
        LocalResponseNormalization(3, 0.8, 0.75, 1.5, b),
        rng.standard_normal((2, 5, 2, 3)),
    ),
    "Dropout, inverted": lambda rng, b: (
        Seeded(Dropout(0.4, b, inverted=True)),
        rng.standard_normal((3, 4)),
    ),
    "Pooling with two strides, padded by side": lambda rng, b: (
        Pooling(2, 3, (1, 2), ((0, 1), (2, 0)), b),
        separate(rng, 2, 2, 4, 5),
    ),
    "AveragePooling, same": lambda rng, b: (
        AveragePooling(3, 2, (2, 1), "same", backend=b),
        rng.standard_normal((2, 2, 5, 4)),
    ),
    "Pooling": lambda rng, b: (Pooling(2, 2, 2, 0, b), separate(rng, 2, 2, 4, 4)),
    "Pooling that overlaps": lambda rng, b: (Pooling(3, 2, 1, 1, b), separate(rng, 1, 2, 5, 4)),
    "Pooling that overhangs": lambda rng, b: (
        Pooling(2, 3, 2, 1, b, ceil_mode=True),
        separate(rng, 1, 2, 5, 4),
    ),
    "AveragePooling": lambda rng, b: (
        AveragePooling(3, 2, 2, 1, True, False, b),
        rng.standard_normal((2, 3, 6, 5)),
    ),
    "AdaptiveAveragePooling": lambda rng, b: (
        AdaptiveAveragePooling(3, 2, b),
        rng.standard_normal((2, 3, 5, 5)),
    ),
    "Dropout": lambda rng, b: (Seeded(Dropout(0.4, b)), rng.standard_normal((3, 4))),
}


class Seeded:
    """A dropout layer that draws the same mask in each forward."""

    parameter_names = ()

    def __init__(self, layer):
        self.layer = layer
        self.backward = layer.backward

    def forward(self, x):
        np.random.seed(1)
        return self.layer.forward(x)


class Evaluated:
    """A normalisation whose statistics are fixed."""

    parameter_names = ("gamma", "beta")

    def __init__(self, layer, rng):
        self.layer = layer
        layer.running_mean, layer.running_var = rng.standard_normal(3), rng.random(3) + 0.5

    def __getattr__(self, name):
        return getattr(self.layer, name)

    def forward(self, x):
        return self.layer.forward(x, train_flg=False)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_finite_differences(backend, rng, name):
    layer, x = CASES[name](rng, backend)
    direction = rng.standard_normal(layer.forward(x).shape)

    def along() -> float:
        return float((layer.forward(x) * direction).sum())

    layer.forward(x)
    dx = np.array(layer.backward(direction))
    gradients = {key: getattr(layer, "d" + key).copy() for key in layer.parameter_names}
    # Central differences are exact to h^2 = 1e-10 times a third derivative.
    assert_close(dx, naive.numerical_gradient(along, x), tolerance=1e-7)
    for key, gradient in gradients.items():
        expected = naive.numerical_gradient(along, getattr(layer, key))
        assert_close(gradient, expected, tolerance=1e-7)


def test_loss_gradient_is_that_of_finite_differences(backend, rng):
    scores, t = rng.standard_normal((4, 3)), np.array([2, 0, 1, 1])
    layer = SoftmaxWithLoss(backend=backend)
    layer.forward(scores, t)
    got = layer.backward()
    expected = naive.numerical_gradient(lambda: layer.forward(scores, t), scores)
    # The 1e-7 in the logarithm is not in the gradient (y - onehot)/N.
    assert_close(got, expected, tolerance=1e-5)


def test_smoothed_loss_gradient_is_that_of_finite_differences(backend, rng):
    scores, t = 10 * rng.standard_normal((4, 3)), np.array([2, 0, 1, 1])
    layer = SoftmaxWithLoss(backend, label_smoothing=0.1)
    layer.forward(scores, t)
    got = layer.backward()
    expected = naive.numerical_gradient(lambda: layer.forward(scores, t), scores)
    assert_close(got, expected, tolerance=1e-8)
