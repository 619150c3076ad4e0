"""ONNX models of our networks give our outputs in ONNX Runtime, for every layer."""

from __future__ import annotations

import sys
from collections import OrderedDict

import numpy as np
import pytest

import fastconv
from fastconv import DeepConvNet
from fastconv.errors import (
    ArgumentError,
    DTypeError,
    MissingDependency,
    ShapeError,
    StateError,
    WeightsError,
)
from fastconv.functions import softmax
from fastconv.io import export_onnx
from fastconv.layers import (
    Affine,
    BatchNormalization,
    Convolution,
    Dropout,
    Elu,
    Gelu,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
    Relu,
    Sigmoid,
    Silu,
    SoftmaxWithLoss,
    Tanh,
)
from fastconv.models import resnet20
from fastconv.network import Network

from .onnx_session import Session, affine, assert_same, convolution, images

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")


def batch_normalization(features: int, *, trained=True) -> BatchNormalization:
    rng = np.random.default_rng(features)
    gamma, beta, mean = rng.standard_normal((3, features)).astype(np.float32)
    variance = rng.uniform(0.1, 2, features).astype(np.float32)
    statistics = {"running_mean": mean, "running_var": variance} if trained else {}
    return BatchNormalization(gamma, beta, **statistics)


CHAINS = {
    "convolution": ([convolution()], (2, 7, 6)),
    "convolution 1x1": ([convolution(size=(1, 1))], (2, 5, 5)),
    "convolution 2x3, stride 2, pad 2": (
        [convolution(size=(2, 3), stride=2, pad=2)],
        (2, 8, 9),
    ),
    "pooling": ([Pooling(2, 2, 2)], (3, 7, 6)),
    "pooling 3x2, stride 1, pad 1": ([Pooling(3, 2, 1, 1)], (3, 7, 6)),
    "affine": ([affine(6)], (6,)),
    "affine of images": ([affine(24)], (2, 3, 4)),
    "no biases": (
        [Convolution(convolution().W), Relu(), Affine(affine(80).W)],
        (2, 7, 6),
    ),
    "groups": (
        [Convolution(convolution(6, 1).W, groups=3), Convolution(convolution(4, 3).W, groups=2)],
        (3, 9, 8),
    ),
    "same, and padding by side": (
        [
            convolution(2, 2, (3, 2), 1, "same"),
            convolution(3, 2, (2, 3), 1, ((0, 1), (2, 0))),
            Pooling(3, 2, 1, "same"),
        ],
        (2, 15, 14),
    ),
    "two strides": (
        [convolution(stride=(2, 1), pad=(1, 0)), Pooling(2, 2, (1, 2), ((0, 1), (0, 0)))],
        (2, 8, 9),
    ),
    "dilation": ([Convolution(convolution().W, None, 2, 1, dilation=2)], (2, 9, 8)),
    "local response": (
        [Pooling(2, 2), LocalResponseNormalization(3, 0.8, 0.6, 1.5)],
        (5, 3, 4),
    ),
    "activations": (
        [affine(6, 9), Tanh(), LeakyRelu(0.3), Elu(1.2), Gelu(), Silu(), Dropout(inverted=True)],
        (6,),
    ),
    "two affine": ([affine(6, 5), Relu(), affine(5)], (6,)),
    "sigmoid": ([affine(6, 5), Sigmoid(), affine(5)], (6,)),
    "dropout": ([affine(6, 5), Dropout(0.3), affine(5), Dropout(0.5)], (6,)),
    "batch normalization": ([affine(6, 5), batch_normalization(5), Relu()], (6,)),
    "batch normalization of images": (
        [convolution(), batch_normalization(4 * 5 * 4), Relu(), affine(80)],
        (2, 7, 6),
    ),
    "images to the end": ([convolution(), batch_normalization(80), Pooling(2, 2)], (2, 7, 6)),
}


@pytest.mark.parametrize("open_size", [False, True], ids=["fixed", "open"])
@pytest.mark.parametrize("name", CHAINS)
def test_every_layer(tmp_path, name, open_size):
    layers, shape = CHAINS[name]
    network = Network(layers, "float32")
    export_onnx(network, tmp_path / "m.onnx", input_shape=None if open_size else shape)
    session = Session(tmp_path / "m.onnx")
    for batch in (1, 5):
        x = images(batch, *shape)
        if open_size and name == "affine of images":
            x = x.reshape(batch, -1)  # only input_shape says that they are images
        assert_same(session(x), network.predict(x))


