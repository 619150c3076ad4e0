"""What each member of an ensemble adds: intervals, errors without it, fitted weights."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.errors import ShapeError
from fastconv.experiment.members import Members, fitted_weights, interval


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [  # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_an_interval_is_that_of_the_literature(correct, total, low, high):
    assert interval(correct, total) == pytest.approx((low, high), abs=5e-5)
    others = interval(total - correct, total)
    assert others == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_no_images_tell_nothing():
    assert interval(0, 0) == (0.0, 1.0)


def shares(*answers: float) -> np.ndarray:
    """Probabilities (N, 2): of the second class what is given."""
    return np.array([[1 - share, share] for share in answers]).reshape(-1, 2)


LABELS = np.array([1, 1, 0, 1])
THREE = [shares(0.9, 0.4, 0.1, 0.3), shares(0.6, 0.7, 0.4, 0.4), shares(0.2, 0.6, 0.3, 0.1)]


def test_what_each_member_adds():
    members = Members.of(THREE, LABELS)
    assert members.answers.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0]]
    # The first two: 1.5 of 2, 1.1, 0.5, 0.7; the first and the third: 1.1, 1.0 ...
    assert members.without.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]
    assert members.misreaders(LABELS).tolist() == [1, 1, 0, 3]
    results = members.results(LABELS)
    assert [each.errors for each in results] == [2, 1, 2]
    assert [each.errors_without for each in results] == [2, 2, 1]
    assert [each.accuracy for each in results] == [0.5, 0.75, 0.5]
    assert results[1].interval == interval(3, 4)
    assert members.hits == pytest.approx([2.5, 2.3, 1.6])
    assert members.products[0, 1] == pytest.approx(0.58 + 0.46 + 0.58 + 0.54)


def test_weights_count_in_what_the_others_answer():
    members = Members.of(THREE, LABELS, (0.1, 0.9, 0.0))
    assert members.without[1].tolist() == members.answers[0].tolist()
    assert Members.of(THREE, LABELS, (0.0, 1.0, 0.0)).without[1].tolist() == [-1] * 4


def test_batches_are_joined_in_their_order():
    whole = Members.of(THREE, LABELS)
    parts = [
        Members.of([share[rows] for share in THREE], LABELS[rows])
        for rows in (slice(0, 3), slice(3, 4))
    ]
    again = Members.joined(parts)
    np.testing.assert_array_equal(again.answers, whole.answers)
    np.testing.assert_array_equal(again.without, whole.without)
    np.testing.assert_allclose(again.products, whole.products)
    np.testing.assert_allclose(again.hits, whole.hits)


def smoothed(rng, labels, right, share):
    """Probabilities that give `share` to the true class in about so many of the images."""
    answers = np.where(rng.random(len(labels)) < right, labels, (labels + 1) % 10)
    return (1 - share) / 9 + (share - (1 - share) / 9) * np.eye(10)[answers]


def test_fitted_weights_are_the_least_squares(rng):
    nnls = pytest.importorskip("scipy.optimize").nnls
    labels = rng.integers(0, 10, 500)
    shares = [smoothed(rng, labels, right, 0.9) for right in (0.9, 0.8, 0.7, 0.4)]
    shares.append(np.full((500, 10), 0.1) + 0.02 * np.eye(10)[(labels + 3) % 10])
    wanted = nnls(np.stack([share.ravel() for share in shares], 1), np.eye(10)[labels].ravel())[0]
    assert (wanted == 0).any() and (wanted > 0).sum() >= 3
    found = fitted_weights(Members.of(shares, labels))
    np.testing.assert_allclose(found, wanted / wanted.sum(), atol=1e-6)


def test_a_sure_member_does_not_outdo_better_ones_that_smoothing_made_less_sure(rng):
    labels = rng.integers(0, 10, 2000)
    shares = [smoothed(rng, labels, right, share) for right, share in ((0.95, 0.8), (0.9, 0.999))]
    weights = fitted_weights(Members.of(shares, labels))
    assert weights[0] > weights[1]


def test_weights_of_nothing():
    nothing = Members.of([shares(), shares()], np.zeros(0, int))
    with pytest.raises(ShapeError, match="there are no images to fit weights to"):
        fitted_weights(nothing)
