"""ONNX models of graphs: containers, and the models that are made of them."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import models
from fastconv.errors import ArgumentError, ShapeError
from fastconv.io import export_onnx
from fastconv.layers import (
    AuxiliaryHead,
    BatchNormalization2d,
    Branches,
    Chain,
    GlobalAveragePooling,
    Pooling,
    Relu,
    Shortcut,
    Subsampling,
)
from fastconv.network import Network

from .onnx_session import Session, affine, assert_same, convolution, images

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")


def kept_size(filters: int, channels: int, seed: int = 0):
    return convolution(filters, channels, pad=1, seed=seed)


def block() -> Branches:
    pooled = Chain([Pooling(3, 3, 1, 1), convolution(2, 2, (1, 1), seed=2)])
    return Branches({"a": kept_size(3, 2), "b": Chain([kept_size(5, 2, 1), Relu()]), "c": pooled})


GRAPHS = {
    "chain": [Chain([convolution(), Relu()]), Chain([Pooling(2, 2)])],
    "branches": [block(), Relu()],
    "the input beside its own pooling": [Branches([Chain([]), Pooling(3, 3, 1, 1)])],
    "branches in branches": [Branches([block(), Chain([block(), kept_size(1, 10)])])],
    "identity shortcut": [convolution(), Shortcut([kept_size(4, 4)]), Relu()],
    "shortcut first": [Shortcut([kept_size(2, 2)])],
    "projection": [
        Shortcut({"": convolution(4, 2, stride=2, pad=1), "p": convolution(4, 2, (1, 1), 2)})
    ],
    "subsampling": [Shortcut([convolution(7, 2, stride=2, pad=1), Subsampling(2, 5)])],
    "head": [
        convolution(),
        AuxiliaryHead([GlobalAveragePooling(), affine(4)]),
        GlobalAveragePooling(),
        affine(4, 5),
    ],
}


@pytest.mark.parametrize("open_size", [False, True], ids=["fixed", "open"])
@pytest.mark.parametrize("name", GRAPHS)
def test_containers(tmp_path, name, open_size):
    network = Network(GRAPHS[name], "float32")
    export_onnx(network, tmp_path / "m.onnx", input_shape=None if open_size else (2, 8, 7))
    session = Session(tmp_path / "m.onnx")
    for batch in (1, 3):
        x = images(batch, 2, 8, 7)
        assert_same(session(x), network.predict(x))


def trained(network: Network) -> Network:
    """With statistics, scales and biases that are not 0 and 1."""
    rng = np.random.default_rng(5)
    for _, layer, name in network.named_arrays():
        value = getattr(layer, name)
        if isinstance(layer, BatchNormalization2d):
            low, high = (-0.3, 0.3) if name in ("beta", "running_mean") else (0.5, 1.5)
            setattr(layer, name, rng.uniform(low, high, value.shape).astype(value.dtype))
        elif name == "b":
            value += rng.uniform(-0.3, 0.3, value.shape)
    return network


MODELS = {
    "lenet": (1, 28, 28),
    "resnet18": (3, 40, 56),
    "digitnet5": (1, 28, 28),
    "resnet20": (3, 32, 32),
    "resnet50": (3, 64, 64),
    "googlenet": (3, 64, 48),
    "vgg11_bn": (3, 40, 72),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(tmp_path, monkeypatch, name):
    monkeypatch.setattr("fastconv.models.vgg.HIDDEN", 64)
    shape = MODELS[name]
    network = trained(models.make_model(name, shape, 7, seed=1))
    export_onnx(network, tmp_path / "m.onnx", input_shape=shape)
    x = images(2, *shape)
    assert_same(Session(tmp_path / "m.onnx")(x), network.predict(x))


def test_images_of_any_size(tmp_path):
    network = trained(models.resnet20(4, seed=1))
    export_onnx(network, tmp_path / "m.onnx")
    session = Session(tmp_path / "m.onnx")
    for size in ((32, 32), (41, 27)):
        x = images(2, 3, *size)
        assert_same(session(x), network.predict(x))


def test_auxiliary_heads_are_left_out(tmp_path):
    network = trained(models.googlenet(5, aux_logits=True, seed=1))
    export_onnx(network, tmp_path / "m.onnx", input_shape=(3, 64, 64))
    x = images(2, 3, 64, 64)
    assert_same(Session(tmp_path / "m.onnx")(x), network.predict(x))
    names = {tensor.name for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert not any(name.startswith("aux") for name in names)


def test_arrays_are_those_of_the_networks_state(tmp_path):
    network = trained(models.resnet18(5, seed=1))
    export_onnx(network, tmp_path / "m.onnx", input_shape=(3, 40, 40))
    graph = onnx.load(tmp_path / "m.onnx").graph
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    state = network.state()
    assert set(found) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_layer_in_two_places_has_its_arrays_once(tmp_path):
    twice = kept_size(2, 2)
    network = Network({"first": twice, "relu": Relu(), "second": twice}, "float32")
    export_onnx(network, tmp_path / "m.onnx", input_shape=(2, 6, 6))
    x = images(2, 2, 6, 6)
    assert_same(Session(tmp_path / "m.onnx")(x), network.predict(x))
    assert len(onnx.load(tmp_path / "m.onnx").graph.initializer) == 2


class HalfRelu(Relu):
    def forward(self, x):
        return super().forward(x) / 2


class Doubled(Shortcut):
    def forward(self, x, train_flg=True):
        return 2 * super().forward(x, train_flg)


def test_what_cannot_be_exported_is_named_by_its_place(tmp_path):
    inside = {"stage": Chain({"conv": convolution(), "act": HalfRelu()})}
    with pytest.raises(ArgumentError, match=r"layer stage\.act \(HalfRelu\) cannot be exported"):
        export_onnx(Network(inside), tmp_path / "m.onnx")
    in_a_row = [convolution(), Branches([Relu(), Chain([HalfRelu()])])]
    with pytest.raises(ArgumentError, match=r"layer 2\.1\.0 \(HalfRelu\) cannot be exported"):
        export_onnx(Network(in_a_row), tmp_path / "m.onnx")
    with pytest.raises(ArgumentError, match=r"layer 1 \(Doubled\) cannot be exported"):
        export_onnx(Network([Doubled([kept_size(2, 2)])]), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


BAD = {
    "sizes": (Branches([convolution(), kept_size(4, 2)]), r"layer 1 \(Branches\) .* 5 and 7"),
    "channels": (Shortcut([kept_size(4, 2)]), r"layer 1 \(Shortcut\) joins the lengths 4 and 2"),
    "images and numbers": (
        Branches([kept_size(4, 2), affine(98)]),
        r"layer 1 \(Branches\) joins the shapes \(4, 7, 7\) and \(3,\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_ways_that_do_not_meet(tmp_path, name):
    layer, message = BAD[name]
    with pytest.raises(ShapeError, match=message):
        export_onnx(Network([layer]), tmp_path / "m.onnx", input_shape=(2, 7, 7))
    assert not list(tmp_path.iterdir())
