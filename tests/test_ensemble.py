"""Ensembles: means of probabilities, views, files."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.ensemble import Ensemble, View, shifted_views
from fastconv.errors import ArgumentError, DataCorrupt, WeightsError
from fastconv.functions import softmax
from fastconv.models import DeepConvNet, lenet, make_model


@pytest.fixture
def members(backend):
    return [make_model("lenet", (1, 12, 12), 3, seed=seed, backend=backend) for seed in (0, 1)] + [
        make_model("resnet20", (1, 12, 12), 3, seed=2, backend=backend)
    ]


def test_probabilities_are_the_mean_over_members_and_views(members, rng):
    x = rng.random((4, 1, 12, 12)).astype(np.float32)
    views = (View(), View(down=1, right=-2), View(mirrored=True))
    seen = [x, np.zeros_like(x), x[:, :, :, ::-1]]
    seen[1][:, :, 1:, :-2] = x[:, :, :-1, 2:]
    expected = np.mean(
        [softmax(member.predict(images)) for member in members for images in seen], axis=0
    )
    ensemble = Ensemble(members, views)
    np.testing.assert_allclose(ensemble.probabilities(x), expected, rtol=1e-5)
    np.testing.assert_allclose(np.exp(ensemble.predict(x)), expected, rtol=1e-5)
    labels = expected.argmax(axis=1)
    assert ensemble.accuracy(x, labels, batch_size=3) == 1.0
    assert ensemble.accuracy(x, (labels + 1) % 3) == 0.0


def test_one_member_with_one_view_is_that_member(members, rng):
    x = rng.random((5, 1, 12, 12)).astype(np.float32)
    got = Ensemble(members[:1]).probabilities(x)
    np.testing.assert_allclose(got, softmax(members[0].predict(x)), rtol=1e-5)


@pytest.mark.parametrize("down", [-13, -12, -1, 0, 2, 12, 40])
def test_views_move_pixels_and_let_zeros_in(rng, down):
    x = rng.random((2, 1, 12, 5))
    expected = np.zeros_like(x)
    for y in range(12):
        if 0 <= y - down < 12:
            expected[:, :, y] = x[:, :, y - down]
    np.testing.assert_array_equal(View(down=down).of(x), expected)


def test_shifted_views():
    assert shifted_views(0) == (View(),)
    assert set(shifted_views(2)) == {View(), View(2, 0), View(-2, 0), View(0, 2), View(0, -2)}


def test_an_ensemble_goes_to_a_file_and_back(members, rng, tmp_path):
    x = rng.random((3, 1, 12, 12)).astype(np.float32)
    members[2].gradient(x, [0, 1, 2])  # moves running statistics
    ensemble = Ensemble(members, shifted_views(1))
    ensemble.save(tmp_path / "three.npz")
    again = Ensemble.load(tmp_path / "three.npz", backend=members[0].backend)
    np.testing.assert_array_equal(again.predict(x), ensemble.predict(x))


def test_bad_ensembles(members, tmp_path, rng):
    with pytest.raises(ArgumentError, match="got 0 members and 1 views"):
        Ensemble([])
    with pytest.raises(ArgumentError, match="member 1 \\(DeepConvNet\\) was not made by"):
        Ensemble([members[0], DeepConvNet(seed=0)]).save(tmp_path / "two.npz")
    other = lenet(4, 1, input_size=(12, 12), seed=0)
    with pytest.raises(WeightsError, match=r"scores of shapes \(2, 3\) and \(2, 4\)"):
        Ensemble([members[0], other]).predict(rng.random((2, 1, 12, 12)))
    members[0].save_params(tmp_path / "weights.npz")
    with pytest.raises(DataCorrupt, match="not an ensemble that fastconv has saved"):
        Ensemble.load(tmp_path / "weights.npz")
