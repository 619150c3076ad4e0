"""What readers' scripts use of the book's layers: attributes, and arguments that broadcast.

Expectations are the book's formulas, written out in NumPy.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest

from fastconv.errors import ShapeError
from fastconv.layers import Affine, BatchNormalization, Convolution, SoftmaxWithLoss

from . import naive
from .compare import assert_close


def test_columns_of_a_convolution(backend, dtype, rng):
    x, w = (rng.standard_normal(s).astype(dtype) for s in ((2, 3, 6, 5), (4, 3, 3, 2)))
    layer = Convolution(w, np.zeros(4, dtype), 2, 1, backend=backend)
    assert layer.col is None and layer.col_W is None
    out = layer.forward(x)
    np.testing.assert_array_equal(layer.col, naive.im2col(x, 3, 2, 2, 1))
    np.testing.assert_array_equal(layer.col_W, w.reshape(4, -1).T)
    n, _, h, width = out.shape
    product = (layer.col @ layer.col_W).reshape(n, h, width, 4).transpose(0, 3, 1, 2)
    assert_close(out, product)
    layer.forward(2 * x)
    np.testing.assert_array_equal(layer.col, 2 * naive.im2col(x, 3, 2, 2, 1))
    assert copy.deepcopy(layer).col is not None
    layer.forget()
    assert layer.col is None


def test_a_dilated_convolution_has_no_columns(rng):
    layer = Convolution(rng.standard_normal((2, 1, 3, 3)), dilation=2)
    layer.forward(np.ones((1, 1, 8, 8)))
    assert layer.col is None and layer.col_W is None


def test_a_reader_may_set_them():
    class Own(Convolution):
        def forward(self, x):
            self.col = "mine"
            return super().forward(x)

    class Norm(BatchNormalization):
        def forward(self, x, train_flg=True):
            self.xn, self.batch_size = x / 2, len(x)
            return self.xn

    layer = Own(np.ones((1, 1, 3, 3)), 0)
    layer.forward(np.ones((1, 1, 4, 4)))
    assert layer.col == "mine"
    norm = Norm(np.ones(2), np.zeros(2))
    norm.forward(np.ones((3, 2)))
    assert norm.batch_size == 3 and (norm.xn == 0.5).all()


def test_what_batch_normalisation_kept(backend, dtype, rng):
    x = rng.standard_normal((7, 5)).astype(dtype)
    layer = BatchNormalization(np.ones(5, dtype), np.zeros(5, dtype), backend=backend)
    assert layer.xc is layer.xn is layer.std is layer.batch_size is None
    layer.forward(x)
    centred = x - x.mean(axis=0)
    std = np.sqrt((centred**2).mean(axis=0) + 10e-7)
    assert_close(layer.xc, centred)
    assert_close(layer.std, std)
    assert_close(layer.xn, centred / std)
    assert layer.batch_size == 7


BIASES = {"0": 0, "0.5": 0.5, "array": np.array(0.25), "one": np.array([2.0]), "row": "row"}


@pytest.mark.parametrize("b", BIASES.values(), ids=BIASES)
def test_biases_that_broadcast(backend, dtype, rng, b):
    if isinstance(b, str):
        b = rng.standard_normal((1, 4)).astype(dtype)
    x, w = (rng.standard_normal(s).astype(dtype) for s in ((3, 6), (6, 4)))
    layer = Affine(w, b, backend=backend)
    out = layer.forward(x)
    assert_close(out, x.astype(np.float64) @ w + b)
    layer.backward(np.ones((3, 4), dtype))
    np.testing.assert_array_equal(layer.db, 3)
    if not isinstance(b, np.ndarray):
        assert out.dtype == dtype  # a number of Python's does not widen

    images, filters = (rng.standard_normal(s).astype(dtype) for s in ((2, 1, 4, 4), (4, 1, 3, 3)))
    conv = Convolution(filters, b, backend=backend)
    expected = naive.conv2d(images, filters, np.zeros(4))
    expected = expected + np.broadcast_to(b, (1, 4)).reshape(1, 4, 1, 1)
    assert_close(conv.forward(images), expected)


def test_other_biases_are_refused():
    for b in (np.ones(3), np.ones((4, 1)), np.ones((2, 2))):
        with pytest.raises(ShapeError, match="bias has shape"):
            Affine(np.ones((2, 4)), b).forward(np.ones((1, 2)))


@pytest.mark.parametrize("t", [np.array([0, 0, 1, 0]), np.array(2), np.array([2])])
def test_the_scores_of_one_sample(backend, rng, t):
    x = rng.standard_normal(4)
    layer = SoftmaxWithLoss(backend)
    y = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
    assert layer.forward(x, t) == pytest.approx(-np.log(y[2] + 1e-7), rel=1e-9)
    np.testing.assert_allclose(layer.y, y, rtol=1e-12)
    # The book divides by t.shape[0]: 4 for a one-hot row, 1 for an index in an array.
    divisor = 4 if t.size == 4 else 1
    np.testing.assert_allclose(layer.backward(), (y - np.eye(4)[2]) / divisor, rtol=1e-9)
    assert layer.forward(np.stack([x, x]), [2, 2]) == pytest.approx(-np.log(y[2] + 1e-7))
    assert layer.backward().shape == (2, 4)
