"""Several threads and one network: they predict at once, and only one of them trains."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastconv import Trainer
from fastconv.errors import StateError
from fastconv.layers import (
    Affine,
    AuxiliaryHead,
    AveragePooling,
    BatchNormalization,
    BatchNormalization2d,
    Branches,
    Chain,
    Convolution,
    Dropout,
    GlobalAveragePooling,
    Layer,
    LocalResponseNormalization,
    Pooling,
    Relu,
    Shortcut,
    Sigmoid,
    Tanh,
)
from fastconv.models.ensemble import Ensemble
from fastconv.network import Network
from fastconv.network.exclusive import _holders, exclusively
from fastconv.optimizer import SGD

REMEDY = r"another thread is training this .*copy\.deepcopy\(network\)"


def drawn(*shape):
    return (np.random.default_rng(sum(shape)).standard_normal(shape) / 3).astype(np.float32)


class Meeting(Layer):
    """A user's layer that hands on what it is given, and lets a test in where it stands."""

    has_modes = True

    def __init__(self, on_forward=None, on_backward=None):
        super().__init__()
        self.on_forward, self.on_backward = on_forward, on_backward

    def forward(self, x, train_flg=True):
        if train_flg and self.on_forward is not None:
            self.on_forward()
        return x

    def backward(self, dout):
        if self.on_backward is not None:
            self.on_backward()
        return dout


def conv(filters, channels):
    return Convolution(drawn(filters, channels, 3, 3), drawn(filters), pad=1)


def norm(channels):
    return BatchNormalization2d(np.ones(channels, np.float32), np.zeros(channels, np.float32))


def everything(**meeting):
    """A network of every kind of layer that keeps something for backward."""
    return Network(
        {
            "stem": conv(4, 2),
            "norm": norm(4),
            "relu": Relu(),
            "pool": Pooling(2, 2, 2),
            "lrn": LocalResponseNormalization(3),
            "tanh": Tanh(),
            "aux": AuxiliaryHead([GlobalAveragePooling(), Affine(drawn(4, 3))]),
            "ways": Branches([conv(2, 4), Chain([conv(2, 4), Sigmoid()])]),
            "block": Shortcut([Chain([conv(4, 4), norm(4)])]),
            "meeting": Meeting(**meeting),
            "mean": AveragePooling(2, 2, 2),
            "fc": Affine(drawn(16, 5), drawn(5)),
            "flat": BatchNormalization(np.ones(5, np.float32), np.zeros(5, np.float32)),
            "last": Relu(),
            "dropout": Dropout(0.3),
            "out": Affine(drawn(5, 3), drawn(3)),
        },
    )


X = np.random.default_rng(0).standard_normal((6, 2, 8, 8)).astype(np.float32)
OTHER = np.random.default_rng(1).standard_normal((4, 2, 8, 8)).astype(np.float32)
T = np.arange(6) % 3


def in_thread(function, *arguments):
    """What a call gives, or raises, in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result(timeout=60)


def gradient_of(network):
    np.random.seed(4)
    return network.gradient(X, T)


def assert_same(got, expected):
    assert list(got) == list(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value, err_msg=key)


@pytest.mark.parametrize("where", ["on_forward", "on_backward"])
@pytest.mark.parametrize("what", ["gradient", "loss", "predict"])
def test_a_second_thread_that_trains_is_told_to_copy(where, what):
    asked = []

    def meet():
        if asked:  # the second thread has come in
            return
        asked.append(what)
        calls = {
            "gradient": lambda: network.gradient(OTHER, T[:4]),
            "loss": lambda: network.loss(OTHER, T[:4]),
            "predict": lambda: network.predict(OTHER, train_flg=True),
        }
        with pytest.raises(StateError, match=rf"Network\.{what}.*: {REMEDY}"):
            in_thread(calls[what])

    network = everything(**{where: meet})
    expected = gradient_of(everything())
    assert_same(gradient_of(network), expected)
    assert asked == [what]
    assert not _holders


@pytest.mark.parametrize("where", ["on_forward", "on_backward"])
@pytest.mark.parametrize("same_thread", [False, True])
def test_predictions_within_a_step_leave_it_alone(where, same_thread, backend):
    """In any thread; the step's gradients are those of an undisturbed network."""
    seen = []

    def predict():
        network.accuracy(OTHER, T[:4])
        return network.predict(OTHER)

    def meet():
        seen.append(predict() if same_thread else in_thread(predict))

    network, alone = everything(**{where: meet}), everything()
    network.backend = alone.backend = backend
    assert_same(gradient_of(network), gradient_of(alone))
    assert len(seen) == 1
    if where == "on_backward":  # the statistics of both are those after one forward
        np.testing.assert_array_equal(seen[0], alone.predict(OTHER))