def test_deep_convnet(tmp_path):
    network = DeepConvNet(seed=1)
    network.save_params(tmp_path / "w.npz")
    export_onnx(network, tmp_path / "m.onnx")
    session = Session(tmp_path / "m.onnx")
    for batch in (1, 3, 16):
        x = images(batch, 1, 28, 28, seed=batch)
        assert_same(session(x), network.predict(x))


def test_deep_convnet_in_float64(tmp_path):
    """Rounded to float32, for which 1e-5 leaves room."""
    network = DeepConvNet(seed=1, dtype="float64")
    export_onnx(network, tmp_path / "m.onnx", input_shape=(1, 28, 28))
    x = images(4, 1, 28, 28)
    assert_same(Session(tmp_path / "m.onnx")(x), network.predict(x))


def test_softmax(tmp_path):
    network = DeepConvNet(seed=1)
    export_onnx(network, tmp_path / "m.onnx", softmax=True)
    x = images(4, 1, 28, 28)
    shares = Session(tmp_path / "m.onnx")(x)
    assert_same(shares, softmax(network.predict(x)))
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)


def test_statistics_of_training_are_exported(tmp_path):
    network = Network(
        [affine(6, 5), BatchNormalization(np.ones(5, "f4"), np.zeros(5, "f4")), affine(5)],
        "float32",
    )
    for step in range(20):
        network.gradient(images(30, 6, seed=step) * 3 + 1, np.arange(30) % 3)
    export_onnx(network, tmp_path / "m.onnx")
    x = images(7, 6, seed=99)
    assert_same(Session(tmp_path / "m.onnx")(x), network.predict(x))


class BooksNet:
    """A network as the book writes it: layers by name."""

    def __init__(self, backwards=False):
        self.layers = OrderedDict(
            Conv1=convolution(3, 1), Relu1=Relu(), Pool1=Pooling(2, 2, 2), Affine1=affine(3 * 9)
        )
        self.last_layer = SoftmaxWithLoss()
        self.sign = -1 if backwards else 1

    def predict(self, x):
        for layer in self.layers.values():
            x = layer.forward(x)
        return self.sign * x


def test_a_network_of_the_books_form(tmp_path):
    export_onnx(BooksNet(), tmp_path / "m.onnx", input_shape=(1, 8, 8))
    x = images(3, 1, 8, 8)
    assert_same(Session(tmp_path / "m.onnx")(x), BooksNet().predict(x))


def test_a_predict_that_does_more_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"BooksNet\.predict does something other"):
        export_onnx(BooksNet(backwards=True), tmp_path / "m.onnx", input_shape=(1, 8, 8))
    assert not list(tmp_path.iterdir())


def test_a_network_is_exported_in_any_math_mode(tmp_path):
    """In bf16, predict and its layers in a row round different numbers."""
    network = resnet20(seed=0)
    x = images(2, 3, 8, 8)
    expected = network.predict(x)
    fastconv.set_math_mode("bf16")
    with fastconv.use_backend("numpy"):
        export_onnx(network, tmp_path / "m.onnx", input_shape=(3, 8, 8))
    assert_same(Session(tmp_path / "m.onnx")(x), expected)
    with pytest.raises(ArgumentError, match="does something other"):
        export_onnx(BooksNet(backwards=True), tmp_path / "n.onnx", input_shape=(1, 8, 8))


def test_the_model_says_what_it_is(tmp_path):
    export_onnx(DeepConvNet(seed=0), tmp_path / "m.onnx", input_shape=(1, 28, 28))
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.producer_name == "fastconv"
    (put,), (out,) = model.graph.input, model.graph.output

    def dims(value):
        return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]

    assert (put.name, dims(put)) == ("input", ["batch", 1, 28, 28])
    assert (out.name, dims(out)) == ("scores", ["batch", 10])
    names = [f"{kind}{number}" for number in range(1, 9) for kind in "Wb"]
    weights = [t.name for t in model.graph.initializer if not t.name.startswith("kept")]
    assert weights == names
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


