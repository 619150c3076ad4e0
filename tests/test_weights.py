"""Files of weights: both kinds round-trip, old pickles load, and no pickle runs code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from fastconv import DeepConvNet
from fastconv.errors import (
    ArgumentError,
    DataCorrupt,
    DataNotFound,
    UnsafePickle,
    WeightsError,
)
from fastconv.layers import Affine
from fastconv.network import Network


def network(dtype="float64", features=3, seed=0) -> Network:
    """Two small affine layers."""
    rng = np.random.default_rng(seed)
    layers = [
        Affine(rng.standard_normal((features, 4)).astype(dtype), np.zeros(4, dtype)),
        Affine(rng.standard_normal((4, 2)).astype(dtype), np.zeros(2, dtype)),
    ]
    return Network(layers, dtype)


def old_params() -> dict[str, np.ndarray]:
    """Weights as the book's networks pickle them: float64."""
    return {key: value + 1.5 for key, value in network(seed=5).params.items()}


@pytest.mark.parametrize("ending", [".npz", ".pkl"])
def test_what_is_saved_is_loaded(tmp_path, dtype, ending):
    saved, loaded = network(dtype, seed=1), network(dtype, seed=2)
    saved.save_params(tmp_path / f"weights{ending}")
    loaded.load_params(str(tmp_path / f"weights{ending}"))
    for key, value in saved.params.items():
        assert loaded.params[key].dtype == dtype
        np.testing.assert_array_equal(loaded.params[key], value)
    x = np.ones((1, 3))
    np.testing.assert_array_equal(loaded.predict(x), saved.predict(x))
    assert [path.name for path in tmp_path.iterdir()] == [f"weights{ending}"]  # nothing beside


def test_layers_and_params_still_share_their_arrays_after_loading(tmp_path):
    net = network()
    net.save_params(tmp_path / "weights.npz")
    net.load_params(tmp_path / "weights.npz")
    for layer, number in zip(net.layers, (1, 2), strict=True):
        assert layer.W is net.params[f"W{number}"]
        assert layer.b is net.params[f"b{number}"]


def test_a_saved_pickle_is_the_books(tmp_path):
    """A plain dict of arrays, which the original's own load_params can read."""
    net = network()
    net.save_params(tmp_path / "weights.pkl")
    params = pickle.loads((tmp_path / "weights.pkl").read_bytes())
    assert type(params) is dict
    for key, value in net.params.items():
        np.testing.assert_array_equal(params[key], value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_old_pickle_loads(tmp_path, dtype, protocol):
    path = tmp_path / "deep_convnet_params.pkl"
    path.write_bytes(pickle.dumps(old_params(), protocol))
    net = network(dtype)
    net.load_params(path)
    for key, value in old_params().items():
        assert net.params[key].dtype == dtype
        np.testing.assert_array_equal(net.params[key], value.astype(dtype))


@pytest.mark.parametrize("protocol", [0, 2, 3])
def test_a_pickle_of_numpy_1_loads(tmp_path, protocol):
    """There the package was called numpy.core."""
    data = pickle.dumps(old_params(), protocol)
    assert b"numpy._core." in data
    path = tmp_path / "old.pkl"
    path.write_bytes(data.replace(b"numpy._core.", b"numpy.core."))
    net = network()
    net.load_params(path)
    np.testing.assert_array_equal(net.params["W1"], old_params()["W1"])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("code", ["<f8", ">f8", "<f4", "<f2", "<i8", "|u1"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickled_arrays_of_any_number_and_order(tmp_path, order, code, protocol):
    params = {key: np.rint(value) % 7 for key, value in old_params().items()}
    arrays = {key: np.array(value, code, order=order) for key, value in params.items()}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(arrays, protocol))
    net = network()
    net.load_params(tmp_path / "w.pkl")
    for key, value in params.items():
        np.testing.assert_array_equal(net.params[key], value)


# ---- pickles that would run code ------------------------------------------------------


class Calls:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(marker: Path) -> dict[str, bytes]:
    """Pickles that would make the file `marker`, or reach for what could."""
    touch = f"touch {marker}"
    source = f"open({str(marker)!r}, 'w')"
    inside = np.array([Calls(os.system, touch)], dtype=object)
    good = {"W1": np.ones(2)}
    quoted = repr(touch).encode()
    return {
        "os.system": pickle.dumps(Calls(os.system, touch)),
        "eval": pickle.dumps({"W1": Calls(eval, source)}),
        "exec, protocol 0": pickle.dumps({"W1": Calls(exec, source)}, 0),
        "as a key": pickle.dumps({Calls(eval, source): np.ones(2)}),
        "in an object array": pickle.dumps({"W1": inside}),
        "in an object array, protocol 2": pickle.dumps({"W1": inside}, 2),
        "after good weights": pickle.dumps({**good, "b1": Calls(os.system, touch)}),
        "getattr": pickle.dumps(Calls(getattr, "a string", "format")),
        "numpy.load": pickle.dumps(Calls(np.load, str(marker))),
        "numpy.save": pickle.dumps(Calls(np.save, str(marker), np.ones(2))),
        "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
        "an old-style instance": b"(i" + b"os\nsystem\n.",
        "os.system by opcodes": b"cos\nsystem\n(S" + quoted + b"\ntR.",
        "an extension code": b"\x80\x02\x82\x01.",
        "a persistent id": b"Psomewhere\n.",
        "a class of its own": pickle.dumps({"W1": np.ma.masked_array([1.0])}),
        "a structured dtype": pickle.dumps({"W1": np.zeros(2, [("a", "f8")])}),
        "a dtype of objects": pickle.dumps({"W1": np.dtype(object)}),
    }


@pytest.mark.parametrize("name", hostile(Path("marker")))
def test_no_pickle_runs_code(tmp_path, name):
    marker = tmp_path / "marker"
    path = tmp_path / "weights.pkl"
    path.write_bytes(hostile(marker)[name])
    net = network()
    before = net.params["W1"].copy()
    with pytest.raises((UnsafePickle, DataCorrupt), match=r"weights\.pkl"):
        net.load_params(path)
    assert not marker.exists()
    np.testing.assert_array_equal(net.params["W1"], before)


def test_a_refusal_says_what_was_asked_for(tmp_path):
    (tmp_path / "weights.pkl").write_bytes(hostile(tmp_path / "marker")["os.system"])
    message = r"refused: asks for (posix|nt)\.system; only NumPy arrays of numbers are admitted"
    with pytest.raises(UnsafePickle, match=message):
        network().load_params(tmp_path / "weights.pkl")


def test_the_hostile_pickles_are_hostile(tmp_path):
    """Without the guard, one of them does what it is accused of."""
    pickle.loads(hostile(tmp_path / "marker")["eval"])["W1"].close()
    assert (tmp_path / "marker").exists()


# ---- files that are not the right ones ------------------------------------------------


def npz(**arrays) -> dict[str, np.ndarray]:
    return {key: np.ones(shape) for key, shape in arrays.items()}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (npz(W1=(3, 4), b1=(4,), W2=(4, 2)), "missing b2; unknown none"),
        (npz(W1=(3, 4), b1=(4,), W2=(4, 2), b2=(2,), W3=(1,)), "missing none; unknown W3"),
        (npz(W1=(3, 4), b1=(4,), W2=(4, 3), b2=(2,)), r"W2 has shape \(4, 3\), expected \(4, 2\)"),
    ],
)
@pytest.mark.parametrize("ending", [".npz", ".pkl"])
def test_weights_of_another_architecture_leave_the_network_as_it_was(
    tmp_path, arrays, message, ending
):
    path = tmp_path / f"other{ending}"
    if ending == ".npz":
        np.savez(path, **arrays)
    else:
        path.write_bytes(pickle.dumps(arrays))
    net = network()
    before = {key: value.copy() for key, value in net.params.items()}
    with pytest.raises(WeightsError, match=rf"other\{ending}: .*{message}"):
        net.load_params(path)
    for key, value in before.items():
        np.testing.assert_array_equal(net.params[key], value)


