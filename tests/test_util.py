"""The book's helpers around convolution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given

import fastconv
from fastconv.errors import ShapeError
from fastconv.util import col2im, conv_output_size, im2col, shuffle_dataset, smooth_curve

from . import naive
from .compare import assert_close
from .geometries import FEW_CHANNELS, SEEDS, geometries, moved, numbers


@given(geometries(FEW_CHANNELS, one_stride=False), SEEDS)
def test_im2col_and_its_adjoint(backend, dtype, g, seed):
    """<im2col(x), col> = <x, col2im(col)>, and both are those of the definition."""
    draw = numbers(seed, dtype)
    x, col = draw(*g.input_shape), draw(*g.column_shape)
    window = (g.fh, g.fw, *moved(g))
    with fastconv.use_backend(backend):
        unfolded = im2col(x, *window)
        folded = col2im(col, g.input_shape, *window)
    assert unfolded.dtype == dtype
    np.testing.assert_array_equal(unfolded, naive.im2col(x, *window))
    assert_close(folded, naive.col2im(col, g.input_shape, *window), dtype=dtype)


def test_im2col_of_the_books_example(backend):
    with fastconv.use_backend(backend):
        assert im2col(np.ones((1, 3, 7, 7)), 5, 5).shape == (9, 75)
        assert im2col(np.ones((10, 3, 7, 7)), 5, 5, stride=1, pad=0).shape == (90, 75)


def test_columns_are_in_the_books_order(backend):
    """Rows n, y, x; columns c, fy, fx."""
    x = np.arange(2 * 2 * 3 * 3.0).reshape(2, 2, 3, 3)
    with fastconv.use_backend(backend):
        col = im2col(x, 2, 2)
    np.testing.assert_array_equal(col[1], [1, 2, 4, 5, 10, 11, 13, 14])
    np.testing.assert_array_equal(col[4], [18, 19, 21, 22, 27, 28, 30, 31])


def test_places_that_no_window_reaches_get_nothing(backend, dtype):
    with fastconv.use_backend(backend):
        x = col2im(np.ones((4, 1), dtype), (1, 1, 4, 4), 1, 1, stride=2)
    np.testing.assert_array_equal(x[0, 0, ::2, ::2], np.ones((2, 2)))
    assert x.sum() == 4


@pytest.mark.parametrize(
    ("arguments", "size"),
    [((28, 3), 26), ((28, 3, 1, 1), 28), ((7, 3, 2), 3), ((8, 3, 2), 3.5), ((28, 5, 3, 2), 10)],
)
def test_conv_output_size_is_not_rounded(arguments, size):
    out = conv_output_size(*arguments)
    assert isinstance(out, float)
    assert out == size


def kaiser(k: int) -> float:
    """Kaiser window of length 11 and beta 2 at place k, by the series of the Bessel function."""

    def bessel(x: float) -> float:
        return sum((x / 2) ** (2 * i) / math.factorial(i) ** 2 for i in range(30))

    return bessel(2 * math.sqrt(1 - ((k - 5) / 5) ** 2)) / bessel(2)


@pytest.mark.parametrize("n", [11, 12, 40])
def test_smooth_curve(rng, n):
    x = rng.standard_normal(n)
    total = sum(kaiser(k) for k in range(11))
    expected = []
    for i in range(n):
        value = 0.0
        for k in range(11):
            place = i + k - 5
            if place < 0:
                place = -place  # reflected without the first value
            if place >= n:
                place = 2 * n - 1 - place  # reflected with the last
            value += kaiser(k) / total * x[place]
        expected.append(value)
    assert_close(smooth_curve(x), expected)
    assert_close(smooth_curve(list(x)), expected)


@pytest.mark.parametrize("n", [0, 1, 2, 5, 10])
def test_smooth_curve_of_few_values_has_their_number(n):
    np.testing.assert_allclose(smooth_curve(np.full(n, 3.0)), np.full(n, 3.0), rtol=1e-12)


def test_smooth_curve_takes_one_axis():
    with pytest.raises(ShapeError, match=r"smooth_curve: .*\(2, 3\)"):
        smooth_curve(np.ones((2, 3)))


@pytest.mark.parametrize("shape", [(20, 3), (20, 1, 2, 2)])
def test_shuffle_dataset_draws_one_permutation_from_the_global_generator(shape):
    x = np.arange(math.prod(shape)).reshape(shape)
    t = np.arange(20)
    np.random.seed(3)
    order = np.random.permutation(20)
    after = np.random.rand()
    np.random.seed(3)
    shuffled_x, shuffled_t = shuffle_dataset(x, t)
    assert np.random.rand() == after
    np.testing.assert_array_equal(shuffled_x, x[order])
    np.testing.assert_array_equal(shuffled_t, t[order])


def test_shuffle_dataset_wants_as_many_labels_as_samples():
    with pytest.raises(ShapeError, match="shuffle_dataset: 3 samples but 2 labels"):
        shuffle_dataset(np.ones((3, 2)), np.ones(2))
