"""Definitions of the book's are served, in whichever module; what a reader changed stays theirs."""

from __future__ import annotations

import importlib
import json
import pickle
import re
import sys
from textwrap import dedent

import numpy as np
import pytest

import fastconv
from fastconv import functions, layers, optimizer
from fastconv.dropin import editions, finder, make_editions, source
from fastconv.dropin.source import Book
from fastconv.errors import ArgumentError, StateError

from .conftest import BOOK, assert_same_print, last_line, plainly, python


def text_of(module):
    return BOOK.joinpath(*module.split(".")).with_suffix(".py").read_text()


def change(book, module, old, new, count=1):
    """Write the reader's module with one thing changed."""
    path = book.joinpath(*module.split(".")).with_suffix(".py")
    text = path.read_text()
    assert text.count(old) >= 1, old
    path.write_text(text.replace(old, new, count))


def served(module):
    return fastconv.stats()["served"].get(module, [])


def theirs(name):
    return fastconv.stats()["theirs"][name]


def load(module):
    fastconv.install()
    return importlib.import_module(module)


# ---- a changed body -----------------------------------------------------------------------------

CHANGES = {
    "a print in a forward": (
        "common.layers",
        "self.x = x\n        self.col = im2col",
        "self.x = x\n        print('mine')\n        self.col = im2col",
        "Convolution",
        "has a forward that differs from the book's: it runs in NumPy",
    ),
    "an inverted dropout": (
        "common.layers",
        "return x * (1.0 - self.dropout_ratio)",
        "return x",
        "Dropout",
        "has a forward that differs from the book's, at no cost",
    ),
    "batch normalisation by channel": (
        "common.layers",
        "flat = x.reshape(len(x), -1)",
        "flat = x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])",
        "BatchNormalization",
        "has a forward that differs from the book's: it runs in NumPy",
    ),
    "another epsilon": (
        "common.layers",
        "1e-6",
        "1e-5",
        "BatchNormalization",
        "has a forward that differs from the book's: it runs in NumPy",
    ),
    "another backward": (
        "common.layers",
        "return np.where(self.mask, 0, dout)",
        "return np.where(self.mask, 0.1, dout)",
        "Relu",
        "has a backward that differs from the book's: it runs in NumPy",
    ),
    "another base class": (
        "common.layers",
        "class Relu:",
        "class Relu(list):",
        "Relu",
        "derives from another class, or has decorators: it runs in NumPy",
    ),
    "a function for a class": (
        "common.layers",
        "class Dropout:",
        "def Dropout(x):\n    return x\n\n\nclass _Dropout:",
        "Dropout",
        "is a function here, at no cost",
    ),
    "an own im2col": (
        "common.util",
        "col = np.zeros((n, oh, ow, c, filter_h, filter_w))",
        "col = np.ones((n, oh, ow, c, filter_h, filter_w))",
        "im2col",
        "differs from the book's: it runs in NumPy",
    ),
    "another argument": (
        "common.util",
        "def conv_output_size(input_size, filter_size, stride=1, pad=0)",
        "def conv_output_size(input_size, filter_size, stride=1, pad=1)",
        "conv_output_size",
        "differs from the book's, at no cost",
    ),
    "an own Trainer": (
        "common.trainer",
        'optimizer_param={"lr": 0.01}',
        'optimizer_param={"lr": 0.001}',
        "Trainer",
        "has its own __init__, at no cost",
    ),
    "an own step of the Trainer": (
        "common.trainer",
        "loss = self.network.loss(x, t)",
        "loss = 1.0",
        "Trainer",
        "has a train_step that differs from the book's, at no cost",
    ),
    "another Adam": (
        "common.optimizer",
        "lr_t * self.m[key]",
        "self.lr * self.m[key]",
        "Adam",
        "has a update that differs from the book's: it runs in NumPy",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_definition_stays_the_readers(reader, what):
    name, old, new, definition, why = CHANGES[what]
    change(reader, name, old, new)
    module = load(name)
    own = getattr(module, definition)
    assert own.__module__ == name
    assert not isinstance(own, type) or own.__bases__ in ((object,), (list,))
    assert definition not in served(name)
    assert theirs(f"{name}.{definition}") == f"your own, which {why}"
    # The others in the file are served as before.
    others = {"common.layers": "Affine", "common.util": "col2im", "common.optimizer": "SGD"}
    assert name not in others or others[name] in served(name)


def test_a_layer_that_calls_a_changed_function_stays_the_readers(reader):
    change(reader, "common.util", "col = np.zeros((n, oh, ow, c", "col = np.ones((n, oh, ow, c")
    module = load("common.layers")
    for name in ("Convolution", "Pooling"):
        assert getattr(module, name).__module__ == "common.layers"
        why = "your own, which calls your own im2col: it runs in NumPy"
        assert theirs(f"common.layers.{name}") == why
    assert module.Affine is layers.Affine


def test_a_changed_function_in_the_layers_own_file(reader):
    """It is not the one of `common.functions` that the layer calls."""
    path = reader / "common" / "layers.py"
    path.write_text(path.read_text() + "\n\ndef softmax(x):\n    return np.ones_like(x) / 2\n")
    module = load("common.layers")
    assert "calls your own softmax" in theirs("common.layers.SoftmaxWithLoss")
    assert module.SoftmaxWithLoss().forward(np.zeros((1, 2)), np.array([0])) == -np.log(0.5 + 1e-7)
    assert module.Sigmoid is layers.Sigmoid


def test_an_import_from_elsewhere_is_another_function(reader):
    (reader / "mine.py").write_text("def sigmoid(x):\n    return x\n")
    change(reader, "common.layers", "import numpy as np", "import numpy as np", 1)
    path = reader / "common" / "layers.py"
    path.write_text(
        path.read_text().replace("class Relu", "from mine import sigmoid\n\nclass Relu", 1)
    )
    module = load("common.layers")
    assert module.Sigmoid.__module__ == "common.layers"
    assert module.Sigmoid().forward(2.0) == 2.0
    assert module.Relu is layers.Relu


@pytest.mark.parametrize(
    "line",
    [
        "Relu.forward = lambda self, x: x",
        "setattr(Relu, 'forward', lambda self, x: x)",
        "if True:\n    class Relu:\n        def forward(self, x):\n            return x",
        "for Relu in (type('Relu', (), {'forward': lambda self, x: x}),):\n    pass",
    ],
)
def test_a_definition_that_the_file_changes_afterwards(reader, line):
    path = reader / "common" / "layers.py"
    path.write_text(f"{path.read_text()}\n\n{line}\n")
    module = load("common.layers")
    assert module.Relu().forward(-3.0) == -3.0
    np.testing.assert_array_equal(layers.Relu().forward(np.array([-3.0])), [0.0])
    assert module.Affine is layers.Affine


def test_another_numpy(reader):
    """Where np is something else, so is all that is computed with it."""
    (reader / "mine.py").write_text("from numpy import *\n")
    change(reader, "common.functions", "import numpy as np", "import mine as np")
    module = load("common.functions")
    assert module.softmax.__module__ == "common.functions"


@pytest.mark.parametrize(
    "lines",
    [
        "GPU = False\nif GPU:\n    import cupy as np\nelse:\n    import numpy as np",
        "try:\n    import cupy as np\nexcept ImportError:\n    import numpy as np",
    ],
)
def test_a_switch_to_cupy(reader, lines):
    """What np is shows only when the file runs, so all that computes with it is the reader's."""
    change(reader, "common.optimizer", "import numpy as np", lines)
    module = load("common.optimizer")
    why = "your own, which computes with an np that may be another module than NumPy"
    assert theirs("common.optimizer.Adam") == f"{why}: it runs in NumPy"
    assert module.Adam.__module__ == "common.optimizer"
    assert module.SGD is optimizer.SGD  # it has no need of np


def test_names_comments_and_layout_do_not_matter(reader):
    path = reader / "common" / "layers.py"
    text = path.read_text().replace("rows", "flat_rows").replace("def forward(", "def  forward( ")
    path.write_text(
        text.replace("class Convolution:", "class Convolution(object):\n    '''Mine.'''")
    )
    module = load("common.layers")
    assert module.Convolution is layers.Convolution
    assert module.Pooling is layers.Pooling


# ---- the cases that were reported ---------------------------------------------------------------


def test_own_trainer_with_other_lists_and_defaults(book):
    (book / "common" / "trainer.py").write_text(
        dedent("""
        class Trainer:
            def __init__(self, network, x_train, t_train, x_test, t_test, epochs=20,
                         mini_batch_size=100, optimizer='SGD', optimizer_param={'lr': 0.001},
                         evaluate_sample_num_per_epoch=None, verbose=True):
                self.test_loss_list = []
                self.lr = optimizer_param["lr"]
            def train(self):
                self.test_loss_list.append(1.0)
                print("mine")
        """)
    )
    script = book / "ch04" / "own.py"
    script.write_text(
        "import os, sys\nsys.path.append(os.pardir)\nfrom common.trainer import Trainer\n"
        "t = Trainer(*[None] * 5)\nt.train()\nprint(t.test_loss_list, t.lr)\n"
    )
    done = python("-m", "fastconv", "own.py", cwd=script.parent)
    assert done.stdout == "mine\n[1.0] 0.001\n", done.stderr
    assert "common.trainer.Trainer: your own, which has no train_step, at no cost" in last_line(
        done
    )


def test_own_dropout_and_batch_normalisation(reader):
    (reader / "common" / "layers.py").write_text(
        dedent("""
        class Dropout:
            def __init__(self, dropout_ratio=0.5):
                self.dropout_ratio = dropout_ratio
            def forward(self, x, train_flg=True):
                return x
            def backward(self, dout):
                return dout
        class BatchNormalization:
            def __init__(self, gamma, beta, momentum=0.9, running_mean=None, running_var=None):
                self.gamma = gamma
            def forward(self, x, train_flg=True):
                return self.gamma[:, None, None] * (x - x.mean((0, 2, 3), keepdims=True))
        """)
    )
    module = load("common.layers")
    np.testing.assert_array_equal(module.Dropout(0.5).forward(np.ones(4), train_flg=False), 1)
    x = np.arange(96.0).reshape(2, 3, 4, 4)
    out = module.BatchNormalization(np.ones(3), np.zeros(3)).forward(x)
    np.testing.assert_allclose(out.mean((0, 2, 3)), 0, atol=1e-12)


def test_a_network_beside_the_layers_is_no_second_volume(reader):
    path = reader / "common" / "layers.py"
    net = "class Net:\n    def __init__(self):\n        self.params, self.grads = {'W1': 1}, []\n"
    path.write_text(f"{path.read_text()}\n\n{net}")
    module = load("common.layers")
    assert module.Affine is layers.Affine
    assert importlib.import_module("common.optimizer").Adam is optimizer.Adam


def test_changed_layers_beside_a_network_are_no_second_volume(reader):
    """Nothing in the file is the book's; a class that is no layer keeps lists."""
    (reader / "common" / "layers.py").write_text(
        "class Affine:\n    def __init__(self, W, b):\n        self.W, self.b = W, b\n"
        "    def forward(self, x):\n        return x @ self.W + self.b\n"
        "    def backward(self, dout):\n        return dout @ self.W.T\n"
        "class Net:\n    def __init__(self):\n        self.params = {'W1': 1}\n"
        "        self.params, self.grads = [1], [2]\n"
    )
    module = load("common.layers")
    assert module.Affine.__module__ == "common.layers"
    why = "your own, which has a forward and backward that differ from the book's"
    assert theirs("common.layers.Affine") == f"{why}: it runs in NumPy"
    assert importlib.import_module("common.optimizer").Adam is optimizer.Adam


def test_the_second_volumes_reason_is_said_once(book):
    (book / "common" / "layers.py").write_text(
        "class MatMul:\n    def __init__(self, W):\n"
        "        self.params, self.grads = [W], [0]\n"
        "    def forward(self, x):\n        return x\n"
        "    def backward(self, d):\n        return d\n"
        "class Affine:\n    def __init__(self, W, b):\n        self.params = [W, b]\n"
    )
    script = book / "ch04" / "second.py"
    script.write_text("from common.layers import *\nfrom common.functions import softmax\n")
    line = last_line(python("-m", "fastconv", "second.py", cwd=script.parent))
    assert line.count("the second volume's form") == 1, line
    assert "common (layers, functions): your own, as your layers keep lists" in line


def test_an_own_load_mnist_beside_mnists_files(book):
    (book / "dataset" / "mnist.py").write_text(
        "import numpy as np\n"
        "def load_mnist(normalize=True, flatten=True, one_hot_label=False):\n"
        "    part = np.full((100, 784), -1.0), np.zeros(100)\n"
        "    return part, part\n"
    )
    script = book / "ch04" / "own.py"
    script.write_text(
        "from dataset.mnist import load_mnist\n(x, _), _ = load_mnist()\nprint(x.shape, x.min())\n"
    )
    done = python("-m", "fastconv", "own.py", cwd=script.parent)
    assert done.stdout == "(100, 784) -1.0\n", done.stderr
    why = "dataset.mnist.load_mnist: your own, which differs from the book's, at no cost"
    assert why in last_line(done)


# ---- a class partly changed by the reader -------------------------------------------------------


def test_an_own_constructor_on_the_books_methods(reader):
    """Its other arguments and defaults hold, and forward and backward are fastconv's."""
    change(
        reader,
        "common.layers",
        "    def __init__(self, W, b, stride=1, pad=0):\n        self.W, self.b, self.stride",
        "    def __init__(self, W, b, stride=1, pad=1, name=''):\n"
        "        self.label = name\n        self.W, self.b, self.stride",
    )
    module = load("common.layers")
    conv = module.Convolution(np.ones((2, 1, 3, 3)), np.zeros(2), name="first")
    assert isinstance(conv, layers.Convolution) and type(conv).__module__ == "common.layers"
    assert conv.forward(np.ones((1, 1, 4, 4))).shape == (1, 2, 4, 4)
    assert conv.label == "first" and conv.backward(np.ones((1, 2, 4, 4))).sum() == 2 * 100
    assert type(pickle.loads(pickle.dumps(conv))) is module.Convolution
    why = "your own, beside what is served of the class"
    assert theirs("common.layers.Convolution.__init__") == why
    assert "Convolution" in served("common.layers")


def test_own_methods_beside_the_books(reader):
    change(
        reader,
        "common.layers",
        "class Affine:\n",
        "class Affine:\n    name = 'affine'\n\n    def learning(self, rate):\n"
        "        self.W -= rate * self.dW\n\n",
    )
    module = load("common.layers")
    layer = module.Affine(np.eye(2), np.zeros(2))
    assert isinstance(layer, layers.Affine) and layer.name == "affine"
    layer.forward(np.ones((1, 2)))
    layer.backward(np.ones((1, 2)))
    layer.learning(1.0)
    np.testing.assert_array_equal(layer.W, [[0.0, -1.0], [-1.0, 0.0]])


def test_an_own_default_of_an_optimizer(reader):
    change(reader, "common.optimizer", "beta2=0.999", "beta2=0.99")
    adam = load("common.optimizer").Adam()
    assert isinstance(adam, optimizer.Adam) and adam.beta2 == 0.99
    params, reference = {"W": np.ones(3)}, {"W": np.ones(3)}
    plain = optimizer.Adam(beta2=0.99)
    for _ in range(3):
        adam.update(params, {"W": params["W"] * 2})
        plain.update(reference, {"W": reference["W"] * 2})
    np.testing.assert_array_equal(params["W"], reference["W"])


@pytest.mark.parametrize(
    "new, why",
    [
        (
            "class Affine:\n    groups = 2\n    def set(self):\n        self.x = 0\n",
            "sets x elsewhere",
        ),
        ("class Affine:\n    backend = 'mine'\n", "sets backend"),
        ("class Affine:\n    def forget(self):\n        pass\n", "sets forget"),
        ("class Affine:\n    frozen = True\n", "sets frozen"),
        (
            "class Affine:\n    def again(self):\n        return super().__init__()\n",
            "has its own again",
        ),
    ],
)
def test_parts_that_cannot_go_with_ours(reader, new, why):
    """A name that means something to fastconv's layer, or state that only the book's would read."""
    change(reader, "common.layers", "class Affine:\n", new)
    module = load("common.layers")
    assert module.Affine.__bases__ == (object,)
    assert theirs("common.layers.Affine") == f"your own, which {why}: it runs in NumPy"


def test_another_name_for_a_method_keeps_the_class(reader):
    change(
        reader,
        "common.layers",
        "        return np.where(self.mask, 0, dout)\n",
        "        return np.where(self.mask, 0, dout)\n\n    __call__ = forward\n",
    )
    module = load("common.layers")
    assert module.Relu()(np.array([-1.0])) == 0.0
    assert module.Relu.__bases__ == (object,)


# ---- editions -----------------------------------------------------------------------------------


@pytest.fixture
def register(monkeypatch, reader):
    """The reader's own file as an edition of some date."""

    def add(module, name, date):
        library = source.Library(
            lambda m: reader.joinpath(*m.split(".")).with_suffix(".py"), make_editions._ByName()
        )
        table = json.loads(json.dumps(editions.EDITIONS))
        for part, value in make_editions.fingerprints(library.module(module), name):
            table[module][name][part][value] = date
        book = Book(table)
        monkeypatch.setattr(finder, "Library", lambda find: source.Library(find, book))

    return add


def test_the_stride_of_a_newer_pooling(register, reader):
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    assert load("common.layers").Pooling(2, 2).forward(x).shape == (1, 1, 3, 3)
    fastconv.uninstall()
    change(reader, "common.layers", "pool_w, stride=1", "pool_w, stride=2")
    register("common.layers", "Pooling", "2020-09-14")
    module = load("common.layers")
    assert module.Pooling(2, 2).forward(x).shape == (1, 1, 2, 2)
    assert module.Pooling(2, 2, 1).forward(x).shape == (1, 1, 3, 3)
    assert issubclass(module.Pooling, layers.Pooling) and "Pooling" in served("common.layers")
    assert type(pickle.loads(pickle.dumps(module.Pooling(2, 2)))) is module.Pooling


def test_the_older_nesterov(register, reader):
    def three_steps():
        p = {"W": np.array([1.0, -2.0])}
        update = load("common.optimizer").Nesterov(lr=0.1).update
        for _ in range(3):
            update(p, {"W": 2 * p["W"]})
        return p["W"]

    np.testing.assert_allclose(three_steps(), [-0.1084, 0.2167], atol=1e-4)
    fastconv.uninstall()
    change(
        reader,
        "common.optimizer",
        "            params[key] += m * m * self.v[key] - (1 + m) * self.lr * grads[key]\n"
        "            self.v[key] = m * self.v[key] - self.lr * grads[key]\n",
        "            self.v[key] = m * self.v[key] - self.lr * grads[key]\n"
        "            params[key] += m * m * self.v[key] - (1 + m) * self.lr * grads[key]\n",
    )
    register("common.optimizer", "Nesterov", "2016-07-07")
    np.testing.assert_allclose(three_steps(), [-0.1687, 0.3374], atol=1e-4)
    assert "Nesterov" in served("common.optimizer")


def test_a_loss_without_the_small_number(register, reader):
    """The layer that calls it has its loss too."""
    y, t = np.array([[1.0, 0.0]]), np.array([1])
    module = load("common.layers")
    assert module.cross_entropy_error(y, t) == pytest.approx(16.118, abs=1e-3)
    assert module.SoftmaxWithLoss is layers.SoftmaxWithLoss
    fastconv.uninstall()
    change(reader, "common.functions", "np.log(picked + 1e-7)", "np.log(picked)")
    register("common.functions", "cross_entropy_error", "2016-07-07")
    module = load("common.layers")
    with np.errstate(divide="ignore"):
        assert module.cross_entropy_error(y, t) == np.inf
        last = module.SoftmaxWithLoss()
        assert issubclass(module.SoftmaxWithLoss, layers.SoftmaxWithLoss)
        assert last.forward(np.array([[1000.0, 0.0]]), t) == np.inf == last.loss
        assert module.softmax_loss(np.array([[1000.0, 0.0]]), t) == np.inf
    np.testing.assert_array_equal(last.backward(), [[1.0, -1.0]])
    scores = np.array([[0.5, -1.0, 2.0], [0.0, 0.25, 1.0]])
    expected = -np.log(np.exp(scores)[[0, 1], [2, 0]] / np.exp(scores).sum(1)).mean()
    for labels in (np.array([2, 0]), np.array([[0, 0, 1], [1, 0, 0]])):
        np.testing.assert_allclose(last.forward(scores, labels), expected, rtol=1e-14)
    assert module.cross_entropy_error(np.array([0.5, 0.5]), np.array([0, 1])) == -np.log(0.5)


def test_the_older_softmax_takes_all_of_an_array_of_three_axes(register, reader):
    change(reader, "common.functions", "e = np.exp(x - np.max(x, axis=-1, keepdims=True))", "e = x")
    register("common.functions", "softmax", "2016-07-07")
    softmax = load("common.functions").softmax
    x = np.arange(8.0).reshape(2, 2, 2)
    np.testing.assert_allclose(softmax(x), np.exp(x) / np.exp(x).sum(), rtol=1e-14)
    np.testing.assert_array_equal(softmax(x[0]), functions.softmax(x[0]))
    np.testing.assert_array_equal(softmax(x[0, 0]), functions.softmax(x[0, 0]))


def test_the_older_batch_normalisation_of_images(register, reader, rng):
    change(reader, "common.layers", "keep = self.momentum", "keep = self.momentum + 0")
    register("common.layers", "BatchNormalization", "2016-07-07")
    module = load("common.layers")
    size = 2 * 4 * 4
    layer = module.BatchNormalization(rng.random(size) + 0.5, rng.random(size))
    assert isinstance(layer, layers.BatchNormalization)
    x, dout = rng.standard_normal((2, 3, 4, 4)), rng.standard_normal((2, 3, 4, 4))
    flat, d = (a.transpose(1, 0, 2, 3).reshape(3, -1) for a in (x, dout))
    std = np.sqrt(flat.var(0) + 1e-6)
    xn = (flat - flat.mean(0)) / std
    np.testing.assert_allclose(layer.forward(x).ravel(), (layer.gamma * xn + layer.beta).ravel())
    dx = layer.gamma / std * (d - d.mean(0) - xn * (d * xn).mean(0))
    np.testing.assert_allclose(layer.backward(dout).ravel(), dx.ravel(), atol=1e-9)
    np.testing.assert_allclose(layer.dgamma, (d * xn).sum(0))
    assert layer.forward(x, train_flg=False).shape == x.shape
    rows = rng.standard_normal((5, size))
    plain = layers.BatchNormalization(layer.gamma, layer.beta)
    layer.running_mean = layer.running_var = None
    np.testing.assert_array_equal(layer.forward(rows), plain.forward(rows))
    np.testing.assert_array_equal(layer.backward(rows), plain.backward(rows))


class Net:
    def __init__(self):
        self.params = {"W": np.ones(1)}

    def gradient(self, x, t):
        return {"W": np.ones(1)}

    def loss(self, x, t):
        return 0.0

    accuracy = loss


def trainer(module, **options):
    x, t = np.zeros((4, 1)), np.zeros(4, int)
    options = {"epochs": 1, "mini_batch_size": 4, "verbose": False} | options
    return module.Trainer(Net(), x, t, x, t, **options)


def test_the_misspelt_keys_of_older_trainers(reader):
    module = load("common.trainer")
    assert type(trainer(module, optimizer="rmsprpo").optimizer) is optimizer.RMSprop
    assert type(trainer(module, optimizer="AddGrad").optimizer) is optimizer.AdaGrad


def test_a_trainer_uses_the_readers_own_optimizer(reader):
    """It looks up the names of its module, as the book's does."""
    change(reader, "common.optimizer", "lr_t * self.m[key]", "self.lr * 0 * self.m[key]")
    module = load("common.trainer")
    own = trainer(module, optimizer="Adam", optimizer_param={"lr": 0.5})
    assert type(own.optimizer) is importlib.import_module("common.optimizer").Adam
    assert own.optimizer.lr == 0.5 and type(own.optimizer).__module__ == "common.optimizer"
    own.train()
    np.testing.assert_array_equal(own.network.params["W"], 1.0)
    assert isinstance(own, fastconv.Trainer) and "Trainer" in served("common.trainer")
    assert type(trainer(module).optimizer) is optimizer.SGD


def test_the_date_of_the_edition(reader):
    load("common.layers")
    assert fastconv.stats()["editions"]["common.layers.Affine"] == "stand-in"
    json.dumps(fastconv.stats())


# ---- wherever it lies ---------------------------------------------------------------------------


@pytest.fixture
def flat(clean, book):
    """The layers and what they need in one folder, by flat names."""
    folder = book / "flat"
    folder.mkdir()
    for name in ("layers", "functions", "util", "optimizer"):
        text = text_of(f"common.{name}").replace("from common.", "from ")
        (folder / f"{name}.py").write_text(text)
    sys.path.insert(0, str(folder))
    yield folder
    for name in ("layers", "functions", "util", "optimizer"):
        sys.modules.pop(name, None)


def test_flat_modules(flat):
    module = load("layers")
    assert module.Convolution is layers.Convolution and module.Pooling is layers.Pooling
    assert set(served("layers")) == {
        *("Relu", "Sigmoid", "Affine", "SoftmaxWithLoss", "Dropout", "BatchNormalization"),
        *("Convolution", "Pooling"),
    }
    assert "im2col" in served("util")
    assert importlib.import_module("optimizer").Adam is optimizer.Adam
    fastconv.uninstall()
    assert "layers" not in sys.modules
    assert importlib.import_module("layers").Convolution.__module__ == "layers"


def test_a_flat_module_with_a_change_names_it(flat):
    (flat / "util.py").write_text(
        text_of("common.util").replace("np.zeros((n, oh", "np.ones((n, oh")
    )
    module = load("layers")
    assert module.Convolution.__module__ == "layers" and module.Affine is layers.Affine
    assert theirs("layers.Convolution").startswith("your own, which calls your own im2col")


@pytest.mark.parametrize(
    "package, relative", [("mine", False), ("src.common", False), ("src.common", True)]
)
def test_packages(clean, tmp_path, package, relative):
    folder = tmp_path.joinpath(*package.split("."))
    folder.mkdir(parents=True)
    for inner in (folder, folder.parent):
        (inner / "__init__.py").write_text("") if inner != tmp_path else None
    for name in ("layers", "functions", "util"):
        new = "from ." if relative else f"from {package}."
        (folder / f"{name}.py").write_text(text_of(f"common.{name}").replace("from common.", new))
    sys.path.insert(0, str(tmp_path))
    module = load(f"{package}.layers")
    assert module.Convolution is layers.Convolution
    assert module.SoftmaxWithLoss is layers.SoftmaxWithLoss


def test_another_module_of_common_and_other_names_of_classes(reader):
    text = text_of("common.layers").replace("class Relu", "class ReLU")
    (reader / "common" / "conv_layers.py").write_text(
        text.replace("class Pooling", "class MaxPooling")
    )
    module = load("common.conv_layers")
    assert module.Convolution is layers.Convolution
    assert issubclass(module.MaxPooling, layers.Pooling) and issubclass(module.ReLU, layers.Relu)
    assert module.MaxPooling.__name__ == "MaxPooling"
    layer = pickle.loads(pickle.dumps(module.MaxPooling(2, 2, 2)))
    assert type(layer) is module.MaxPooling
    assert layer.forward(np.ones((1, 1, 4, 4))).shape == (1, 1, 2, 2)
    assert "MaxPooling" in served("common.conv_layers")


def test_definitions_in_the_script_itself(book):
    imports = "from common.functions import *\nfrom common.util import col2im, im2col\n"
    layers_text = text_of("common.layers").replace(imports, "")
    script = book / "ch07" / "whole.py"
    script.write_text(
        f"import os, sys\nsys.path.append(os.pardir)\n{imports}{layers_text}\n"
        "print(Convolution.__module__, Net if 'Net' in globals() else None)\n"
        "rng = np.random.RandomState(0)\n"
        "conv, pool = Convolution(rng.randn(2, 1, 3, 3), np.zeros(2)), Pooling(2, 2, 2)\n"
        "y = pool.forward(conv.forward(rng.randn(1, 1, 8, 8)))\n"
        "print(y.sum(), conv.backward(pool.backward(np.ones_like(y))).sum())\n"
        "print(sorted(n for n in globals() if n.startswith('__fast')), __name__)\n"
    )
    expected = plainly("whole.py", cwd=script.parent)
    for words in (["whole.py"], ["-m", "whole"]):
        done = python("-m", "fastconv", *words, cwd=script.parent)
        assert done.returncode == 0, done.stderr
        first, rest = done.stdout.split("\n", 1)
        assert first == "fastconv.layers.conv None"
        assert_same_print(rest, expected.split("\n", 1)[1], tolerance=1e-10)
        assert "__main__ (Affine, BatchNormalization, Convolution, " in last_line(done)


def test_an_error_in_a_script_that_is_served_has_its_line(book):
    script = book / "ch07" / "whole.py"
    script.write_text(f"import sys\nsys.path.append('..')\n{text_of('common.layers')}\n1 / 0\n")
    line = len(script.read_text().splitlines())
    done = python("-m", "fastconv", "whole.py", cwd=script.parent)
    assert f'whole.py", line {line}, in <module>' in done.stderr and "1 / 0" in done.stderr


def test_modules_of_installed_packages_are_left_alone(clean, tmp_path):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    text = re.sub(r"from common.*\n", "", text_of("common.layers"))
    (folder / "layers.py").write_text(text)
    sys.path.insert(0, str(folder))
    assert load("layers").Relu.__module__ == "layers"
    assert fastconv.stats()["served"] == {}


def test_modules_without_a_sign_are_not_read(clean, tmp_path, monkeypatch):
    (tmp_path / "tools.py").write_text("class Relu:\n    pass\n")
    sys.path.insert(0, str(tmp_path))
    monkeypatch.setattr(finder.Finder, "_serving", lambda *_: pytest.fail("it was read"))
    assert load("tools").Relu.__module__ == "tools"


def test_a_sum_of_a_thousand_terms(clean, tmp_path):
    terms = " + ".join(["x"] * 900)
    text = f"def im2col(x):\n    return {terms}\nclass Relu:\n    def forward(self, x):\n"
    (tmp_path / "tools.py").write_text(f"{text}        return im2col(x)\n")
    sys.path.insert(0, str(tmp_path))
    assert load("tools").Relu().forward(2) == 1800


def test_a_module_that_python_cannot_read_fails_as_it_would(clean, tmp_path):
    (tmp_path / "tools.py").write_text("def forward(:\n")
    sys.path.insert(0, str(tmp_path))
    with pytest.raises(SyntaxError):
        load("tools")


def test_modules_that_import_each_other(clean, tmp_path):
    (tmp_path / "mine.py").write_text("from tools import *\ndef softmax(x):\n    return x\n")
    (tmp_path / "tools.py").write_text(
        "import numpy as np\nfrom mine import *\nclass Relu:\n"
        "    def forward(self, x):\n        return softmax(x)\n"
    )
    sys.path.insert(0, str(tmp_path))
    assert load("tools").Relu().forward(2) == 2


# ---- by name ------------------------------------------------------------------------------------


def test_serve_all_restores_the_rule_by_name(reader):
    change(reader, "common.layers", "return x * (1.0 - self.dropout_ratio)", "return x")
    fastconv.install(serve_all=True)
    module = importlib.import_module("common.layers")
    assert module.Dropout is layers.Dropout
    assert "common.layers.Dropout" not in fastconv.stats()["theirs"]


@pytest.mark.parametrize(
    "text, name, why",
    [
        (
            "\nclass Convolution:\n    def __init__(self, W, b, stride=1, pad=0, dilation=1):\n"
            "        self.dilation = dilation\n",
            "Convolution",
            "takes dilation: it runs in NumPy",
        ),
        (
            "\nclass Relu:\n    def extra(self):\n        pass\n",
            "Relu",
            "has a method extra: it runs in NumPy",
        ),
        ("\ndef Dropout(x):\n    return x\n", "Dropout", "is a function here, at no cost"),
    ],
)
def test_serve_all_leaves_what_ours_cannot_stand_in_for(reader, text, name, why):
    path = reader / "common" / "layers.py"
    path.write_text(f"import numpy as np\n\nclass Affine:\n    pass\n{text}")
    fastconv.install(serve_all=True)
    module = importlib.import_module("common.layers")
    assert module.Affine is layers.Affine
    assert getattr(module, name).__module__ == "common.layers"
    assert fastconv.stats()["theirs"] == {f"common.layers.{name}": f"your own, which {why}"}


def test_a_module_that_is_mapped(flat):
    (flat / "layers.py").write_text("class Affine:\n    pass\nclass Own:\n    pass\n")
    fastconv.install(map={"layers": "common.layers"})
    module = importlib.import_module("layers")
    assert module.Affine is layers.Affine and module.Own.__module__ == "layers"
    assert served("layers") == ["Affine"]


def test_wrong_maps(flat):
    with pytest.raises(ArgumentError, match=r"map 'layers' to one of common\.functions, .*'numpy'"):
        fastconv.install(map={"layers": "numpy"})
    assert not fastconv.is_installed()
    importlib.import_module("layers")
    with pytest.raises(StateError, match="layers imported already"):
        fastconv.install(map={"layers": "common.layers"})
    assert not fastconv.is_installed()


def test_the_options_of_the_command(book):
    change(book, "common.layers", "return x * (1.0 - self.dropout_ratio)", "return x")
    folder = book / "ch04"
    (folder / "mine.py").write_text("class Affine:\n    pass\n")
    (folder / "show.py").write_text(
        "from common.layers import Dropout\nfrom mine import Affine\n"
        "print(Dropout.__module__, Affine.__module__)\n"
    )
    done = python("-m", "fastconv", "show.py", cwd=folder)
    assert done.stdout == "common.layers mine\n", done.stderr
    done = python("-m", "fastconv", "--serve-all", "show.py", cwd=folder)
    assert done.stdout == "fastconv.layers.dropout mine\n", done.stderr
    done = python("-m", "fastconv", "--map", "mine=common.layers", "show.py", cwd=folder)
    assert done.stdout == "common.layers fastconv.layers.dense\n", done.stderr
    for words, message in (
        (["--map", "mine", "show.py"], "expected MODULE=COMMON.X, got 'mine'"),
        (["--map", "mine=numpy", "show.py"], "map 'mine' to one of common.functions"),
    ):
        done = python("-m", "fastconv", *words, cwd=folder)
        assert done.returncode == 2 and message in done.stderr


# ---- the table ----------------------------------------------------------------------------------


def test_make_editions(tmp_path, monkeypatch):
    """A folder without a history gives the fingerprints of the stand-in in the table."""
    target = tmp_path / "editions.py"
    monkeypatch.setattr(editions, "__file__", str(target))
    assert make_editions.main([str(BOOK)]) == 0
    made = {}
    exec(target.read_text(), made)
    for module, definitions in made["EDITIONS"].items():
        for name, parts in definitions.items():
            for part, values in parts.items():
                for value in values:
                    assert value in editions.EDITIONS[module][name][part], (name, part)


def test_what_only_the_readers_function_takes(reader):
    """A number, integers, complex numbers: as the book's own code has them."""
    plain = {}
    for name in ("functions", "gradient"):
        exec((reader / "common" / f"{name}.py").read_text(), plain)
    module, gradient = load("common.functions"), importlib.import_module("common.gradient")
    for value in (0.5, 2, np.array(0.25), np.array([1, -2]), np.array([1j, 2.0])):
        for name in ("sigmoid", "sigmoid_grad", "softmax", "relu", "step_function"):
            if name in ("relu", "step_function") and np.iscomplexobj(value):
                continue
            expected, actual = plain[name](value), getattr(module, name)(value)
            assert type(actual) is type(expected), (name, value)
            assert np.asarray(actual).dtype == np.asarray(expected).dtype
            np.testing.assert_array_equal(actual, expected)
    x = np.array([3, 4])
    for name, at in (("numerical_gradient", x), ("numerical_gradient_2d", x[None])):
        expected = plain[name](lambda a: np.sum(a**2), at)
        np.testing.assert_array_equal(getattr(gradient, name)(lambda a: np.sum(a**2), at), expected)
    assert module.sigmoid.__module__ == "fastconv.functions"
    np.testing.assert_array_equal(module.sigmoid(np.array([-800.0])), [0.0])  # and no warning
