"""Layers in the book's style, which are no `Layer`, in a Network; how things print themselves."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import sys

import numpy as np
import pytest

from fastconv import Trainer, layers, optimizer
from fastconv.datasets import DATASETS
from fastconv.datasets.record import ImageSet, Part
from fastconv.errors import ArgumentError, StateError
from fastconv.gradient import numerical_gradient
from fastconv.models import MODELS, DeepConvNet, default_image, lenet, make_model
from fastconv.network import Network
from fastconv.network.summary import summary
from fastconv.training.averaging import SWA

from .dropin.conftest import BOOK

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(12, 1, 6, 6)), RNG.integers(0, 3, 12)


@pytest.fixture(scope="module")
def book():
    """The book's own module of layers, in plain NumPy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BOOK)
        for name in [name for name in sys.modules if name.partition(".")[0] == "common"]:
            patch.delitem(sys.modules, name)
        spec = importlib.util.spec_from_file_location("the_books_layers", BOOK / "common/layers.py")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module
        for name in [name for name in sys.modules if name.partition(".")[0] == "common"]:
            del sys.modules[name]


def of(module, *more) -> Network:
    """The same network on the layers of a module, with the same weights."""
    rng = np.random.default_rng(1)
    return Network(
        [
            module.Convolution(rng.normal(size=(4, 1, 3, 3)), rng.normal(size=4), 1, 1),
            module.Relu(),
            module.Pooling(2, 2, 2),
            module.BatchNormalization(np.full(36, 1.5), rng.normal(size=36)),
            module.Affine(rng.normal(size=(36, 8)) / 6, np.zeros(8)),
            module.Sigmoid(),
            *more,
            module.Affine(rng.normal(size=(8, 3)), np.zeros(3)),
        ],
        "float64",
    )


