"""Ensembles: means of probabilities, views, files."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.errors import ArgumentError, DataCorrupt, WeightsError
from fastconv.functions import softmax
from fastconv.io.arrays import load_arrays, load_metadata, save_arrays
from fastconv.models import DeepConvNet, lenet, make_model
from fastconv.models.ensemble import Ensemble, is_ensemble_file
from fastconv.network.views import View, Views


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


def test_members_count_by_their_weights(members, rng, tmp_path):
    x = rng.random((4, 1, 12, 12)).astype(np.float32)
    each = [softmax(member.predict(x).astype(np.float64)) for member in members]
    ensemble = Ensemble(members, weights=(1, 0, 3))
    assert ensemble.weights == (0.25, 0, 0.75)
    expected = 0.25 * each[0] + 0.75 * each[2]
    np.testing.assert_allclose(ensemble.probabilities(x), expected, rtol=1e-5)
    prepared = ensemble.prepare((4, 1, 12, 12)).probabilities(x)
    np.testing.assert_allclose(prepared, expected, rtol=1e-5)
    ensemble.save(tmp_path / "weighted.npz")
    again = Ensemble.load(tmp_path / "weighted.npz", backend=members[0].backend)
    assert again.weights == ensemble.weights
    np.testing.assert_array_equal(again.predict(x), ensemble.predict(x))


@pytest.mark.parametrize("weights", [(1, 2), (1, -1, 1), (0, 0, 0), (1, np.nan, 1), (np.inf, 1, 1)])
def test_weights_that_are_none(members, weights):
    with pytest.raises(ArgumentError, match="weights must be 3 numbers of at least 0, one for"):
        Ensemble(members, weights=weights)


def test_one_member_with_one_view_is_that_member(members, rng):
    x = rng.random((5, 1, 12, 12)).astype(np.float32)
    got = Ensemble(members[:1]).probabilities(x)
    np.testing.assert_allclose(got, softmax(members[0].predict(x)), rtol=1e-5)


def test_an_ensemble_goes_to_a_file_and_back(members, rng, tmp_path):
    x = rng.random((3, 1, 12, 12)).astype(np.float32)
    members[2].gradient(x, [0, 1, 2])  # moves running statistics
    about = {"data": "digits"}
    ensemble = Ensemble(members, Views(shift=1, rotate=5).views, about)
    ensemble.save(tmp_path / "three.npz")
    assert is_ensemble_file(tmp_path / "three.npz")
    again = Ensemble.load(tmp_path / "three.npz", backend=members[0].backend)
    assert again.views == ensemble.views
    assert again.about == about
    np.testing.assert_array_equal(again.predict(x), ensemble.predict(x))


@pytest.mark.parametrize(
    "name, value",
    [
        ("views", [{"down": "low"}]),
        ("views", [{"sideways": 1}]),
        ("views", []),
        ("members", [{"name": "transformer", "input_dim": [1, 12, 12], "classes": 3}]),
        ("members", [["lenet"]]),
        ("about", [1]),
    ],
)
def test_a_damaged_file(members, tmp_path, name, value):
    Ensemble(members[:1]).save(tmp_path / "one.npz")
    arrays, metadata = load_arrays(tmp_path / "one.npz")
    assert load_metadata(tmp_path / "one.npz") == metadata
    save_arrays(tmp_path / "one.npz", arrays, metadata | {name: value})
    with pytest.raises(DataCorrupt, match="not an ensemble that fastconv has saved"):
        Ensemble.load(tmp_path / "one.npz")


def test_bad_ensembles(members, tmp_path, rng):
    with pytest.raises(ArgumentError, match="got 0 members and 1 views"):
        Ensemble([])
    with pytest.raises(ArgumentError, match="member 1 \\(DeepConvNet\\) was not made by"):
        Ensemble([members[0], DeepConvNet(seed=0)]).save(tmp_path / "two.npz")
    other = lenet(4, 1, input_size=(12, 12), seed=0)
    with pytest.raises(WeightsError, match=r"scores of shapes \(2, 3\) and \(2, 4\)"):
        Ensemble([members[0], other]).predict(rng.random((2, 1, 12, 12)))
    members[0].save_params(tmp_path / "weights.npz")
    assert not is_ensemble_file(tmp_path / "weights.npz")
    with pytest.raises(DataCorrupt, match="not an ensemble that fastconv has saved"):
        Ensemble.load(tmp_path / "weights.npz")