def test_evaluation_leaves_the_layers_as_they_are():
    network = everything()
    gradient_of(network)
    layers = [layer for _, layer in network.named_layers()]
    before = [dict(vars(layer)) for layer in layers]
    network.predict(OTHER)
    for layer, attributes in zip(layers, before, strict=True):
        assert vars(layer).keys() == attributes.keys()
        for name, value in attributes.items():
            assert getattr(layer, name) is value, (type(layer), name)


def test_many_threads_one_network_no_wrong_gradient():
    network = everything()
    network.layers[-2].dropout_ratio = 0.0  # masks are drawn in the order of the threads
    inputs = [X + i for i in range(8)]
    expected = [copy.deepcopy(network).gradient(x, T) for x in inputs]
    refused, right = [], []

    def work(number):
        for _ in range(20):
            try:
                got = network.gradient(inputs[number], T)
            except StateError:
                refused.append(number)
                continue
            assert_same(got, expected[number])
            right.append(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(refused) + len(right) == 160 and right


def test_networks_of_the_same_layers_are_one_to_threads():
    asked = []

    def meet():
        if asked:
            return
        asked.extend([copy.copy(network), Network(network.layers)])
        for other in asked:
            with pytest.raises(StateError, match=REMEDY):
                in_thread(other.gradient, OTHER, T[:4])

    network = everything(on_forward=meet)
    network.gradient(X, T)
    assert len(asked) == 2


def test_copies_train_at_the_same_time():
    barrier = threading.Barrier(4, timeout=60)
    networks = [everything(on_forward=barrier.wait) for _ in range(4)]
    networks[1] = copy.deepcopy(everything())
    networks[1].layers[9].on_forward = barrier.wait
    for network in networks:
        network.layers[-2].dropout_ratio = 0.0
    alone = everything()
    alone.layers[-2].dropout_ratio = 0.0
    expected = alone.gradient(X, T)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda network: network.gradient(X, T), networks):
            assert_same(got, expected)


@pytest.mark.parametrize("where", ["on_forward", "on_backward"])
def test_a_step_inside_of_a_step_is_refused(where):
    network = everything(**{where: lambda: network.gradient(X, T)})
    with pytest.raises(StateError, match="inside a step of the same network"):
        network.gradient(X, T)
    setattr(network.layers[9], where, None)
    network.gradient(X, T)


def test_an_error_within_a_step_lets_the_next_thread_in():
    class Failure(Exception):
        pass

    def fail():
        raise Failure

    network = everything(on_backward=fail)
    with pytest.raises(Failure):
        network.gradient(X, T)
    with pytest.raises(ValueError, match="input has 5 channels"):
        network.loss(np.zeros((2, 5, 8, 8)), T[:2])
    network.layers[9].on_backward = None
    assert not _holders
    assert in_thread(network.gradient, X, T).keys() == network.params.keys()


def test_threads_may_take_turns():
    network, optimizer = everything(), SGD(0.05)
    alone, its = everything(), SGD(0.05)
    np.random.seed(0)
    expected = []
    for _ in range(4):
        its.update(alone.params, alone.gradient(X, T))
        expected.append(alone.last_layer.loss)
    np.random.seed(0)
    got = []
    for _ in range(4):
        optimizer.update(network.params, in_thread(network.gradient, X, T))
        got.append(network.last_layer.loss)
    assert got == expected


def test_coroutines_of_one_thread_take_turns():
    network = everything()
    network.layers[-2].dropout_ratio = 0.0
    inputs = [X, X[::-1], X * 2]
    expected = [copy.deepcopy(network).gradient(x, T) for x in inputs]

    async def step(x):
        await asyncio.sleep(0)
        gradient = network.gradient(x, T)
        await asyncio.sleep(0)
        return gradient

    async def together():
        return await asyncio.gather(*map(step, inputs))

    for got, wanted in zip(asyncio.run(together()), expected, strict=True):
        assert_same(got, wanted)


class Book:
    """A network in the book's style, with layers of fastconv's."""

    def __init__(self, on_forward=None):
        self.params = {"W1": drawn(128, 3), "b1": drawn(3)}
        self.layers = {"Meeting": Meeting(on_forward), "Affine1": Affine(*self.params.values())}
        self.last_layer = Network([]).last_layer

    def predict(self, x):
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def loss(self, x, t):
        return self.last_layer.forward(self.predict(x), t)

    def accuracy(self, x, t):
        return float(np.mean(self.predict(x).argmax(axis=1) == t))

    def gradient(self, x, t):
        self.loss(x, t)
        self.layers["Affine1"].backward(self.last_layer.backward())
        return {"W1": self.layers["Affine1"].dW, "b1": self.layers["Affine1"].db}


def trainer(network, **options):
    options = {"epochs": 1, "mini_batch_size": 3, "verbose": False, "seed": 0, **options}
    return Trainer(network, X, T, X, T, **options)


