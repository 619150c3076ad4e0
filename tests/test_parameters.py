"""`network.params`: a dict that reads from the layers and writes to them."""

from __future__ import annotations

import copy
import json
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from fastconv.errors import DTypeError, StateError, WeightsError
from fastconv.io import load_params
from fastconv.layers import Affine, Convolution, Relu
from fastconv.network import Network
from fastconv.optimizer import SGD, Adam

X = np.random.default_rng(0).standard_normal((5, 2, 4, 4)).astype(np.float32)
T = np.arange(5) % 3
NAMES = ["W1", "b1", "W2", "b2"]


@pytest.fixture
def network():
    rng = np.random.default_rng(1)
    conv = Convolution(rng.standard_normal((3, 2, 3, 3)).astype("f4"), np.zeros(3, "f4"), pad=1)
    affine = Affine(rng.standard_normal((48, 3)).astype("f4"), np.zeros(3, "f4"))
    return Network([conv, Relu(), affine], backend="numpy")


def expected_scores(network, x, weight, bias):
    """What the last layer should give, by its definition."""
    hidden = network.layers[1].forward(network.layers[0].forward(x))
    return hidden.reshape(len(x), -1) @ weight + bias


def assert_scores(network, weight, bias):
    expected = expected_scores(network, X, weight, bias)
    np.testing.assert_allclose(network.predict(X), expected, rtol=1e-4, atol=1e-5)


def test_what_is_assigned_to_a_name_is_computed_with(network):
    weight = np.random.default_rng(2).standard_normal((48, 3)).astype("f4")
    network.params["W2"] = weight
    assert network.layers[2].W is weight is network.params["W2"]
    assert_scores(network, weight, np.zeros(3))


def test_what_is_given_to_a_layer_has_the_name(network):
    weight = np.random.default_rng(2).standard_normal((48, 3)).astype("f4")
    network.layers[2].W = weight
    assert network.params["W2"] is weight
    network.params["W2"] -= 1
    assert_scores(network, weight, np.zeros(3))
    assert network.state()["W2"] is weight


@pytest.mark.parametrize("how", ["entry", "layer"])
@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_an_array_put_in_by_hand_is_trained(network, optimizer, how):
    weight = np.full((48, 3), 0.01, "f4")
    if how == "entry":
        network.params["W2"] = weight
    else:
        network.layers[2].W = weight
    step = optimizer(0.05)
    first = network.loss(X, T)
    for _ in range(20):
        step.update(network.params, network.gradient(X, T))
    assert network.loss(X, T) < 0.8 * first
    assert not (weight == np.float32(0.01)).any()


def test_another_dtype_is_brought_to_that_of_the_layer(network):
    given = np.random.default_rng(2).standard_normal((48, 3))
    network.params["W2"] = given
    network.params["b2"] = [1, 2, 3]
    assert {value.dtype for value in network.params.values()} == {np.dtype("f4")}
    assert_scores(network, given.astype("f4"), np.array([1, 2, 3]))
    network.params["W2"][...] = 0
    assert given.any()


def test_the_loops_of_scripts(network):
    before = {key: network.params[key].copy() for key in network.params}
    grads = network.gradient(X, T)
    for key in network.params:
        network.params[key] -= 0.1 * grads[key]
    for key, value in network.params.items():
        np.testing.assert_allclose(value, before[key] - np.float32(0.1) * grads[key], rtol=1e-6)
        assert value is getattr(network.layers[0 if key[1] == "1" else 2], key[0])
    network.params.update(before)
    assert network.layers[0].W is before["W1"]


