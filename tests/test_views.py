"""Views: what each of them shows, against NumPy and the loops of the oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastconv.errors import ArgumentError
from fastconv.network.views import View, Views, shifted_views

from . import naive_augment


@pytest.mark.parametrize("down", [-13, -12, -1, 0, 2, 12, 40])
def test_views_move_pixels_and_let_zeros_in(rng, down):
    x = rng.random((2, 1, 12, 5))
    expected = np.zeros_like(x)
    for y in range(12):
        if 0 <= y - down < 12:
            expected[:, :, y] = x[:, :, y - down]
    np.testing.assert_array_equal(View(down=down).of(x), expected)


def test_a_quarter_turn_is_numpys(rng):
    x = rng.random((2, 3, 7, 7))
    turned = View(turned=90).of(x)
    np.testing.assert_allclose(turned, np.rot90(x, axes=(2, 3)), atol=1e-12)
    both = View(turned=90, mirrored=True).of(x)
    np.testing.assert_allclose(both, np.rot90(x[..., ::-1], axes=(2, 3)), atol=1e-12)


def test_a_scaled_view_takes_places_that_much_nearer_to_the_centre(rng):
    x = rng.random((2, 2, 6, 9))
    factor, (down, right) = 1.25, (1, -2)
    # Column u of the view shows the column of the image that scaling and moving bring there.
    matrix = [
        [1 / factor, 0, 4 - (4 + right) / factor],
        [0, 1 / factor, 2.5 - (2.5 + down) / factor],
    ]
    expected = naive_augment.warp(x, np.array([matrix] * 2), None, 0.0)
    np.testing.assert_allclose(View(down, right, scaled=factor).of(x), expected, atol=1e-12)


def test_a_small_turn_goes_counter_clockwise(rng):
    x = rng.random((1, 1, 9, 9))
    angle = math.radians(10)
    cos, sin = math.cos(angle), math.sin(angle)
    # Rows count downwards: the place right of the centre shows what lay below it to the right.
    matrix = [[cos, -sin, 4 - 4 * cos + 4 * sin], [sin, cos, 4 - 4 * sin - 4 * cos]]
    expected = naive_augment.warp(x, np.array([matrix]), None, 0.0)
    np.testing.assert_allclose(View(turned=10).of(x), expected, atol=1e-12)


def test_views_of_a_text():
    moved = {View(), View(2, 0), View(-2, 0), View(0, 2), View(0, -2)}
    assert set(Views.parse("shift=2").views) == moved
    assert set(shifted_views(2)) == moved
    assert Views.parse(None).views == Views.parse("none").views == shifted_views(0) == (View(),)
    assert set(Views.parse("mirror").views) == {View(), View(mirrored=True)}
    assert set(Views.parse("rotate=5").views) == {View(), View(turned=5), View(turned=-5)}
    found = Views.parse("scale=0.25, mirror").views
    assert {(view.scaled, view.mirrored) for view in found} == {
        (factor, mirrored) for factor in (1, 1.25, 0.75) for mirrored in (False, True)
    }
    assert len(Views.parse("shift=1,rotate=3,scale=0.1,mirror").views) == 18


@pytest.mark.parametrize("text", ["none", "shift=1", "rotate=2.5,scale=0.1,mirror"])
def test_a_text_goes_there_and_back(text):
    assert str(Views.parse(text)) == text
    assert str(Views.parse(",".join(reversed(text.split(","))))) == text


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "expected shift=PIXELS.*got ''"),
        ("shift", "got 'shift'"),
        ("turn=3", "got 'turn=3'"),
        ("mirror=1", "got 'mirror=1'"),
        ("shift=1.5", "shift must be a whole number, got '1.5'"),
        ("rotate=much", "rotate must be a number, got 'much'"),
        ("shift=-1", "shift must be at least 0, got -1"),
        ("scale=1", "scale must be at least 0 and below 1, got 1"),
        ("rotate=nan", "rotate must be at least 0 and below 180, got nan"),
        ("shift=1,shift=2", "shift is given twice"),
        ("none,mirror", "got 'none'"),
    ],
)
def test_a_text_that_means_nothing(text, message):
    with pytest.raises(ArgumentError, match=message):
        Views.parse(text)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"down": 0.5}, "down must be a whole number"),
        ({"turned": "left"}, "turned must be finite, got 'left'"),
        ({"turned": math.inf}, "turned must be finite, got inf"),
        ({"scaled": 0}, "scaled must be finite and greater than 0, got 0"),
    ],
)
def test_a_view_that_is_none(settings, message):
    with pytest.raises(ArgumentError, match=message):
        View(**settings)
