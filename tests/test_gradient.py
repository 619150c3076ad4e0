"""Finite differences, against derivatives worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.errors import DTypeError
from fastconv.gradient import numerical_gradient, numerical_gradient_2d


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 2, 2), (0,)])
def test_gradient_of_a_cubic_in_any_shape(rng, shape):
    x = np.array(rng.standard_normal(shape))
    before = x.copy()
    gradient = numerical_gradient(lambda x: (x**3).sum(), x)
    # Central differences of a cubic are off by exactly h^2 = 1e-8.
    np.testing.assert_allclose(gradient, 3 * before**2 + 1e-8, atol=1e-10)
    np.testing.assert_array_equal(x, before)


def test_steps_are_of_1e_4_to_both_sides_and_in_place():
    x, seen = np.array([2.0, 5.0]), []

    def f(argument):
        assert argument is x
        seen.append(x.copy())
        return 0.0

    numerical_gradient(f, x)
    expected = [[2.0001, 5], [1.9999, 5], [2, 5.0001], [2, 4.9999]]
    np.testing.assert_allclose(seen, expected, rtol=1e-15)


def test_f_may_ignore_its_argument_and_read_the_array_elsewhere():
    """As the book's networks do: the loss reads the weights through the layers."""
    weights = {"W": np.array([[1.0, -2.0]])}
    gradient = numerical_gradient(lambda _: (weights["W"] ** 2).sum(), weights["W"])
    np.testing.assert_allclose(gradient, [[2, -4]], atol=1e-10)


def test_views_are_changed_where_they_are():
    base = np.arange(6.0)
    gradient = numerical_gradient(lambda _: (base**2).sum(), base[::2])
    np.testing.assert_allclose(gradient, [0, 4, 8], atol=1e-9)
    np.testing.assert_array_equal(base, np.arange(6.0))


def test_the_array_is_put_back_when_f_fails():
    x = np.array([1.0, 2.0])

    def fail(_):
        raise RuntimeError("of the test")

    with pytest.raises(RuntimeError, match="of the test"):
        numerical_gradient(fail, x)
    np.testing.assert_array_equal(x, [1, 2])


@pytest.mark.parametrize("x", [np.array([1, 2]), [1.0, 2.0], 3.0])
def test_only_arrays_of_floats_can_be_moved(x):
    with pytest.raises(DTypeError, match="numerical_gradient: expected an array of floats, got"):
        numerical_gradient(lambda x: 0.0, x)


def test_gradient_2d_takes_each_row_by_itself():
    """f sees one row at a time, as in the book's plots of vector fields."""
    points = np.array([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])

    def f(row):
        assert row.shape == (2,)
        return (row**2).sum()

    np.testing.assert_allclose(numerical_gradient_2d(f, points), 2 * points, atol=1e-9)
    np.testing.assert_allclose(numerical_gradient_2d(f, points[0]), [6, 8], atol=1e-9)
