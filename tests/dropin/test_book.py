"""The book itself, in every state of its history: FASTCONV_TEST_BOOK names repositories of it.

A checkout or its git directory; several are separated as on a path. None of its text is here.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fastconv.dropin import make_editions
from fastconv.dropin.make_editions import NAMES, states
from fastconv.dropin.source import Library, Source

from .conftest import assert_same_print, last_line, plainly, python

REPOSITORIES = [
    Path(word) for word in os.environ.get("FASTCONV_TEST_BOOK", "").split(os.pathsep) if word
]

pytestmark = pytest.mark.skipif(
    not REPOSITORIES, reason="FASTCONV_TEST_BOOK names no repository of the book"
)

SCRIPT = """
import os, sys
sys.path.append(os.pardir)
import numpy as np
from common.functions import *
from common.gradient import numerical_gradient
from common.layers import *
from common.optimizer import *
from common.trainer import Trainer
from common.util import col2im, conv_output_size, im2col, shuffle_dataset, smooth_curve

np.random.seed(0)
x = np.random.randn(4, 3, 8, 8)
print(Pooling(2, 2).forward(np.arange(16.0).reshape(1, 1, 4, 4)).shape)
conv, relu = Convolution(np.random.randn(5, 3, 3, 3), np.ones(5), 1, 1), Relu()
pool = Pooling(2, 2, 2)
y = pool.forward(relu.forward(conv.forward(x)))
dx = conv.backward(relu.backward(pool.backward(np.random.randn(*y.shape))))
print(y.sum(), dx.sum(), np.abs(dx).sum(), conv.dW.sum(), conv.db)
affine, dropout = Affine(np.random.randn(80, 4), np.zeros(4)), Dropout(0.3)
sigmoid_layer = Sigmoid()
z = sigmoid_layer.forward(affine.forward(dropout.forward(y)))
last = SoftmaxWithLoss()
print(last.forward(z, np.array([0, 1, 2, 3])))
dy = dropout.backward(affine.backward(sigmoid_layer.backward(last.backward())))
print(np.abs(dy).sum(), affine.dW.sum(), affine.db)
with np.errstate(all="ignore"):
    print(last.forward(np.array([[1000.0, 0.0], [3.0, 1.0]]), np.array([[0, 1], [0, 1]])))
    print(cross_entropy_error(np.array([[1.0, 0.0]]), np.array([1])))
print(softmax(np.arange(8.0).reshape(2, 2, 2)).ravel(), softmax(np.arange(3.0)))
print(sigmoid(np.ones(2)))
if hasattr(sys.modules["common.layers"], "BatchNormalization"):
    norm = BatchNormalization(np.ones(6) * 2, np.zeros(6))
    rows = np.random.randn(7, 6)
    print(norm.forward(rows).sum(), norm.backward(rows ** 2).sum(), norm.forward(rows, False).sum())
    images = np.random.randn(3, 2, 2, 1)
    for size in (4, 6):
        try:
            norm = BatchNormalization(np.arange(1.0, size + 1), np.zeros(size))
            print(norm.forward(images).ravel()[:5], norm.backward(images ** 2).ravel()[:5])
        except ValueError:
            print("another size")
def run(optimizer, **options):
    params = {"W": np.array([1.0, -2.0])}
    for _ in range(3):
        optimizer.update(params, {"W": 2 * params["W"]})
    print(type(optimizer).__name__, params["W"])
for kind in (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam):
    run(kind(lr=0.1))
print(numerical_gradient(lambda a: np.sum(a ** 2), np.array([3.0, 4.0])))
print(im2col(x, 3, 3).sum(), col2im(im2col(x, 3, 3), x.shape, 3, 3).sum(), conv_output_size(7, 3))
print(smooth_curve(np.arange(20.0)), shuffle_dataset(x, np.arange(4))[1])
class Net:
    params = {"W": np.ones(1)}
    def gradient(self, x, t):
        return {"W": np.ones(1)}
    def loss(self, x, t):
        return float(self.params["W"].sum() + x.sum())
    accuracy = loss
Trainer(Net(), x, np.arange(4), x, np.arange(4), 3, 3, "Nesterov", {"lr": 0.2}).train()
"""


def found(folder):
    """Where a module of the book's lies."""

    def find(module):
        path = folder.joinpath(*module.split(".")).with_suffix(".py")
        return path if path.is_file() else None

    return find


@pytest.mark.parametrize("repository", REPOSITORIES, ids=lambda path: path.parent.name)
def test_all_of_each_state_is_known(repository):
    count = 0
    for date, folder in states(repository):
        library = Library(found(folder))
        for module, names in NAMES.items():
            source = library.module(module)
            for name in names:
                if not isinstance(source, Source) or name not in source.definitions:
                    continue
                try:
                    list(make_editions.fingerprints(source, name))
                except LookupError:  # it calls what was not there
                    continue
                match = source.match(name)
                assert match is not None and not match.own, (date, module, name)
                count += 1
    assert count > 500


@pytest.mark.parametrize("repository", REPOSITORIES, ids=lambda path: path.parent.name)
def test_each_state_computes_the_same(repository, tmp_path):
    """The same numbers by the state's own code and by what fastconv serves of it."""
    for number, (date, folder) in enumerate(states(repository)):
        place = tmp_path / str(number)
        shutil.copytree(folder, place)
        (place / "ch").mkdir()
        (place / "ch" / "show.py").write_text(SCRIPT)
        if "import numpy" not in (place / "common" / "optimizer.py").read_text():
            continue  # a state that could not run
        expected = plainly("show.py", cwd=place / "ch")
        done = python("-m", "fastconv", "show.py", cwd=place / "ch")
        assert done.returncode == 0, (date, done.stderr)
        assert_same_print(done.stdout, expected, tolerance=1e-8)
        assert "your own" not in last_line(done), (date, done.stderr)