def test_a_file_that_is_not_there(tmp_path):
    for ending in (".npz", ".pkl"):
        with pytest.raises(DataNotFound, match=r"absent\.\w+: no such file"):
            network().load_params(tmp_path / f"absent{ending}")


@pytest.mark.parametrize("ending", [".npz", ".pkl"])
@pytest.mark.parametrize("kept", [0, 1, 20, -1])
def test_a_file_that_is_cut_short(tmp_path, ending, kept):
    path = tmp_path / f"weights{ending}"
    network().save_params(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataCorrupt, match="weights"):
        network().load_params(path)


@pytest.mark.parametrize("ending", [".npz", ".pkl"])
def test_a_foreign_file(tmp_path, ending):
    path = tmp_path / f"weights{ending}"
    path.write_bytes(b"\x89PNG\r\n\x1a\n and so on")  # by chance, this begins as a pickle could
    with pytest.raises((DataCorrupt, UnsafePickle), match="weights"):
        network().load_params(path)


@pytest.mark.parametrize("value", [[1, 2], {}, {"W1": 3.0}, {3: np.ones(2)}, None])
def test_a_pickle_of_something_else(tmp_path, value):
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(DataCorrupt, match="expected"):
        network().load_params(tmp_path / "weights.pkl")


def test_an_npz_of_objects_is_not_unpickled(tmp_path):
    marker = tmp_path / "marker"
    payload = np.array([Calls(os.system, f"touch {marker}")], dtype=object)
    np.savez(tmp_path / "weights.npz", W1=payload)
    with pytest.raises(DataCorrupt, match=r"weights\.npz"):
        network().load_params(tmp_path / "weights.npz")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["weights", "weights.h5", "weights.PKL2"])
def test_other_endings_are_refused(tmp_path, name):
    for call in (network().save_params, network().load_params):
        with pytest.raises(ArgumentError, match=r"must end in \.npz or \.pkl"):
            call(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "weights.npz"
    network(seed=1).save_params(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        network(seed=2).save_params(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.npz"]


def test_the_whole_network_through_a_file(tmp_path):
    first, second = DeepConvNet(seed=1), DeepConvNet(seed=2)
    first.save_params(tmp_path / "w.npz")
    second.load_params(tmp_path / "w.npz")
    x = np.random.default_rng(0).random((2, 1, 28, 28))
    np.testing.assert_array_equal(first.predict(x), second.predict(x))