def test_the_books_own_layers_go_into_a_network(book):
    theirs, ours = of(book), of(layers)
    assert not any(isinstance(layer, layers.Layer) for layer in theirs.layers)
    assert list(theirs.params) == list(ours.params)
    for _ in range(5):  # long enough for a program to be made, if it could be
        got, expected = theirs.gradient(X, T), ours.gradient(X, T)
        for name, gradient in expected.items():
            np.testing.assert_allclose(got[name], gradient, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(theirs.predict(X), ours.predict(X), rtol=1e-6)
    assert list(theirs.buffers) == list(ours.buffers) == ["running_mean2", "running_var2"]
    np.testing.assert_allclose(theirs.buffers["running_var2"], ours.buffers["running_var2"])
    np.testing.assert_allclose(
        theirs.prepare((12, 1, 6, 6)).predict(X), theirs.predict(X), rtol=1e-12
    )


def test_they_are_told_whether_the_network_trains(book):
    network = of(book, book.Dropout(0.5))
    one, other = network.predict(X, train_flg=True), network.predict(X, train_flg=True)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(network.predict(X), network.predict(X))


def test_they_train_are_frozen_copied_saved_and_counted(book, tmp_path):
    theirs, ours = of(book), of(layers)
    assert theirs.freeze("W1") == ours.freeze("W1") == ["W1", "b1"]
    for network in (theirs, ours):
        Trainer(
            *(network, X, T, X, T, 4, 6, "Adam"), seed=0, verbose=False, averaging=SWA(2)
        ).train()
    np.testing.assert_allclose(theirs.predict(X), ours.predict(X), rtol=1e-6)
    theirs.save_params(tmp_path / "weights.npz")
    for again in (of(book), copy.deepcopy(theirs), pickle.loads(pickle.dumps(theirs))):
        again.load_params(tmp_path / "weights.npz")
        np.testing.assert_array_equal(again.predict(X), theirs.predict(X))
    total = sum(value.size for value in (theirs.params | theirs.frozen_params).values())
    assert f"{total:,}" in summary(theirs, (1, 6, 6)).splitlines()[-1]


class Forgetful:
    """A layer that leaves no gradient."""

    def __init__(self):
        self.gamma = np.ones(3)

    def forward(self, x):
        return x * self.gamma

    def backward(self, dout):
        return dout * self.gamma


class Named(Forgetful):
    """A layer that says what it trains, which has another name."""

    parameter_names = ("scale",)

    def __init__(self):
        super().__init__()
        self.scale = np.array([1.0, 2.0, 3.0])

    def forward(self, x):
        self.x = x
        return x * self.scale

    def backward(self, dout):
        self.dscale = (dout * self.x).sum(axis=0)
        return dout * self.scale


def test_a_gradient_that_is_missing_is_named():
    network = Network([Forgetful()], "float64")
    assert list(network.params) == ["gamma1"]
    with pytest.raises(StateError, match="Forgetful: backward has set no dgamma, the gradient of"):
        network.gradient(X[:, 0, 0, :3], T)


def test_names_that_a_layer_gives_itself_are_the_ones():
    network = Network({"mine": Named()}, "float64")
    assert list(network.params) == ["mine.scale"]
    x = X[:, 0, 0, :3]
    expected = numerical_gradient(lambda _: network.loss(x, T), network.params["mine.scale"])
    np.testing.assert_allclose(network.gradient(x, T)["mine.scale"], expected, atol=1e-5)


# ---- initialisers ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("vgg")][:9])
def test_every_model_takes_initialisers(name):
    network = make_model(name, default_image(name), 10, seed=0, weight_init_std=0.0)
    weights = [value for value in network.params.values() if value.ndim > 1]
    assert weights and not any(value.any() for value in weights)


@pytest.mark.parametrize(
    ("weight_init_std", "deviation"),
    [
        (0.01, lambda fan_in: 0.01),
        ("he", lambda fan_in: (2 / fan_in) ** 0.5),
        ("ReLU", lambda fan_in: (2 / fan_in) ** 0.5),
        ("xavier", lambda fan_in: (1 / fan_in) ** 0.5),
        ("Sigmoid", lambda fan_in: (1 / fan_in) ** 0.5),
    ],
)
def test_the_deviation_of_first_weights(weight_init_std, deviation):
    params = lenet(weight_init_std=weight_init_std, seed=0, dtype="float64").params
    for name in ("conv2.weight", "fc1.weight"):  # (16, 6, 5, 5), and (400, 120) in memory
        fan_in = params[name][0].size if params[name].ndim == 4 else params[name].shape[0]
        assert params[name].std() == pytest.approx(deviation(fan_in), rel=0.05)
    assert not params["fc1.bias"].any()


@pytest.mark.parametrize("weight_init_std", ["hee", -0.1, np.nan, np.inf, [0.1]])
def test_initialisers_that_are_none(weight_init_std):
    with pytest.raises(ArgumentError, match=r"^lenet: weight_init_std must be a number of at .*he"):
        lenet(weight_init_std=weight_init_std)


def test_without_an_initialiser_weights_are_as_before():
    mine = DeepConvNet(seed=0, weight_init_std="he").params
    assert all(np.array_equal(mine[name], it) for name, it in DeepConvNet(seed=0).params.items())


# ---- one line, one table ---------------------------------------------------------------------


class OfTheSecondVolume:
    """Its parameters and gradients are lists."""

    def __init__(self):
        self.params, self.grads = [np.ones((36, 3))], [np.zeros((36, 3))]

    def forward(self, x):
        return x.reshape(len(x), -1) @ self.params[0]

    def backward(self, dout):
        return dout @ self.params[0].T


class Forward:
    def forward(self, x):
        return x


def test_a_layer_without_backward_predicts():
    """And comes before what is trained; behind it, backward needs it."""
    x, affine = np.eye(3, dtype="float32"), layers.Affine(np.ones((3, 3)), np.zeros(3))
    np.testing.assert_array_equal(Network([Forward()]).predict(x), x)
    assert Network([Forward(), affine]).gradient(x, np.arange(3))["W1"].any()
    with pytest.raises(ArgumentError, match=r"^Network\.gradient: .*Forward.* has no backward"):
        Network([affine, Forward()]).gradient(x, np.arange(3))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([layers.Relu(), layers.Relu], r"layer 1 is a class, expected .*: Relu\(\.\.\.\)"),
        ({"last": np.tanh}, "layer last, of the type ufunc, has no forward"),
        ([layers.Chain({"0": "Relu"})], "layer 0.0, of the type str, has no forward: 'Relu'"),
        ([layers.SoftmaxWithLoss()], "layer 0 is a SoftmaxWithLoss: leave it out"),
        ([OfTheSecondVolume()], "has its parameters in `params`, where they would not be trained"),
        (layers.Relu(), "expected layers in a list or a dict, got Relu"),
        ("Relu", "expected layers in a list or a dict, got 'Relu'"),
    ],
)
def test_what_is_no_layer_is_refused(given, said):
    with pytest.raises(ArgumentError, match=f"^Network: .*{said}"):
        Network(given)


