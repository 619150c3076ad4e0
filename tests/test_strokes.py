"""Drawn strokes as an image like MNIST's."""

from __future__ import annotations

import math
import os
from itertools import pairwise

import numpy as np
import pytest

from fastconv import load_prepared
from fastconv.datasets.strokes import MOST_POINTS, RADIUS, frame_strokes
from fastconv.errors import ArgumentError, ShapeError

LINE = np.array([[30.0, 10.0], [30.0, 60.0], [30.0, 110.0]])


def naive(lines):
    """Ink by the distance of each pixel from the nearest place of the lines, in loops.

    The lines are in pixels of the image already.
    """
    image = np.zeros((28, 28))
    for row in range(28):
        for column in range(28):
            nearest = math.inf
            for line in lines:
                for (ax, ay), (bx, by) in pairwise([*line, line[-1]]):
                    for share in np.linspace(0, 1, 200):
                        x, y = ax + share * (bx - ax), ay + share * (by - ay)
                        nearest = min(nearest, math.hypot(column + 0.5 - x, row + 0.5 - y))
            image[row, column] = min(1, max(0, RADIUS + 0.5 - nearest))
    return image


def test_a_line_has_a_pens_width_and_fills_the_box():
    image = frame_strokes([LINE])[0]
    assert image.dtype == np.float32
    # Columns 12 to 15 are 1.5, 0.5, 0.5 and 1.5 pixels away from the middle of the image.
    inside = [0, RADIUS - 1, 1, 1, RADIUS - 1, 0]
    np.testing.assert_allclose(image[8:20, 11:17], [inside] * 12, rtol=1e-6)
    assert np.flatnonzero(image.any(1)).tolist() == list(range(4, 24))  # 20 rows
    np.testing.assert_allclose(image[:4].sum() + image[24:].sum(), 0)


def test_the_image_is_what_the_distances_say():
    # Its longer side is as long as the middle of a line may be, and its mass is in the middle.
    side = 20 - 2 * RADIUS
    corner = 14 - side / 2
    cross = [
        np.array([[corner, corner], [corner + side, corner + side]]),
        np.array([[corner, corner + side], [corner + side, corner]]),
    ]
    np.testing.assert_allclose(frame_strokes(cross)[0], naive(cross), atol=2e-3)


def test_place_and_size_of_the_drawing_do_not_matter():
    rng = np.random.default_rng(0)
    strokes = [rng.uniform(0, 1, (5, 2)), rng.uniform(0, 1, (3, 2))]
    image = frame_strokes(strokes)
    for scale, place in ((1, 1000), (250, -3), (1e-3, 0), (1e6, 0)):
        moved = frame_strokes([stroke * scale + place for stroke in strokes])
        np.testing.assert_allclose(moved, image, atol=1e-4)


def test_points_close_together_change_nothing():
    rng = np.random.default_rng(1)
    coarse = rng.uniform(0, 100, (6, 2))
    parts = [a + (b - a) * np.linspace(0, 1, 300)[:, None] for a, b in pairwise(coarse)]
    dense = np.concatenate(parts)
    np.testing.assert_allclose(frame_strokes([dense]), frame_strokes([coarse]), atol=0.1)


def test_the_mass_is_in_the_middle_and_all_of_it_inside():
    rng = np.random.default_rng(2)
    places = np.arange(28) + 0.5
    for _ in range(20):
        angles = np.linspace(0, rng.uniform(2, 5), 40) + rng.uniform(0, 6)
        arc = np.stack([np.cos(angles), rng.uniform(0.3, 1) * np.sin(angles)], 1)
        image = frame_strokes([arc, arc[:10] + np.array([0.0, 0.8])])[0].astype(float)
        for mass in (image.sum(1), image.sum(0)):
            used = np.flatnonzero(mass)
            assert used.size <= 21  # 20, and not always at whole pixels
            off = abs(mass @ places / mass.sum() - 14)
            assert off < 0.4 or used[0] == 0 or used[-1] == 27


@pytest.mark.parametrize("points", [1, 3])
def test_a_dot_is_a_disc_in_the_middle(points):
    image = frame_strokes([[[5.0, 7.0]] * points])[0]
    np.testing.assert_allclose(image, image[::-1, ::-1])
    assert image.sum() == pytest.approx(np.pi * RADIUS**2, rel=0.1)


@pytest.mark.parametrize(
    ("strokes", "error", "text"),
    [
        ([], ArgumentError, "expected 1 to 10,000 points, got 0"),
        ([np.zeros((MOST_POINTS + 1, 2))], ArgumentError, "got 10,001"),
        ([np.zeros((2, 3))], ShapeError, r"shape \(n, 2\), got \(2, 3\)"),
        ([np.zeros((0, 2))], ShapeError, r"got \(0, 2\)"),
        ([[[0.0, np.nan]]], ArgumentError, "places within 1e\\+09 of 0"),
        ([[[-1e300, 0.0], [1e300, 1.0]]], ArgumentError, "places within"),
        ([[[0.0, np.inf], [1.0, 1.0]]], ArgumentError, "places within 1e\\+09 of 0"),
    ],
)
def test_what_is_no_drawing_is_refused(strokes, error, text):
    with pytest.raises(error, match=text):
        frame_strokes(strokes)


def test_the_smallest_drawing_is_a_dot():
    dot = frame_strokes([[[0.0, 0.0]]])
    np.testing.assert_allclose(frame_strokes([[[0.0, 0.0], [5e-324, 0.0]]]), dot)


@pytest.mark.skipif(
    "FASTCONV_TEST_DRAWN" not in os.environ,
    reason="FASTCONV_TEST_DRAWN names no run of MNIST, which takes a minute to train",
)
def test_drawn_digits_are_read_where_unframed_ones_are_not():
    pytest.importorskip("PIL", reason="draws on paper")
    from benchmarks.drawn_digits import as_it_is, draw

    network = load_prepared(os.environ["FASTCONV_TEST_DRAWN"], batch_size=100)
    rng = np.random.default_rng(11)
    labels = np.repeat(np.arange(10), 30)
    drawings = [draw(digit, rng) for digit in labels]
    framed = np.stack([frame_strokes(strokes) for strokes in drawings])
    plain = np.stack([as_it_is(strokes) for strokes in drawings])
    assert network.accuracy(framed, labels) > 0.97
    assert network.accuracy(plain, labels) < 0.8