@pytest.mark.parametrize("make", [everything, Book])
@pytest.mark.parametrize("shared", ["network", "optimizer"])
def test_two_runs_at_once_share_nothing_that_learns(make, shared):
    asked = []

    def meet():
        if asked:
            return
        network = first.network if shared == "network" else make()
        optimizer = first.optimizer if shared == "optimizer" else SGD()
        asked.append(trainer(network, optimizer=optimizer))
        with pytest.raises(StateError, match=f"Trainer: {REMEDY}"):
            in_thread(asked[0].train)
        with pytest.raises(StateError, match=f"Trainer: {REMEDY}"):
            in_thread(asked[0].train_step)
        assert asked[0].train_loss_list == []

    first = trainer(make(on_forward=meet), optimizer=SGD())
    first.train()
    assert len(first.train_loss_list) == 2 and asked
    in_thread(asked[0].train)
    assert len(asked[0].train_loss_list) == 2


def test_between_the_steps_of_a_run_its_network_is_its_own():
    """Not only inside `gradient`: the run reads `last_layer.loss` after it."""
    seen = []

    def callback(trainer, record):
        with pytest.raises(StateError, match=REMEDY):
            in_thread(trainer.network.gradient, X, T)
        seen.append(in_thread(trainer.network.accuracy, X, T))
        seen.append(trainer.network.loss(X, T))  # the run's own thread may

    run = trainer(everything(), callbacks=[callback])
    run.train()
    assert len(seen) == 2


def test_an_ensemble_answers_while_a_member_trains():
    answers = []
    network = everything(on_backward=lambda: answers.append(in_thread(both.predict, OTHER)))
    both = Ensemble([everything(), network])
    assert_same(gradient_of(network), gradient_of(everything()))
    assert answers[0].shape == (4, 3) and np.isfinite(answers[0]).all()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_child_may_train_what_another_thread_held():
    network = everything()
    network.backend = "numpy"
    begun, end = threading.Event(), threading.Event()
    network.layers[9].on_forward = lambda: (begun.set(), end.wait(60))
    thread = threading.Thread(target=network.gradient, args=(X, T))
    thread.start()
    begun.wait(60)
    code = multiprocessing.get_context("fork").Value("i", -1)

    def child():
        network.layers[9].on_forward = None
        other = copy.copy(network)  # whose plan was in the middle of a step
        code.value = len(other.gradient(X, T))

    try:
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(60)
    finally:
        end.set()
        thread.join()
    assert code.value == len(network.params)


def test_holding_is_by_object_and_may_nest():
    one, two = object(), object()
    with exclusively("op", [one]):
        with exclusively("op", [one, two]):
            pass
        with exclusively("op", [two]):
            assert len(_holders) == 2

        def other():
            with exclusively("op", [two]):
                assert len(_holders) == 2
            with (
                pytest.raises(StateError, match="op: another thread"),
                exclusively("op", [two, one]),
            ):
                pass
            assert len(_holders) == 1

        in_thread(other)
    assert not _holders


# ---- layers by hand ---------------------------------------------------------------------

LAYERS = {
    "Convolution": lambda: conv(4, 2),
    "Relu": Relu,
    "Pooling": lambda: Pooling(2, 2, 2),
    "AveragePooling": lambda: AveragePooling(2, 2, 2),
    "Affine": lambda: Affine(drawn(128, 3), drawn(3)),
    "BatchNormalization": lambda: BatchNormalization(np.ones(128, "f4"), np.zeros(128, "f4")),
    "BatchNormalization2d": lambda: norm(2),
    "LocalResponseNormalization": lambda: LocalResponseNormalization(3),
    "Tanh": Tanh,
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_layer_that_another_thread_has_used_since_is_no_way_back(make):
    layer, alone = make(), make()
    dout = np.ones_like(alone.forward(X[:4]))
    wanted = alone.backward(dout)
    with ThreadPoolExecutor(1) as other:
        layer.forward(OTHER)
        other.submit(layer.forward, X[:4]).result()
        with pytest.raises(StateError, match=r"another thread has called forward.*copy\.deepcopy"):
            layer.backward(dout)
        np.testing.assert_array_equal(other.submit(layer.backward, dout).result(), wanted)
        layer.forward(X[:4])
        np.testing.assert_array_equal(layer.backward(dout), wanted)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_threads_may_hand_a_layer_over(make):
    """Forward in one thread and backward in the next, as an executor may have it."""
    layer, alone = make(), make()
    dout = np.ones_like(alone.forward(X[:4]))
    wanted = alone.backward(dout)
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        for one, next_one in ((first, second), (second, first), (first, first)):
            one.submit(layer.forward, X[:4]).result()
            np.testing.assert_array_equal(next_one.submit(layer.backward, dout).result(), wanted)