def test_lists_of_parameters_may_be_there_beside_names():
    layer = OfTheSecondVolume()
    layer.W = layer.params[0]
    assert list(Network([layer], "float64").params) == ["W1"]


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (optimizer.Adam(), "Adam(lr=0.001, beta1=0.9, beta2=0.999)"),
        (optimizer.SGD(0.5), "SGD(lr=0.5, weight_decay=0.0, decayed=None)"),
        (
            Trainer(Network([], "float64"), X, T, X, T, 2, 6, verbose=False, optimizer="AdaGrad"),
            "Trainer(Network(0 layers, 0 parameters, float64), 12 samples, AdaGrad(lr=0.01), "
            "step 0 of 4)",
        ),
        (layers.Affine(np.zeros((4, 3)), np.zeros(3)), "Affine(W (4, 3), b (3,))"),
        (layers.Affine(np.zeros((4, 3))), "Affine(W (4, 3))"),
        (layers.Affine(np.zeros((4, 3)), 0.5), "Affine(W (4, 3), b ())"),
        (
            layers.Convolution(np.zeros((8, 1, 3, 3)), np.zeros(8), pad=1),
            "Convolution(W (8, 1, 3, 3), b (8,), pad=1)",
        ),
        (layers.Pooling(2, 2, 2), "Pooling(pool_h=2, pool_w=2, stride=2)"),
        (layers.Relu(backend="numpy"), "Relu(backend=numpy)"),
        (layers.Relu(), "Relu()"),
        (layers.Dropout(0.3), "Dropout(dropout_ratio=0.3)"),
        (
            layers.BatchNormalization2d(np.ones(4), np.zeros(4)),
            "BatchNormalization2d(gamma (4,), beta (4,))",
        ),
        (layers.Chain([layers.Relu(), layers.Chain([])]), "Chain(Relu, Chain)"),
        (layers.Chain([layers.Relu()] * 7), "Chain(7 layers)"),
        (Network([], "float64", "numpy"), "Network(0 layers, 0 parameters, float64, numpy)"),
        (
            make_model("lenet", (1, 28, 28), 10, seed=0),
            "Network(lenet, 11 layers, 61,706 parameters, float32)",
        ),
        (
            DATASETS["kmnist"],
            "Dataset(1 x 28 x 28; 10 classes: o, ki, su, tsu, na and 5 more)",
        ),
        (
            Part(np.zeros((1200, 1, 8, 9), np.float32), np.zeros(1200, int)),
            "Part(1,200 images of 1 x 8 x 9, float32)",
        ),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_a_line(thing, text):
    assert repr(thing) == text


def test_a_layer_that_calls_no_constructor_prints_itself():
    class Mine(layers.Affine):
        def __init__(self, size, unknown=3):
            pass

    assert repr(Mine(3)) == "Mine(W (), b ())"


def test_frozen_parameters_are_counted_apart():
    network = lenet(seed=0)
    network.freeze("conv*")
    assert repr(network) == "Network(11 layers, 59,134 parameters, 2,572 frozen, float32)"


def test_a_network_is_a_table_in_a_notebook(book):
    page = Network({"<fc>": book.Affine(np.zeros((4, 3)), np.zeros(3))})._repr_html_()
    assert page == (
        "<p>Network(1 layer, 15 parameters, float32)</p><table>"
        "<tr><th>name</th><th>layer</th><th>parameters</th></tr>"
        "<tr><td>&lt;fc&gt;</td><td>Affine(W (4, 3), b (3,))</td><td>15</td></tr></table>"
    )


def test_a_data_set_in_a_line_and_as_a_table():
    def part(*labels):
        return Part(np.zeros((len(labels), 3, 4, 5), np.float32), np.array(labels))

    images = ImageSet(part(0, 0, 1), part(1), None, ("cat", "<dog>"))
    text = "ImageSet(3 for train, 1 for test; 3 x 4 x 5; 2 classes: cat, &lt;dog&gt;)"
    assert repr(images) == text.replace("&lt;", "<").replace("&gt;", ">")
    assert images._repr_html_() == (
        f"<p>{text}</p><table><tr><th>class</th><th>train</th><th>test</th></tr>"
        "<tr><td>cat</td><td>2</td><td>0</td></tr><tr><td>&lt;dog&gt;</td><td>1</td><td>1</td></tr>"
        "</table>"
    )
