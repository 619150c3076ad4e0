"""The digits that need no network: split, frame, and that they are the bundled ones."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fastconv.datasets import load_digits
from fastconv.errors import MissingDependency


@pytest.fixture(scope="module")
def bundled():
    return pytest.importorskip(
        "sklearn.datasets", reason="scikit-learn holds the digits"
    ).load_digits()


def test_digits_are_split_stratified_and_the_same_each_time(bundled):
    (x_train, t_train), (x_test, t_test) = load_digits(flatten=False)
    assert x_train.shape == (1437, 1, 28, 28)
    assert x_test.shape == (360, 1, 28, 28)
    counts = np.bincount(bundled.target)
    assert np.array_equal(np.bincount(t_train) + np.bincount(t_test), counts)
    assert np.all(np.abs(np.bincount(t_test) - counts / 5) <= 1)
    again = load_digits(flatten=False)
    assert np.array_equal(again[0][0], x_train)
    assert np.array_equal(again[1][1], t_test)


def test_digits_are_the_bundled_images_enlarged(bundled):
    (x_train, t_train), (x_test, t_test) = load_digits(flatten=False, normalize=False)
    # Each bundled image is found once, with its label. The sum of a 28x28 image is that of the
    # bundled one times (20/8)^2, except for the edges, so that the images correlate at 1.
    small = bundled.images.reshape(len(bundled.images), -1)
    boxes = np.concatenate([x_train, x_test])[:, 0, 4:24, 4:24].astype(float)
    labels = np.concatenate([t_train, t_test])
    shrunk = boxes.reshape(-1, 4, 5, 4, 5).mean(axis=(2, 4)).reshape(len(boxes), -1)
    halved = small.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(len(small), -1)

    def standard(rows):
        rows = rows - rows.mean(axis=1, keepdims=True)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    likeness = standard(shrunk) @ standard(halved).T
    best = likeness.argmax(axis=1)
    assert likeness.max(axis=1).min() > 0.98
    assert len(set(best)) > 1750  # very similar images may share their best match
    assert (bundled.target[best] == labels).mean() > 0.999


def test_digits_stand_in_mnists_frame(bundled):
    (x_train, _), (x_test, _) = load_digits(flatten=False, normalize=False)
    images = np.concatenate([x_train, x_test])
    assert images.max() == 255
    inside = np.zeros((28, 28), bool)
    inside[4:24, 4:24] = True
    assert np.all(images[:, 0, ~inside] == 0)


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingDependency, match=r"pip install scikit-learn"):
        load_digits()
