"""Mean and standard deviation of each channel: measured, applied, undone, kept."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fastconv.datasets import Normalization
from fastconv.errors import ArgumentError, DataCorrupt, DataNotFound, ShapeError


def test_the_numbers_are_those_of_all_pixels(rng):
    images = rng.random((150, 3, 5, 4), np.float32) * np.array([1, 0.5, 0.1])[:, None, None]
    images = images.astype(np.float32)
    found = Normalization.of(images)
    for channel in range(3):
        values = [float(value) for value in images[:, channel].ravel()]
        mean = math.fsum(values) / len(values)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        assert found.mean[channel] == pytest.approx(mean, rel=1e-12)
        assert found.std[channel] == pytest.approx(deviation, rel=1e-12)


def test_normalized_images_have_mean_0_and_deviation_1(rng):
    images = (0.2 + 0.3 * rng.random((40, 3, 6, 6))).astype(np.float32)
    norm = Normalization.of(images)
    normalized = norm.apply(images)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(normalized.std(axis=(0, 2, 3)), 1, atol=1e-5)
    np.testing.assert_allclose(norm.undo(normalized), images, atol=1e-6)
    np.testing.assert_allclose(norm.apply(images[3]), normalized[3])  # one image, too
    before = images.copy()
    assert norm.apply(images, out=images) is images
    assert np.array_equal(images, normalized)
    assert not np.array_equal(images, before)


def test_a_channel_that_does_not_vary_is_only_moved():
    images = np.full((10, 2, 3, 3), 0.7, np.float32)
    images[:5, 1] = 0.1
    norm = Normalization.of(images)
    assert norm.std[0] == 1
    assert np.abs(norm.apply(images)[:, 0]).max() < 1e-6


def test_saved_numbers_come_back_to_the_last_bit(tmp_path, rng):
    norm = Normalization.of(rng.random((7, 3, 4, 4), np.float32))
    norm.save(tmp_path / "norm.json")
    assert Normalization.load(tmp_path / "norm.json") == norm
    assert json.loads((tmp_path / "norm.json").read_text()) == {
        "mean": list(norm.mean),
        "std": list(norm.std),
    }


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[1]", '{"mean": [0.5]}', '{"mean": 1, "std": 1}', '{"mean": ["a"], "std": [1]}'],
)
def test_files_that_are_refused(tmp_path, content):
    (tmp_path / "norm.json").write_text(content)
    with pytest.raises(DataCorrupt, match=r"norm\.json"):
        Normalization.load(tmp_path / "norm.json")
    with pytest.raises(DataNotFound, match="no such file"):
        Normalization.load(tmp_path / "absent.json")


@pytest.mark.parametrize(
    "mean, std",
    [
        ((), ()),
        ((0.5,), (1.0, 1.0)),
        ((0.5,), (0.0,)),
        ((0.5,), (-1.0,)),
        ((math.nan,), (1.0,)),
        ((0.5,), (math.inf,)),
    ],
)
def test_numbers_that_are_refused(mean, std):
    with pytest.raises(ArgumentError, match="Normalization: expected a finite mean and a std"):
        Normalization(mean, std)


def test_images_of_other_shapes(rng):
    norm = Normalization((0.5,) * 3, (1.0,) * 3)
    for shape in ((3, 4), (2, 1, 4, 4), (4, 4)):
        with pytest.raises(ShapeError, match=r"expected images \(\.\.\., 3, H, W\)"):
            norm.apply(np.zeros(shape, np.float32))
    for shape in ((0, 3, 4, 4), (3, 4, 4)):
        with pytest.raises(ShapeError, match=r"Normalization\.of: expected images \(N, C, H, W\)"):
            Normalization.of(np.zeros(shape, np.float32))