class Swish:
    parameter_names = ()
    backend = None

    def forward(self, x):
        return x / (1 + np.exp(-x))


class HalfRelu(Relu):
    def forward(self, x):
        return super().forward(x) / 2


class NamedRelu(Relu):
    """A subclass that computes what its base does."""


@pytest.mark.parametrize("layer", [Swish(), HalfRelu()])
def test_a_layer_that_cannot_be_exported_is_named(tmp_path, layer):
    network = Network([affine(6), layer], "float32")
    message = rf"layer 2 \({type(layer).__name__}\) cannot be exported; known are Affine, "
    with pytest.raises(ArgumentError, match=message):
        export_onnx(network, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_subclass_with_its_bases_forward_is_the_base(tmp_path):
    network = Network([affine(6), NamedRelu()], "float32")
    export_onnx(network, tmp_path / "m.onnx")
    x = images(3, 6)
    assert_same(Session(tmp_path / "m.onnx")(x), network.predict(x))


BAD = [
    ([affine(6), affine(6)], None, {}, ShapeError, r"layer 2 \(Affine\) expects 6 numbers"),
    ([affine(6)], (7,), {}, ShapeError, r"expects 6 numbers for each sample, got 7"),
    ([convolution()], (3, 7, 7), {}, ShapeError, "expects 2 channels"),
    ([convolution()], (7,), {}, ShapeError, "expects 2 channels"),
    ([convolution()], (2, 2, 7), {}, ShapeError, "larger than the padded image"),
    ([affine(6), Pooling(2, 2)], None, {}, ShapeError, "expects images"),
    ([convolution()], (2, 7, 7), {"softmax": True}, ShapeError, "softmax of scores"),
    ([Relu()], None, {}, ArgumentError, "pass input_shape"),
    ([affine(6)], (2, 3), {}, ArgumentError, r"must be \(D,\) or \(C, H, W\)"),
    ([affine(6)], (0,), {}, ArgumentError, "input_shape must be at least 1"),
    ([], None, {}, ArgumentError, "expected a network with a list or dict of layers"),
    (
        [affine(6, 5), batch_normalization(5, trained=False)],
        None,
        {},
        StateError,
        r"layer 2 \(BatchNormalization\) has no running statistics",
    ),
]


@pytest.mark.parametrize(("layers", "shape", "more", "error", "message"), BAD)
def test_bad_input(tmp_path, layers, shape, more, error, message):
    with pytest.raises(error, match=message):
        export_onnx(Network(layers), tmp_path / "m.onnx", input_shape=shape, **more)
    assert not list(tmp_path.iterdir())


def test_something_that_is_no_network(tmp_path):
    with pytest.raises(ArgumentError, match="expected a network with a list or dict of layers"):
        export_onnx({"W1": np.ones(2)}, tmp_path / "m.onnx")


def test_another_ending(tmp_path):
    with pytest.raises(ArgumentError, match=r"m\.pb must end in \.onnx"):
        export_onnx(DeepConvNet(), tmp_path / "m.pb")


def test_numbers_beyond_float32(tmp_path):
    layer = affine(6, dtype="float64")
    layer.W[0, 0] = 1e300
    with pytest.raises(DTypeError, match=r"W1 of layer 1 \(Affine\) has numbers beyond"):
        export_onnx(Network([layer], "float64"), tmp_path / "m.onnx")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("place", "name", "message"),
    [
        (0, "W", r"W1 of layer 1 \(Affine\) has 1 of 30 numbers that are NaN or infinite"),
        (0, "b", r"b1 of layer 1 \(Affine\) has 1 of 5 numbers"),
        (1, "gamma", r"gamma2 of layer 2 \(BatchNormalization\) has 1 of 5"),
        (1, "running_var", r"running_var2 of layer 2 \(BatchNormalization\) has 1 of 5"),
    ],
)
def test_weights_of_a_run_that_has_diverged_are_named(tmp_path, place, name, message, value):
    layers = [affine(6, 5), batch_normalization(5)]
    getattr(layers[place], name).flat[3] = value
    with pytest.raises(WeightsError, match=message):
        export_onnx(Network(layers, "float32"), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_package_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependency, match=r"pip install onnx"):
        export_onnx(DeepConvNet(), tmp_path / "m.onnx")
