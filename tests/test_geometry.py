"""Shape arithmetic by hand: sizes, defaults, limits, and their messages."""

from __future__ import annotations

import re

import pytest

from fastconv.errors import ArgumentError, ShapeError
from fastconv.geometry import LARGEST, NO_PADS, WindowGeometry, as_float, as_int, window_geometry


def test_the_largest_number_is_that_of_31_bits():
    assert LARGEST == 2147483647


def test_windows_of_two_by_three_on_five_by_eight():
    g = window_geometry("test", (4, 6, 5, 8), 2, 3)
    assert (g.n, g.c, g.h, g.w) == g.input_shape == (4, 6, 5, 8)
    assert (g.fh, g.fw, g.stride, g.pad, g.dilation) == (2, 3, 1, 0, 1)
    assert (g.oh, g.ow) == (4, 6)
    assert g.window == 6
    assert g.span == (2, 3)
    assert g.column_shape == (4 * 4 * 6, 6 * 6)
    assert g.output_shape(9) == (4, 9, 4, 6)


def test_a_dilated_window_spans_the_places_between():
    """Places 0, 3, 6 down and 0, 3 across: 7 and 4 pixels."""
    g = window_geometry("test", (1, 1, 9, 9), 3, 2, 2, 1, 3)
    assert g.span == (7, 4)
    assert (g.oh, g.ow) == (3, 4)  # (9 + 2 - 7) // 2 + 1, (9 + 2 - 4) // 2 + 1
    assert g.window == 6


def test_a_geometry_by_hand_is_not_dilated():
    assert WindowGeometry(1, 1, 4, 4, 2, 2, (1, 1), NO_PADS, 3, 3).span == (2, 2)


@pytest.mark.parametrize(
    ("size", "window", "stride", "pad", "floor", "ceil"),
    [
        # torch.nn.MaxPool2d(window, stride, pad, ceil_mode=False / True) on so many rows
        (6, 3, 2, 0, 2, 3),
        (7, 3, 2, 0, 3, 3),
        (5, 2, 2, 0, 2, 3),
        (6, 2, 3, 0, 2, 2),  # one more would begin past the image
        (4, 2, 3, 1, 2, 2),
        (5, 3, 3, 1, 2, 2),  # one more would begin at the first row of the padding
        (6, 3, 3, 1, 2, 3),  # the last begins at the last row of the image
        (5, 1, 3, 0, 2, 2),
    ],
)
def test_a_window_that_hangs_over_the_end(size, window, stride, pad, floor, ceil):
    for shape, place in (((1, 1, size, 9), "oh"), ((1, 1, 9, size), "ow")):
        down = window_geometry("test", shape, window, window, stride, pad)
        up = window_geometry("test", shape, window, window, stride, pad, ceil_mode=True)
        assert (getattr(down, place), getattr(up, place)) == (floor, ceil)


def test_an_axis_may_be_as_long_as_31_bits_count():
    assert window_geometry("test", (1, 1, LARGEST, 1), 1, 1).oh == LARGEST
    with pytest.raises(ShapeError, match=r"^test: .*2147483647, got \(1, 1, 2147483648, 1\)"):
        window_geometry("test", (1, 1, LARGEST + 1, 1), 1, 1)


def told(*parts: object) -> str:
    """A pattern for a message with these parts, in this order."""
    return ".*".join(re.escape(str(part)) for part in parts)


def test_a_padded_image_has_31_bits_of_pixels():
    """46339^2 = 2147302921 and 46340 * 46341 = 2147441940 fit, 46341^2 = 2147488281 does not."""
    assert window_geometry("test", (1, 1, 1, 1), 1, 1, 1, 23169).oh == 46339
    assert window_geometry("test", (1, 1, 2, 3), 1, 1, 1, 23169).oh == 46340
    with pytest.raises(ShapeError, match=told(2147483647, "3 + 2*23169 = 46341", "5 + 2*23169")):
        window_geometry("test", (1, 1, 3, 5), 1, 1, 1, 23169)
    with pytest.raises(ShapeError, match=told("test:", "= 46341 high", "= 46343 wide")):
        window_geometry("test", (1, 1, 3, 5), 1, 1, 1, 23169)


def test_a_padded_image_has_as_many_pixels_as_two_images():
    """For 40000 x 60000: 60000 * 80000 is twice as much, 60002 * 80002 is more."""
    h, w = 40000, 60000
    assert window_geometry("test", (1, 1, h, w), 1, 1, 1, 10000).ow == 80000
    with pytest.raises(ShapeError, match=told("= 60002 high", "= 80002 wide")):
        window_geometry("test", (1, 1, h, w), 1, 1, 1, 10001)


def test_a_window_is_at_most_as_large_as_the_padded_image():
    assert window_geometry("test", (1, 1, 3, 9), 5, 3, 1, 1).oh == 1
    with pytest.raises(
        ShapeError, match=told("test:", "6 x 2 is", "3 + 2*1 = 5 high, 9 + 2*1 = 11 wide")
    ):
        window_geometry("test", (1, 1, 3, 9), 6, 2, 1, 1)
    with pytest.raises(ShapeError, match=told("2 x 12 is", "(1, 1, 3, 9)")):
        window_geometry("test", (1, 1, 3, 9), 2, 12, 1, 1)
    with pytest.raises(ShapeError, match=told("4 x 2, dilated to 7 x 3, is", "= 5 high")):
        window_geometry("test", (1, 1, 3, 9), 4, 2, 1, 1, 2)


# ---- numbers --------------------------------------------------------------------------


def test_a_number_within_its_bounds():
    assert as_int("op", "size", 3, 3) == 3
    assert as_int("op", "size", 7, 3, 7) == 7
    assert as_int("op", "size", 2147483647, 0) == 2147483647


@pytest.mark.parametrize(
    ("value", "minimum", "maximum", "said"),
    [
        (2, 3, 9, "op: size must be at least 3, got 2"),
        (10, 3, 9, "op: size must be at most 9, got 10"),
        (2.0, 3, 9, "op: size must be a whole number, got 2.0 (float)"),
        ("4", 3, 9, "op: size must be a whole number, got '4' (str)"),
        (10**30 - 1, 3, 9, "got " + "9" * 30),
        (10**30, 3, 9, "got one of 100 bits"),
        (1 - 10**30, 3, 9, "got -" + "9" * 30),
        (-(10**30), 3, 9, "got one of 100 bits"),
    ],
)
def test_a_number_out_of_its_bounds(value, minimum, maximum, said):
    with pytest.raises(ArgumentError, match=re.escape(said) + "$"):
        as_int("op", "size", value, minimum, maximum)


def test_a_float_of_any_number():
    assert as_float("op", "fill", 3) == 3.0
    assert type(as_float("op", "fill", 3)) is float


@pytest.mark.parametrize("value", ["1", b"1", None, [1], 10**400, "x" * 200])
def test_values_that_are_not_floats(value):
    with pytest.raises(ArgumentError) as caught:
        as_float("op", "fill", value)
    message = str(caught.value)
    assert message.startswith("op: fill must be a number, got ")
    assert repr(value)[:60] in message
    assert len(message) <= 100
