"""Copies of networks, layers and runs, by whatever makes copies: they go on as the original would.

What a copy learns is compared with what the original learns in the same steps, bit for bit.
"""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from fastconv import Augmentation, Trainer
from fastconv.dropin.trainer import Trainer as BookTrainer
from fastconv.errors import ArgumentError, StateError
from fastconv.layers import (
    Affine,
    AuxiliaryHead,
    BatchNormalization2d,
    Branches,
    Chain,
    Convolution,
    Dropout,
    GlobalAveragePooling,
    Pooling,
    Relu,
    Shortcut,
)
from fastconv.models import lenet
from fastconv.models.ensemble import Ensemble
from fastconv.network import Network
from fastconv.network.executor import Executor
from fastconv.network.fusion import FusedRow, fuse
from fastconv.network.views import View
from fastconv.optimizer import SGD, Adam, Momentum
from fastconv.training.averaging import EMA, SWA

X = np.random.default_rng(0).standard_normal((6, 2, 8, 8)).astype(np.float32)
T = np.arange(6) % 3


def by_joblib(network, tmp_path, compress=0, **options):
    joblib = pytest.importorskip("joblib")
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.joblib"  # an earlier one may be mapped
    joblib.dump(network, path, compress)
    return joblib.load(path, **options)


def by_package(name):
    def copied(network, tmp_path):
        package = pytest.importorskip(name)
        return package.loads(package.dumps(network))

    return copied


def by_pickle(protocol):
    return lambda network, tmp_path: pickle.loads(pickle.dumps(network, protocol))


def by_pickle_with_buffers(network, tmp_path):
    buffers = []
    data = pickle.dumps(network, 5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytearray(buffer.raw()) for buffer in buffers])


def by_queue(network, tmp_path):
    queue = multiprocessing.get_context("spawn").Queue()
    queue.put(network)
    return queue.get(timeout=60)


WAYS = {
    "deepcopy": lambda network, tmp_path: copy.deepcopy(network),
    **{f"pickle {protocol}": by_pickle(protocol) for protocol in range(6)},
    "pickle with buffers": by_pickle_with_buffers,
    "joblib": by_joblib,
    "joblib, mapped": lambda n, tmp_path: copy.deepcopy(by_joblib(n, tmp_path, mmap_mode="r")),
    "joblib, mapped copy on write": lambda n, path: by_joblib(n, path, mmap_mode="c"),
    "joblib, compressed": lambda network, tmp_path: by_joblib(network, tmp_path, compress=3),
    "cloudpickle": by_package("cloudpickle"),
    "dill": by_package("dill"),
    "queue": by_queue,
    "twice": lambda n, tmp_path: by_joblib(by_joblib(copy.deepcopy(n), tmp_path), tmp_path),
}


@pytest.fixture(params=WAYS)
def copied(request, tmp_path):
    return lambda network: WAYS[request.param](network, tmp_path)


def drawn(*shape):
    return (np.random.default_rng(sum(shape)).standard_normal(shape) / 3).astype(np.float32)


def conv(filters, channels):
    return Convolution(drawn(filters, channels, 3, 3), drawn(filters), pad=1)


def norm(channels):
    return BatchNormalization2d(np.ones(channels, np.float32), np.zeros(channels, np.float32))


def numbered():
    """A row, as the book's networks are."""
    head = [Affine(drawn(64, 5), drawn(5)), Dropout(0.2), Affine(drawn(5, 3), drawn(3))]
    return Network([conv(4, 2), Relu(), Pooling(2, 2, 2), *head])


def graph():
    """One of each container, with a layer frozen."""
    body = Chain({"conv": conv(4, 4), "norm": norm(4)})
    layers = {
        "stem": conv(4, 2),
        "block": Shortcut({"body": body}),
        "relu": Relu(),
        "aux": AuxiliaryHead([GlobalAveragePooling(), Affine(drawn(4, 3))]),
        "ways": Branches([conv(1, 4), conv(3, 4)]),
        "fc": Affine(drawn(256, 3), drawn(3)),
    }
    network = Network(layers)
    network.freeze("stem")
    return network


def losses(network, optimizer, steps=5):
    """The loss of each step: of a network that does not learn they are all alike."""
    np.random.seed(3)
    found = []
    for _ in range(steps):
        optimizer.update(network.params, network.gradient(X, T))
        found.append(network.last_layer.loss)
    return found


