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
    return np.array([[1 - share, share] for share in answers])


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
    np.testing.assert_array_equal(members.of_label[0], [0.9, 0.4, 0.9, 0.3])


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
    np.testing.assert_array_equal(again.of_label, whole.of_label)


def test_fitted_weights_are_the_likeliest(rng):
    given = rng.random((2, 40)) ** np.array([[1.0], [1.6]])
    first = np.linspace(0, 1, 2001)[:, None]
    likelihood = np.log(first * given[0] + (1 - first) * given[1]).mean(axis=1)
    best = first[likelihood.argmax(), 0]
    assert 0.1 < best < 0.95
    np.testing.assert_allclose(fitted_weights(given), (best, 1 - best), atol=2e-3)


def test_a_member_that_is_always_worse_gets_no_weight():
    here, there = np.tile([0.9, 0.5], 50), np.tile([0.5, 0.9], 50)
    weights = fitted_weights(np.stack([here, np.full(100, 0.4), there]))
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights, (0.5, 0, 0.5), atol=1e-3)


def test_weights_of_nothing():
    with pytest.raises(ShapeError, match=r"expected \(members, images\), got shape \(2, 0\)"):
        fitted_weights(np.zeros((2, 0)))
