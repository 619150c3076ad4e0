"""Layers made of layers: alone, and inside a plan that runs them differently."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from fastconv.errors import ArgumentError, ShapeError, StateError
from fastconv.layers import (
    Affine,
    AuxiliaryHead,
    BatchNormalization2d,
    Branches,
    Chain,
    Convolution,
    Pooling,
    Relu,
    Shortcut,
    Subsampling,
)
from fastconv.layers.tree import leaves
from fastconv.network import Network
from fastconv.network.executor import Executor
from fastconv.network.fusion import FusedRow

from .compare import assert_close


def conv(rng, dtype, filters, channels, size=3, stride=1, *, bias=True):
    weight = rng.standard_normal((filters, channels, size, size)) / size
    b = rng.standard_normal(filters).astype(dtype) if bias else None
    return Convolution(weight.astype(dtype), b, stride, size // 2)


def norm(rng, dtype, channels):
    gamma, beta, mean = rng.standard_normal((3, channels)).astype(dtype)
    variance = rng.uniform(0.5, 2, channels).astype(dtype)
    return BatchNormalization2d(gamma, beta, running_mean=mean, running_var=variance)


def graphs(rng, dtype):
    """Layers for images (4, 9, 8), by what is special about them."""

    def c(*numbers, **options):
        return conv(rng, dtype, *numbers, **options)

    def n(channels):
        return norm(rng, dtype, channels)

    def body():
        return Chain([c(4, 4, bias=False), n(4), Relu(), c(4, 4, bias=False), n(4)])

    projected = Chain([c(6, 4, stride=2, bias=False), n(6), Relu(), c(6, 6), n(6)])
    return {
        "normalised convolutions": [c(5, 4, bias=False), n(5), Relu(), c(3, 5), n(3)],
        "normalised and pooled": [c(5, 4), n(5), Relu(), Pooling(2, 2, 2), n(5), Relu()],
        "shortcut and ReLU": [c(4, 4), Relu(), Shortcut([body()]), Relu(), c(4, 4)],
        "shortcut at the end": [Shortcut([body()])],
        "two shortcuts": [Chain([Shortcut([body()]), Relu()]), Chain([Shortcut([body()]), Relu()])],
        "projection": [Shortcut([projected, Chain([c(6, 4, 1, 2, bias=False), n(6)])]), Relu()],
        "subsampling": [Shortcut([projected, Subsampling(2, 2)]), Relu()],
        "shortcut without normalisation": [Shortcut([Chain([c(4, 4), Relu(), c(4, 4)])]), Relu()],
        "shortcut around one layer": [Shortcut([n(4)]), Relu(), Shortcut([c(4, 4)])],
        "branches": [
            c(4, 4),
            Relu(),
            Branches(
                [c(3, 4, 1), Chain([c(2, 4, 1), Relu(), c(4, 2), Relu()]), Pooling(3, 3, 1, 1)]
            ),
            c(2, 11),
        ],
        "branches of branches": [
            Branches([Branches([c(3, 4, 1), c(2, 4)]), Shortcut([body()])]),
            Relu(),
        ],
    }


GRAPHS = sorted(graphs(np.random.default_rng(0), np.float64))


def arrays_of(layers):
    """Every gradient and running statistic below `layers`."""
    found = {}
    for name, layer in leaves(Chain(list(layers))):
        for array in layer.parameter_names:
            found[f"{name}.d{array}"] = getattr(layer, "d" + array)
        for array in layer.buffer_names:
            found[f"{name}.{array}"] = getattr(layer, array)
    return found


def tie(layers, backend):
    Network({str(i): layer for i, layer in enumerate(layers)}, backend=backend)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_executor_gives_what_the_layers_give(backend, dtype, rng, name):
    layers = graphs(rng, dtype)[name]
    tie(layers, backend)
    by_hand = Chain(copy.deepcopy(layers))
    # Behind batch normalisation gradients are small differences of large sums.
    tolerance = 1e-4 if dtype == np.float32 else 1e-11
    executor = Executor()
    for batch in (5, 2, 5):
        x = rng.standard_normal((batch, 4, 9, 8)).astype(dtype)
        kept = x.copy()
        expected = by_hand.forward(x, True)
        got = executor.forward(layers, x, True)
        assert_close(got, expected, dtype=dtype)
        dout = rng.standard_normal(got.shape).astype(dtype)
        by_hand.backward(dout)
        executor.backward(dout)
        wanted = arrays_of(by_hand.layers.values())
        for key, value in arrays_of(layers).items():
            assert_close(value, wanted[key], dtype=dtype, tolerance=tolerance)
        np.testing.assert_array_equal(x, kept)
    x = rng.standard_normal((3, 4, 9, 8)).astype(dtype)
    assert_close(executor.forward(layers, x, False), by_hand.forward(x, False), dtype=dtype)


@pytest.mark.parametrize("name", GRAPHS)
def test_backward_is_the_derivative_of_forward(backend, rng, name):
    graph = Chain(graphs(rng, np.float64)[name])
    tie([graph], backend)
    x = rng.standard_normal((2, 4, 9, 8))
    out = graph.forward(x, True)
    dout, direction = rng.standard_normal(out.shape), rng.standard_normal(x.shape)
    dx = graph.backward(dout)
    step = 1e-6
    above, below = (graph.forward(x + sign * step * direction, True) for sign in (1, -1))
    expected = np.sum((above - below) / (2 * step) * dout)
    assert np.sum(dx * direction) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_what_runs_as_one(rng, backend):
    def groups(layers, train):
        tie(layers, backend)
        found = []
        row = FusedRow(layers, train, watch=lambda group, *_: found.append(len(group.layers)))
        row.forward(np.zeros((1, 4, 9, 8), np.float32), False)
        return found

    cases = graphs(rng, np.float32)
    assert groups(cases["normalised convolutions"], True) == [1, 2, 1, 1]
    assert groups(cases["normalised convolutions"], False) == [3, 2]
    assert groups(cases["normalised and pooled"], False) == [4, 2]
    # In the body: convolution, normalisation with ReLU, convolution, normalisation with the
    # shortcut's sum, which counts as a layer, and ReLU.
    assert groups(cases["shortcut and ReLU"], True) == [2, 1, 2, 1, 3, 1]
    # In evaluation: convolutions with all of that.
    assert groups(cases["shortcut and ReLU"], False) == [2, 3, 4, 1]


def test_heads_are_trained_and_left_out_of_predictions(backend, rng):
    def affine(features, units):
        return Affine(rng.standard_normal((features, units)) / 9, np.zeros(units))

    head = AuxiliaryHead({"fc": affine(4 * 9 * 8, 3)}, weight=0.25)
    layers = {"conv": conv(rng, np.float64, 4, 4), "aux": head, "fc": affine(4 * 9 * 8, 3)}
    network = Network(layers, "float64", backend)
    x, t = rng.standard_normal((5, 4, 9, 8)), np.array([0, 1, 2, 1, 0])
    loss = network.loss(x, t)
    plain = Network({"conv": layers["conv"], "fc": layers["fc"]}, "float64", backend)
    aside = Network({"conv": layers["conv"], "fc": head.layers["fc"]}, "float64", backend)
    assert loss == pytest.approx(plain.loss(x, t) + 0.25 * aside.loss(x, t), rel=1e-12)
    np.testing.assert_array_equal(network.predict(x), plain.predict(x))
    got = network.gradient(x, t)
    main, beside = plain.gradient(x, t), aside.gradient(x, t)
    assert_close(got["conv.weight"], main["conv.weight"] + 0.25 * beside["conv.weight"])
    assert_close(got["aux.fc.weight"], 0.25 * beside["fc.weight"])
    assert_close(got["fc.weight"], main["fc.weight"])
    assert network.last_layer.loss == pytest.approx(loss, rel=1e-12)


def test_parameters_have_dotted_names(rng):
    block = {"": Chain({"conv1": conv(rng, np.float32, 4, 4), "bn1": norm(rng, np.float32, 4)})}
    network = Network(
        {"layer1": Chain([Chain({"": Shortcut(block), "relu": Relu()})]), "relu": Relu()}
    )
    names = [
        f"layer1.0.{name}" for name in ("conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias")
    ]
    assert list(network.params) == names
    assert list(network.buffers) == ["layer1.0.bn1.running_mean", "layer1.0.bn1.running_var"]


def test_graphs_are_copied_and_pickled(rng):
    network = Network({"block": Shortcut([graphs(rng, np.float32)["normalised convolutions"][0]])})
    with pytest.raises(ShapeError, match=r"the body gives \(1, 5, 9, 8\), the shortcut"):
        network.layers[0].forward(np.zeros((1, 4, 9, 8), np.float32))
    network = Network({"a": Chain(graphs(rng, np.float32)["projection"])})
    x = rng.random((2, 4, 9, 8)).astype(np.float32)
    network.predict(x, train_flg=True)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        np.testing.assert_array_equal(other.predict(x), network.predict(x))


def test_bad_graphs(rng):
    with pytest.raises(ArgumentError, match="at least one branch"):
        Branches([])
    with pytest.raises(ArgumentError, match="a body and perhaps a projection, got 3"):
        Shortcut([Relu(), Relu(), Relu()])
    branches = Branches([Relu(), Pooling(2, 2, 2)])
    with pytest.raises(StateError, match="backward was called before forward"):
        branches.backward(np.zeros((1, 2, 4, 4)))
    with pytest.raises(ShapeError, match=r"0 \(1, 2, 4, 4\), 1 \(1, 2, 2, 2\)"):
        branches.forward(np.zeros((1, 2, 4, 4)))
    same = Branches([Relu(), Relu()])
    same.forward(np.zeros((1, 2, 4, 4)))
    with pytest.raises(ShapeError, match=r"dout has 3 channels, expected 4 \(2 \+ 2\)"):
        same.backward(np.zeros((1, 3, 4, 4)))
    executor = Executor()
    with pytest.raises(StateError, match="backward was called before a forward in training"):
        executor.backward(np.zeros(1))
    with pytest.raises(StateError, match="loss was called before a forward in training"):
        AuxiliaryHead([Relu()]).loss([0])


@pytest.mark.parametrize(
    "body",
    {
        "sum by itself": lambda: Affine(np.ones((4, 3)), np.zeros(3)),
        "behind a convolution": lambda: Convolution(np.ones((3, 4, 3, 3)), np.zeros(3), 1, 1),
        "behind batch normalisation": lambda: Chain(
            [
                Convolution(np.ones((3, 4, 3, 3)), np.zeros(3), 1, 1),
                BatchNormalization2d(np.ones(3), np.zeros(3)),
            ]
        ),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_shortcut_that_does_not_fit_its_body_is_told_in_a_network(body, backend):
    """As the layer by itself tells it, however the sum is computed."""
    name, make = body
    shape = (2, 4) if name == "sum by itself" else (2, 4, 5, 5)
    network = Network([Shortcut([make()]), Relu()], backend=backend)
    message = r"the body gives \(2, 3.*the shortcut \(2, 4.*a projection must give"
    with pytest.raises(ShapeError, match=message):
        network.predict(np.ones(shape))
    with pytest.raises(ShapeError, match=message):
        network.predict(np.ones(shape), train_flg=True)