@pytest.mark.parametrize("make", [numbered, graph])
def test_a_copy_learns_what_the_original_learns(copied, make):
    original, optimizer = make(), Momentum(lr=0.05)
    losses(original, optimizer, 3)  # not only a new one can be copied
    other, its = copied(original), copied(optimizer)
    before = {key: value.copy() for key, value in original.state().items()}
    got = losses(other, its)
    assert len(set(got)) == len(got)
    for key, value in before.items():
        np.testing.assert_array_equal(original.state()[key], value)
    assert got == losses(original, optimizer)
    for key, value in original.state().items():
        np.testing.assert_array_equal(other.state()[key], value)
    assert list(other.params) == list(original.params)


def test_settings_survive(copied):
    original = graph()
    original.backend = "numpy"
    original.spec = {"model": "mine"}
    original.last_layer.label_smoothing = 0.1
    other = copied(original)
    assert list(other.frozen_params) == ["stem.weight", "stem.bias"]
    assert other.backend == "numpy" == other.layers[0].backend == other.heads[0].backend
    assert other.last_layer.label_smoothing == 0.1
    assert other.spec == {"model": "mine"} and other.dtype == np.float32 and other.dotted
    other.freeze("ways.*")
    other.backend = None
    assert list(original.frozen_params) == ["stem.weight", "stem.bias"]
    assert original.layers[0].backend == "numpy"
    assert [name for name, _ in other.named_layers()] == [n for n, _ in original.named_layers()]
    assert all(head is layer for head, layer in zip(other.heads, other.layers[3:4], strict=True))


def test_layers_with_one_array_in_common_have_one_again(copied):
    shared = drawn(3, 3)
    original = Network([Affine(drawn(128, 3)), Affine(shared), Relu(), Affine(shared)])
    other = copied(original)
    assert losses(other, SGD(lr=0.05)) == losses(original, SGD(lr=0.05))
    assert other.layers[1].W is other.layers[3].W is not shared


def test_a_layer_by_itself(copied):
    layer = conv(3, 2)
    out = layer.forward(X)
    dout = drawn(*out.shape)
    other = copied(layer)
    before = layer.W.copy()
    with pytest.raises(StateError, match="backward was called before forward"):
        other.backward(dout)
    np.testing.assert_array_equal(other.forward(X), out)
    np.testing.assert_array_equal(other.backward(dout), layer.backward(dout))
    np.testing.assert_array_equal(other.dW, layer.dW)
    other.W -= 1
    np.testing.assert_array_equal(layer.W, before)


def run(**options):
    """A Trainer of two epochs of five steps."""
    rng = np.random.default_rng(5)
    x, t = rng.standard_normal((60, 2, 8, 8)).astype(np.float32), rng.integers(0, 3, 60)
    options = {"epochs": 2, "mini_batch_size": 10, "seed": 1, "verbose": False, **options}
    return Trainer(numbered(), x, t, x[:10], t[:10], **options)


RUNS = {
    "plain": {},
    "Adam": {"optimizer": Adam(0.01)},
    "factors": {"lr_factors": {"W1": 0, "W*": 0.5}},
    "EMA": {"averaging": EMA(0.9)},
    "SWA": {"averaging": SWA(1)},
    "validation": {"validation": 0.2, "early_stopping": 5},
    "augmentation": {"augment": Augmentation(shift=1, flip_horizontal=0.5)},
}


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_a_copied_run_goes_on_as_the_original_does(copied, options):
    original = run(**options)
    for _ in range(4):
        original.train_step()
    other = copied(original)
    assert other._weights.network is other.network
    before = copy.deepcopy(original)
    other.train()
    assert original.train_loss_list == before.train_loss_list
    original.train()
    assert len(set(other.train_loss_list)) == len(other.train_loss_list) == other.max_iter > 5
    assert other.train_loss_list == original.train_loss_list
    assert other.history[-1]["test_accuracy"] == original.history[-1]["test_accuracy"]
    for key, value in original.network.state().items():
        np.testing.assert_array_equal(other.network.state()[key], value)