def test_it_is_a_dict_to_whoever_asks(network, tmp_path):
    params = network.params
    assert isinstance(params, dict) and params is network.params
    assert list(params) == list(params.keys()) == NAMES and len(params) == 4 and params
    assert list(reversed(params)) == NAMES[::-1]
    assert "W1" in params and "W3" not in params and params.get("W3") is None
    with pytest.raises(KeyError):
        params["W3"]
    assert params.setdefault("W1") is params["W1"]
    arrays = {"W1": network.layers[0].W, "b1": network.layers[0].b}
    arrays |= {"W2": network.layers[2].W, "b2": network.layers[2].b}

    def same(other):
        return list(other) == NAMES and all(other[key] is arrays[key] for key in NAMES)

    assert same(dict(params)) and same({**params}) and same(OrderedDict(params))
    assert same(params | {}) and same({} | params) and same(params.copy())
    assert same(copy.copy(params)) and type(copy.copy(params)) is dict
    assert same((lambda **given: given)(**params))
    assert json.dumps({key: value.shape for key, value in params.items()})
    assert repr(params) == repr(arrays)
    np.savez(tmp_path / "params.npz", **params)
    with np.load(tmp_path / "params.npz") as file:
        np.testing.assert_array_equal(file["W2"], arrays["W2"])
    np.save(tmp_path / "params.npy", params)
    loaded = np.load(tmp_path / "params.npy", allow_pickle=True).item()
    np.testing.assert_array_equal(loaded["W2"], arrays["W2"])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_a_copy_is_a_plain_dict_of_its_own(network, copied):
    best = copied(network.params)
    assert type(best) is dict and list(best) == NAMES
    kept = {key: value.copy() for key, value in best.items()}
    network.params["W1"] -= 1
    best["W9"] = 0
    for key, value in kept.items():
        np.testing.assert_array_equal(best[key], value)
    assert "W9" not in network.params
    assert network.params["W1"][0, 0, 0, 0] == best["W1"][0, 0, 0, 0] - 1


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_script_s_own_pickle_of_it_loads(network, tmp_path, protocol):
    path = tmp_path / "params.pkl"
    path.write_bytes(pickle.dumps(network.params, protocol))
    got = load_params(path)
    assert list(got) == NAMES
    for key, value in network.params.items():
        np.testing.assert_array_equal(got[key], value)


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("W2", np.zeros((3, 48)), WeightsError, r"W2 has shape \(3, 48\), expected \(48, 3\)"),
        ("b2", 0.0, WeightsError, r"b2 has shape \(\), expected \(3,\)"),
        ("W3", np.zeros(3), WeightsError, "trains no 'W3', but W1, b1, W2, b2"),
        ("b2", np.array(["a", "b", "c"]), DTypeError, "real numbers"),
        ("b2", np.zeros(3, complex), DTypeError, "real numbers"),
    ],
)
def test_what_does_not_fit_is_refused(network, key, value, error, message):
    before = dict(network.params)
    with pytest.raises(error, match=message):
        network.params[key] = value
    assert all(network.params[name] is array for name, array in before.items())


@pytest.mark.parametrize(
    "remove",
    [
        lambda params: params.pop("W1"),
        lambda params: params.popitem(),
        lambda params: params.clear(),
        lambda params: params.__delitem__("b1"),
    ],
)
def test_names_are_not_removed(network, remove):
    with pytest.raises(StateError, match="freeze"):
        remove(network.params)
    assert list(network.params) == NAMES


def test_frozen_parameters_have_no_name(network):
    params = network.params
    network.freeze("W1")
    assert list(params) == ["W2", "b2"] and "W1" not in params
    with pytest.raises(WeightsError, match="trains no 'W1', but W2, b2"):
        params["W1"] = np.zeros((3, 2, 3, 3))
    network.freeze()
    assert list(params) == NAMES


def test_a_dict_in_the_place_of_params_gives_its_values(network):
    given = {key: np.full(value.shape, 0.5) for key, value in network.params.items()}
    network.params = given
    for layer, name in ((0, "W"), (0, "b"), (2, "W"), (2, "b")):
        assert (getattr(network.layers[layer], name) == 0.5).all()
    with pytest.raises(WeightsError, match="missing b1, W2, b2"):
        network.params = {"W1": given["W1"]}
    network.freeze("W1")
    network.params = {"W2": given["W2"] * 2, "b2": given["b2"]}
    assert (network.layers[2].W == 1).all() and (network.layers[0].W == 0.5).all()
