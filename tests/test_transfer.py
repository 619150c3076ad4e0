"""Weights taken over from another network, and layers that stay as they are."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from fastconv.errors import ArgumentError, WeightsError
from fastconv.layers import Affine as Linear
from fastconv.layers import BatchNormalization2d, Chain, Convolution, GlobalAveragePooling, Relu
from fastconv.models import lenet, resnet20
from fastconv.network import Network
from fastconv.network.transfer import take_weights
from fastconv.optimizer import SGD
from fastconv.trainer import Trainer


@pytest.fixture
def network(backend, rng):
    """Three normalised convolutions and a head, for images (2, 6, 6)."""

    def unit(c, filters):
        weight = rng.standard_normal((filters, c, 3, 3)).astype(np.float32) / 3
        ones, zeros = np.ones(filters, np.float32), np.zeros(filters, np.float32)
        return Chain(
            {
                "conv": Convolution(weight, None, 1, 1),
                "bn": BatchNormalization2d(ones, zeros),
                "relu": Relu(),
            }
        )

    head = Linear(rng.standard_normal((5, 3)).astype(np.float32), np.zeros(3, np.float32))
    layers = {"one": unit(2, 4), "two": unit(4, 6), "three": unit(6, 5)}
    return Network(layers | {"pool": GlobalAveragePooling(), "fc": head}, backend=backend)


def batch(rng):
    return rng.standard_normal((7, 2, 6, 6)).astype(np.float32), np.arange(7) % 3


def test_what_fits_is_taken_and_the_rest_is_named():
    teacher, student = lenet(10, 1, seed=0), lenet(4, 1, seed=1)
    before = {key: value.copy() for key, value in student.params.items()}
    state = teacher.state()
    state["extra"] = state.pop("fc1.bias")
    report = take_weights(student, state)
    assert report.resized == {
        "fc3.weight": ((10, 84), (4, 84)),
        "fc3.bias": ((10,), (4,)),
    }
    assert (report.missing, report.unused) == (["fc1.bias"], ["extra"])
    kept = {"fc3.weight", "fc3.bias", "fc1.bias"}
    assert set(report.taken) == set(student.params) - kept
    for key, value in student.params.items():
        source = before if key in kept else teacher.params
        np.testing.assert_array_equal(value, source[key])
    text = str(report)
    assert text.startswith("7 arrays taken over\n")
    assert "fc3.bias (4,) (weights: (10,))" in text and "not in the network: extra" in text


def test_running_statistics_are_taken_too(rng):
    teacher, student = resnet20(4, 1, seed=0), resnet20(4, 1, seed=1)
    x, t = rng.random((6, 1, 8, 8)).astype(np.float32), np.arange(6) % 4
    teacher.gradient(x, t)
    report = take_weights(student, teacher.state())
    assert not (report.missing or report.resized or report.unused)
    np.testing.assert_array_equal(student.predict(x), teacher.predict(x))


def test_nothing_that_fits_is_an_error():
    network = lenet(seed=0)
    with pytest.raises(WeightsError, match=r"w\.npz: nothing in it fits the network"):
        take_weights(network, {"W1": np.ones(3)}, "w.npz")


def test_frozen_layers_get_no_gradient_and_keep_their_values(network, rng):
    x, t = batch(rng)
    network.gradient(x, t)  # running statistics that are not 0 and 1
    state = {key: value.copy() for key, value in network.state().items()}
    frozen = network.freeze("one.*", "three.*")
    assert frozen == [f"{unit}.{name}" for unit in ("one", "three") for name in UNIT]
    gradient = network.gradient(x, t)
    assert list(gradient) == [*(f"two.{name}" for name in UNIT), "fc.weight", "fc.bias"]
    SGD(lr=0.1).update(network.params, gradient)
    changed = {key for key, value in network.state().items() if (value != state[key]).any()}
    assert changed == set(gradient) | {"two.bn.running_mean", "two.bn.running_var"}
    # Neither before the layers that train nor after them.
    layers = dict(network.named_layers())
    for name in ("one.conv", "three.conv"):
        layers[name].dW = None
    network.gradient(x, t)
    assert layers["one.conv"].dW is None and layers["three.conv"].dW is None
    assert network.freeze() == [] and len(network.params) == 11


UNIT = ("conv.weight", "bn.weight", "bn.bias")


def test_the_gradient_of_the_rest_is_right(network, rng):
    """By differences of the loss, through frozen layers on both sides."""
    x, t = batch(rng)
    network.gradient(x, t)
    network.freeze("one.*", "three.*")
    double = copy.deepcopy(network)
    for _, layer in double.named_layers():
        for name in (*layer.parameter_names, *layer.buffer_names):
            setattr(layer, name, getattr(layer, name).astype(np.float64))
    double.dtype = np.dtype(np.float64)
    double.freeze("one.*", "three.*")
    gradient = double.gradient(x, t)
    step = 1e-6
    for key in ("two.conv.weight", "two.bn.weight", "fc.weight"):
        direction = rng.standard_normal(gradient[key].shape)
        losses = []
        for sign in (1, -1):
            double.params[key] += sign * step * direction
            losses.append(double.loss(x, t))
            double.params[key] -= sign * step * direction
        expected = (losses[0] - losses[1]) / (2 * step)
        assert np.sum(gradient[key] * direction) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_a_pattern_that_matches_nothing_is_an_error(network):
    with pytest.raises(ArgumentError, match=r"'four\.\*' matches none of one\.conv\.weight, "):
        network.freeze("one.*", "four.*")
    assert len(network.params) == 11


def test_a_run_with_frozen_layers_goes_on_bit_for_bit(tmp_path, rng):
    x, t = rng.random((40, 1, 12, 12)).astype(np.float32), np.arange(40) % 3

    def trainer(epochs):
        net = lenet(3, 1, input_size=(12, 12), seed=0)
        net.freeze("conv*")
        options = {"mini_batch_size": 10, "optimizer": "Adam", "verbose": False, "seed": 1}
        return Trainer(net, x, t, x[:0], t[:0], epochs=epochs, **options)

    whole = trainer(4)
    whole.train()
    first = trainer(4)
    for _ in range(6):
        first.train_step()
    first.save_checkpoint(tmp_path / "half.npz")
    second = trainer(4)
    second.load_checkpoint(tmp_path / "half.npz")
    second.train()
    for key, value in whole.network.state().items():
        np.testing.assert_array_equal(second.network.state()[key], value)