def test_a_run_can_be_copied_by_its_own_callback(monkeypatch):
    monkeypatch.setattr("fastconv.training.batches.count_cpus", lambda: 64)
    copies = []
    original = run(augment=Augmentation(shift=1), backend="numpy")
    original.callbacks = (lambda trainer, _: copies.append(snapshot(trainer)),)
    original.train()
    (first, _last), original.callbacks = copies, ()
    first.train()
    assert first.train_loss_list == original.train_loss_list


def snapshot(trainer):
    callbacks, trainer.callbacks = trainer.callbacks, ()
    try:
        return pickle.loads(pickle.dumps(trainer))
    finally:
        trainer.callbacks = callbacks


def test_an_ensemble(copied):
    original = Ensemble([numbered(), graph()], [View(), View(mirrored=True)], {"of": "tests"})
    other = copied(original)
    assert other.views == original.views and other.about == original.about
    np.testing.assert_array_equal(other.predict(X), original.predict(X))
    before = original.predict(X)
    got = [losses(member, SGD(0.05)) for member in other.members]
    np.testing.assert_array_equal(original.predict(X), before)
    assert got == [losses(member, SGD(0.05)) for member in original.members]


@pytest.mark.parametrize("value", [Augmentation(shift=2), View(down=1), EMA(0.5), SWA(2)])
def test_plain_records(copied, value):
    assert copied(value) == value


def test_copy_copy_is_another_name_for_the_same_layers():
    original = graph()
    other = copy.copy(original)
    assert other is not original and other.layers[0] is original.layers[0]
    got = losses(other, SGD(0.05))
    assert len(set(got)) == len(got)
    assert original.loss(X, T) == other.loss(X, T)
    original.freeze("fc")
    assert list(other.params) == list(original.params)
    other.params["ways.0.weight"] = np.zeros((1, 4, 3, 3))
    assert not original.params["ways.0.weight"].any()
    assert other.last_layer is original.last_layer


@pytest.mark.parametrize("optimizer", [SGD, Momentum, Adam])
def test_a_mapped_file_predicts_and_says_that_it_cannot_be_trained(tmp_path, backend, optimizer):
    original = numbered()
    original.backend = backend
    other = by_joblib(original, tmp_path, mmap_mode="r")
    assert isinstance(other.params["W1"], np.memmap)
    np.testing.assert_array_equal(other.predict(X), original.predict(X))
    with pytest.raises(ArgumentError, match=r"read-only.*copy\.deepcopy of the network"):
        losses(other, optimizer(0.05))
    np.testing.assert_array_equal(other.predict(X), original.predict(X))


def test_buffers_out_of_band_are_the_memory_that_the_pickler_was_given():
    """PEP 574 promises as much; a copy made so trains where its buffers lie."""
    original, buffers = numbered(), []
    data = pickle.dumps(original, 5, buffer_callback=buffers.append)
    other = pickle.loads(data, buffers=buffers)
    assert np.shares_memory(other.params["W1"], original.params["W1"])
    got = losses(other, SGD(0.05))
    assert len(set(got)) == len(got)
    np.random.seed(9)
    loss = original.loss(X, T)
    np.random.seed(9)
    assert loss == other.loss(X, T)


def _train(network, connection):
    connection.send(losses(network, SGD(0.05)))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_of_its_own_trains_its_copy(monkeypatch, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    # The process imports this file by its name, and fastconv from where it is here.
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[1])])
    original = numbered()
    original.backend = "numpy"
    before = original.predict(X)
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    process = context.Process(target=_train, args=(original, there))
    process.start()
    there.close()  # so that a process that fails ends the wait
    got = here.recv()
    process.join()
    np.testing.assert_array_equal(original.predict(X), before)
    assert got == losses(original, SGD(0.05))


def test_a_network_that_an_earlier_version_pickled():
    """The file has what the network gave where it was made, with the numpy backend."""
    record = pickle.loads((Path(__file__).parent / "network_of_0.1.pkl").read_bytes())
    network = record["network"]
    x, t = record["x"], record["t"]
    np.testing.assert_allclose(network.predict(x), record["scores"], rtol=1e-5)
    assert list(network.params) == record["params"]
    optimizer, got = SGD(0.1), []
    for _ in range(5):
        optimizer.update(network.params, network.gradient(x, t))
        got.append(network.last_layer.loss)
    np.testing.assert_allclose(got, record["losses"], rtol=1e-5)


