"""Arrays of other libraries: through ``__array__``, or ``__dlpack__``, on their own memory."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.errors import DTypeError
from fastconv.layers import (
    Affine,
    BatchNormalization,
    Convolution,
    Dropout,
    Pooling,
    Relu,
    Sigmoid,
    SoftmaxWithLoss,
)
from fastconv.network import Network
from fastconv.ops.arrays import as_array


class ByArray:
    """An array that only has ``__array__``."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype, copy=copy)


class ByDlpack:
    """An array that only has ``__dlpack__``."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def tensor(values):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    return torch.from_numpy(values)


def parameter(values):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    return torch.nn.Parameter(torch.from_numpy(values))


FOREIGN = pytest.mark.parametrize("foreign", [ByArray, ByDlpack, tensor, parameter])


def layers_and_inputs(rng):
    def draw(*shape):
        return rng.standard_normal(shape)

    images = draw(2, 3, 6, 6)
    return [
        (lambda f: Convolution(f(draw(4, 3, 3, 3)), f(draw(4)), pad=1), images),
        (lambda f: Pooling(2, 2, 2), images),
        (lambda f: Relu(), images),
        (lambda f: Affine(f(draw(108, 5)), f(draw(5))), images),
        (lambda f: Sigmoid(), images),
        (lambda f: BatchNormalization(f(draw(108)), f(draw(108))), images),
        (lambda f: Dropout(0.0), images),
    ]


@FOREIGN
@pytest.mark.parametrize("number", range(7))
def test_layers_take_them_and_give_numpy_arrays(foreign, number):
    def run(wrap):
        rng = np.random.default_rng(number)
        make, x = layers_and_inputs(rng)[number]
        np.random.seed(number)
        layer = make(wrap)
        out = layer.forward(wrap(x))
        dx = layer.backward(wrap(np.ascontiguousarray(rng.standard_normal(out.shape))))
        gradients = [getattr(layer, "d" + name) for name in layer.parameter_names]
        return [out, dx, *gradients]

    for actual, expected in zip(run(foreign), run(np.asarray), strict=True):
        assert type(actual) is np.ndarray
        np.testing.assert_array_equal(actual, expected)


@FOREIGN
def test_loss_and_network(foreign, rng):
    x, t = rng.standard_normal((4, 3)), np.array([0, 2, 1, 1])
    weight = rng.standard_normal((3, 3))
    network = Network([Affine(weight, np.zeros(3))], dtype="float64")
    expected = network.gradient(x, t)
    gradients = network.gradient(foreign(x), ByArray(t))
    for key, value in expected.items():
        np.testing.assert_array_equal(gradients[key], value)
    assert network.accuracy(foreign(x), ByDlpack(t)) == network.accuracy(x, t)
    assert SoftmaxWithLoss().forward(foreign(x), t) == SoftmaxWithLoss().forward(x, t)


@FOREIGN
def test_memory_is_shared(foreign):
    values = np.arange(6.0).reshape(2, 3)
    wrapped = foreign(values)
    assert np.shares_memory(as_array(wrapped), values)
    assert as_array(values) is values


def test_a_tensor_that_numpy_has_no_dtype_for():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with pytest.raises(TypeError):
        Relu().forward(torch.ones(3, dtype=torch.bfloat16))


def test_an_object_that_is_no_array():
    with pytest.raises(DTypeError, match="relu: expected real numbers"):
        Relu().forward(object())
