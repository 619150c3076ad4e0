"""The book's functions, against the loops of `naive` and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastconv import functions
from fastconv.errors import DTypeError, LabelError, ShapeError
from fastconv.functions import (
    cross_entropy_error,
    identity_function,
    mean_squared_error,
    relu,
    relu_grad,
    sigmoid,
    sigmoid_grad,
    softmax,
    softmax_loss,
    step_function,
    sum_squared_error,
)

from . import naive
from .compare import assert_close

pytestmark = pytest.mark.usefixtures("way")


def test_identity_function_returns_its_argument():
    x = np.ones(3)
    assert identity_function(x) is x


def test_step_function():
    out = step_function(np.array([[-1.0, 0.0], [1e-9, np.nan]]))
    assert out.dtype.kind == "i"
    np.testing.assert_array_equal(out, [[0, 0], [1, 0]])


def test_sigmoid(rng, dtype):
    x = (4 * rng.standard_normal((3, 4))).astype(dtype)
    expected = naive.sigmoid(x)
    assert_close(sigmoid(x), expected, dtype=dtype)
    assert_close(sigmoid_grad(x), expected * (1 - expected), dtype=dtype)


def test_sigmoid_of_large_numbers_does_not_overflow(dtype):
    out = sigmoid(np.array([-1e4, 0, 1e4, -np.inf, np.inf], dtype))
    np.testing.assert_array_equal(out, [0, 0.5, 1, 0, 1])


@pytest.mark.parametrize(
    "x",
    [
        *[0.5, -3.0, 0, 2, -1000, True, -90.0, 1e4, math.inf, -math.inf, math.nan],
        *[np.float64(-0.25), np.float64(-800), np.float32(0.25), np.float32(-90), np.int64(3)],
    ],
    ids=lambda x: f"{type(x).__name__} {x}",
)
def test_single_numbers(x):
    exact, dtype = float(x), np.float32 if isinstance(x, np.float32) else np.float64
    overflows = -exact > math.log(np.finfo(dtype).max)
    expected = 0.0 if overflows else 1 / (1 + math.exp(-exact))
    out = sigmoid(x)
    assert out.dtype == dtype
    assert_close(np.asarray(out), np.asarray(expected), dtype=dtype)
    np.testing.assert_array_equal(relu(x), exact if exact > 0 or math.isnan(exact) else 0)
    assert step_function(x) == (1 if exact > 0 else 0)
    assert step_function(x).dtype.kind == "i"


def test_whole_numbers_larger_than_any_float_are_refused_by_sigmoid():
    assert sigmoid(10**300) == 1
    with pytest.raises(DTypeError, match=r"sigmoid: .*object"):
        sigmoid(10**400)


def test_relu(dtype):
    out = relu(np.array([-2, -0.0, 3, np.nan], dtype))
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, [0, 0, 3, np.nan])


def test_relu_grad_works_on_arrays_and_is_one_at_zero(dtype):
    x = np.array([[-2, -0.0], [0, 3]], dtype)
    out = relu_grad(x)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, [[0, 1], [1, 1]])
    np.testing.assert_array_equal(x, [[-2, 0], [0, 3]])


@pytest.mark.parametrize("shape", [(5,), (4, 5), (1, 1), (0, 3)])
def test_softmax(rng, dtype, shape):
    x = rng.standard_normal(shape).astype(dtype)
    out = softmax(x)
    assert_close(out, naive.softmax(x), dtype=dtype)


def test_softmax_of_large_scores_does_not_overflow(dtype):
    out = softmax(np.array([1e4, 1e4 - 1, -1e4], dtype))
    e = math.e
    assert_close(out, [e / (1 + e), 1 / (1 + e), 0], dtype=dtype)


def test_softmax_of_integers_is_float64():
    assert_close(softmax(np.array([1, 1])), [0.5, 0.5], dtype=np.float64)


def test_softmax_of_a_number_says_what_it_wants():
    with pytest.raises(ShapeError, match="softmax: expected at least one axis"):
        softmax(3.0)


def test_squared_errors(rng, dtype):
    y, t = rng.standard_normal((2, 3, 4)).astype(dtype)
    expected = 0.5 * sum((a - b) ** 2 for a, b in zip(y.flat, t.flat, strict=True))
    for function in (sum_squared_error, mean_squared_error):
        assert function(y, t) == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_error_of_the_books_example():
    y = [0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0]
    one_hot = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    for t in (one_hot, [2], 2):
        assert cross_entropy_error(np.array(y), np.array(t)) == -math.log(0.6 + 1e-7)


def test_cross_entropy_error_of_a_batch(rng, dtype):
    y = naive.softmax(rng.standard_normal((6, 5))).astype(dtype)
    labels = np.array([4, 0, 2, 2, 1, 3])
    expected = naive.cross_entropy(y, labels)
    for t in (labels, labels.astype(np.uint8), np.eye(5)[labels]):
        assert cross_entropy_error(y, t) == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_error_of_probability_zero_is_finite():
    y = np.array([[1.0, 0.0]])
    assert cross_entropy_error(y, np.array([1])) == pytest.approx(-math.log(1e-7))


def test_softmax_loss(rng):
    scores, labels = rng.standard_normal((6, 5)), np.array([4, 0, 2, 2, 1, 3])
    expected = naive.cross_entropy(naive.softmax(scores), labels)
    assert softmax_loss(scores, labels) == pytest.approx(expected, rel=1e-12)
    assert softmax_loss(scores, np.eye(5)[labels]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("t", "message"),
    [
        ([0, 3], "labels must be 0 to 2 for 3 classes, got 0 to 3"),
        ([-1, 0], "got -1 to 0"),
        ([0.5, 1], "whole numbers"),
        ([0, 1, 2, 0], r"\(4,\), expected \(2,\)"),
        ([[1, 0], [0, 1]], r"\(2, 2\), expected \(2,\) .* or \(2, 3\)"),
    ],
)
def test_bad_labels_are_told(t, message):
    with pytest.raises(LabelError, match=f"cross_entropy_error: .*{message}"):
        cross_entropy_error(np.full((2, 3), 1 / 3), np.array(t))


@pytest.mark.parametrize("name", ["sigmoid", "softmax", "sum_squared_error"])
def test_object_arrays_are_refused(name):
    x = np.array([object()])
    arguments = (x, x) if name == "sum_squared_error" else (x,)
    with pytest.raises(DTypeError, match=f"{name}: .*object"):
        getattr(functions, name)(*arguments)