def test_a_trainer_that_an_earlier_version_pickled():
    """In the middle of a run; the file has how the run went on where it was made."""
    record = pickle.loads((Path(__file__).parent / "trainer_of_0.1.pkl").read_bytes())
    trainer = record["trainer"]
    assert len(trainer.train_loss_list) == 9
    trainer.train()
    np.testing.assert_allclose(trainer.train_loss_list, record["losses"], rtol=1e-9)
    for name, value in record["params"].items():
        np.testing.assert_allclose(trainer.network.params[name], value, rtol=1e-9, atol=1e-12)


def test_names_of_earlier_versions():
    plan, runs = import_module("fastconv.plan"), import_module("fastconv.runs")
    assert plan.Plan is Executor and runs.Runs is FusedRow and runs.cut is fuse
    assert import_module("fastconv.layers.images").Convolution is Convolution
    for module, name in ((plan, "Executor_"), (runs, "Sliced")):
        with pytest.raises(AttributeError, match=name):
            getattr(module, name)


def test_networks_sent_to_threads_are_their_own():
    networks = [copy.deepcopy(lenet(seed=0)) for _ in range(3)]
    x = np.random.default_rng(0).random((4, 1, 28, 28), np.float32)

    def train(network):
        optimizer = SGD(0.05)
        for _ in range(5):
            optimizer.update(network.params, network.gradient(x, np.arange(4)))
        return network.last_layer.loss

    alone = train(copy.deepcopy(networks[0]))
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(train, networks)) == [alone] * 3


# ---- a class of the user's own, which keeps each array under two names ------------------


class Book:
    """As the book's networks are built, with layers of fastconv's."""

    def __init__(self):
        self.params = {"W1": drawn(128, 3), "b1": drawn(3)}
        self.layers = {"Affine1": Affine(self.params["W1"], self.params["b1"])}
        self.last_layer = Network([]).last_layer

    def loss(self, x, t):
        return self.last_layer.forward(self.layers["Affine1"].forward(x), t)

    def accuracy(self, x, t):
        return float(np.mean(self.layers["Affine1"].forward(x).argmax(axis=1) == t))

    def gradient(self, x, t):
        self.loss(x, t)
        self.layers["Affine1"].backward(self.last_layer.backward())
        return {"W1": self.layers["Affine1"].dW, "b1": self.layers["Affine1"].db}


class Handing(Book):
    """Gives its layer copies of the parameters in each step, and needs no array in common."""

    def loss(self, x, t):
        self.layers["Affine1"].W[...] = self.params["W1"]
        self.layers["Affine1"].b = self.params["b1"].copy()
        return super().loss(x, t)


def trainer_of(network, kind=Trainer):
    options = {"epochs": 5, "mini_batch_size": 6, "verbose": False}
    return kind(network, X, T, X, T, **options)


@pytest.mark.parametrize("kind", [Trainer, BookTrainer])
def test_a_network_of_one_s_own_that_no_longer_learns_is_told(tmp_path, kind):
    other = by_joblib(Book(), tmp_path)
    with pytest.raises(StateError, match=r"layer\.W = network\.params\['W1'\]"):
        trainer_of(other, kind).train()
    for name in "Wb":
        setattr(other.layers["Affine1"], name, other.params[f"{name}1"])
    trainer_of(other, kind).train()


@pytest.mark.parametrize("kind", [Trainer, BookTrainer])
@pytest.mark.parametrize("way", ["pickle 4", "deepcopy", "cloudpickle", "dill"])
def test_a_network_of_one_s_own_that_was_kept_whole_learns(way, kind, tmp_path):
    assert own_losses(WAYS[way](Book(), tmp_path), kind) == own_losses(Book(), kind)


def test_a_network_that_hands_its_parameters_over_is_left_in_peace(tmp_path):
    assert own_losses(by_joblib(Handing(), tmp_path)) == own_losses(Book())


def test_a_parameter_that_stays_as_it_is_is_no_sign(tmp_path):
    run = trainer_of(by_joblib(Book(), tmp_path))
    run.optimizer.lr = 0.0
    run.train()
    assert len(run.train_loss_list) == 5


def own_losses(network, kind=Trainer):
    np.random.seed(0)
    run = trainer_of(network, kind)
    run.train()
    return run.train_loss_list
