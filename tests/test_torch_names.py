"""Weights to and from PyTorch by name: graphs, statistics included, give equal outputs."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import models
from fastconv.errors import ArgumentError, WeightsError
from fastconv.io import from_torch, to_torch
from fastconv.layers import Affine, Dropout
from fastconv.network import Network


@pytest.fixture
def twins(monkeypatch):
    """By name, a network and its twin in PyTorch."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    from benchmarks.peers import torch_twins

    monkeypatch.setattr(models.vgg, "HIDDEN", 32)
    torch.manual_seed(3)
    return {
        "resnet20": lambda: (models.resnet20(5, seed=0), torch_twins.SmallResNet(20, 5, 3)),
        "googlenet": lambda: (
            models.googlenet(5, aux_logits=True, seed=0),
            torch_twins.GoogLeNet(5, 3),
        ),
        "vgg11_bn": lambda: (
            models.vgg11(5, batch_norm=True, seed=0),
            torch_twins.vgg(11, True, 5, 3, 32),
        ),
    }


@pytest.mark.parametrize("name", ["resnet20", "googlenet", "vgg11_bn"])
def test_both_ways(twins, rng, name):
    import torch

    network, module = twins[name]()
    x = rng.standard_normal((4, 3, 64, 48)).astype(np.float32)

    def answers():
        module.eval()
        with torch.no_grad():
            return module(torch.from_numpy(x)).numpy()

    module(torch.from_numpy(x))  # in training: moves the running statistics
    network.set_state(from_torch(module.state_dict(), network))
    first = answers()
    np.testing.assert_allclose(network.predict(x), first, rtol=0, atol=1e-5 * np.abs(first).max())

    network.gradient(x, np.arange(4))  # ours are moved, and the weights are
    for array in network.params.values():
        array *= 0.9
    module.load_state_dict(to_torch(network.state(), network=network, tensors=True))
    second = answers()
    assert np.abs(second - first).max() > 0.01 * np.abs(first).max()
    np.testing.assert_allclose(network.predict(x), second, rtol=0, atol=1e-5 * np.abs(second).max())


def test_what_comes_out_is_the_state_and_shares_no_memory():
    network = models.resnet20(5, seed=0)
    own = network.state()
    counted = own | {"bn1.num_batches_tracked": np.array(3)}  # which PyTorch keeps, and we do not
    for found in (from_torch(counted, network), to_torch(own, network=network)):
        assert set(found) == set(own)
        for key, value in found.items():
            np.testing.assert_array_equal(value, own[key])
            assert not np.shares_memory(value, own[key])


def state_without(key):
    state = models.lenet(seed=0).state()
    del state[key]
    return state


BAD = {
    "missing": (state_without("fc1.bias"), r"missing fc1\.bias; unknown none"),
    "unknown": (models.lenet(seed=0).state() | {"fc4.bias": np.ones(2)}, r"unknown fc4\.bias"),
    "the book's way round": (
        models.lenet(seed=0).params,
        r"fc1\.weight has shape \(400, 120\), expected \(120, 400\)",
    ),
}


@pytest.mark.parametrize("function", [from_torch, to_torch])
@pytest.mark.parametrize("name", BAD)
def test_arrays_of_another_network(function, name):
    state, message = BAD[name]
    with pytest.raises(WeightsError, match=rf"{function.__name__}: .*{message}"):
        function(state, network=models.lenet(seed=1))


def test_wrong_use():
    network = models.lenet(seed=0)
    with pytest.raises(ArgumentError, match="layers that have names need no order"):
        from_torch(network.state(), network, order=["fc1"])
    with pytest.raises(ArgumentError, match="layers of this network have their names"):
        to_torch(network.state(), ["fc1"], network)
    with pytest.raises(ArgumentError, match=r"pass network\.state\(\)"):
        to_torch(network.params, network=network)
    square = Affine(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    books = Network({"fc": square, "drop": Dropout(0.5)})
    with pytest.raises(ArgumentError, match=r"from_torch: .* give it inverted=True"):
        from_torch(books.state(), books)
