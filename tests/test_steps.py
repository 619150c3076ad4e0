"""Training steps by programs against the steps that the layers take.

What the layers compute is compared with the oracle elsewhere; here it is the expectation, bit for
bit, since a program makes the same calls.
"""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv import config, selection
from fastconv.backends.calls import MOVE, WRITES, call_each
from fastconv.errors import DTypeError, LabelError, OutOfMemory, ShapeError, StateError
from fastconv.layers import (
    Affine,
    BatchNormalization,
    BatchNormalization2d,
    Convolution,
    Dropout,
    Pooling,
    Relu,
    Sigmoid,
    SoftmaxWithLoss,
    Subsampling,
    Tanh,
)
from fastconv.models import DeepConvNet, make_model
from fastconv.network import Network, step
from fastconv.network.ready import told
from fastconv.ops import recording
from fastconv.ops.arrays import compute_in
from fastconv.optimizer import Adam, Momentum

from .conftest import ROOT
from .layer_rows import ROWS, SHAPE, Draw, convolutions, dense, elementwise, grouped, joins
from .took import fine_grain


@pytest.fixture(params=["cython"])
def name(request):
    """Of a backend whose steps are programs."""
    if not (status := selection.registry().status(request.param)):
        pytest.skip(status.reason)
    return request.param


BOTH = pytest.mark.parametrize("name", ["cython", "numba"], indirect=True)

SOME = pytest.mark.parametrize(
    ("name", "dtype", "threads"),
    [
        *(("cython", dtype, threads) for dtype in ("float32", "float64") for threads in (1, 2)),
        ("numba", "float32", 2),
    ],
    indirect=["name"],
)
"""Numba compiles for each combination."""


@pytest.fixture(autouse=True)
def two_threads(name):
    """Two threads, for the least work."""
    with fine_grain(), fastconv.use_backend(name):
        fastconv.set_num_threads(2)
        config.set_programs("on")
        yield


@pytest.fixture
def no_kernel_from_python(monkeypatch, name):
    """A function after which no kernel of a program may be called from Python."""

    def forbid():
        backend = selection.registry().load(name)

        def called(*_, **__):
            raise AssertionError("a kernel is called from Python")

        for kernel in {*WRITES} - {MOVE}:
            monkeypatch.setattr(backend, kernel, called)

    return forbid


def whole(row, dtype):
    layers = row(Draw(dtype))
    features = Network(layers, dtype).predict(np.zeros(SHAPE, dtype)).reshape(2, -1).shape[1]
    return Network([*layers, Draw(dtype).affine(features, 5)], dtype)


def small(dtype="float32"):
    draw = Draw(dtype)
    layers = [
        *(draw.conv(8, 3), Relu(), draw.conv(8, 8), Relu(), Pooling(2, 2, 2)),
        *(draw.affine(8 * 6 * 5, 7), Relu(), Dropout(0.3), draw.affine(7, 5)),
    ]
    return Network(layers, dtype)


def batch(rng, n=2, shape=SHAPE[1:], dtype="float32", classes=5):
    return rng.standard_normal((n, *shape)).astype(dtype), rng.integers(0, classes, n)


class Pair:
    """A network, and a copy of it whose steps are never programs."""

    def __init__(self, network, optimizer=Adam):
        self.networks = network, copy.deepcopy(network)
        steps = self.networks[1]._executor._steps
        steps.begin = lambda row, x: step._Eager(row, steps.pool)
        self.optimizers = optimizer(), optimizer()
        self.seed = 0

    def step(self, x, t):
        """Take a step with both, and compare all that it leaves."""
        self.seed += 1
        found = []
        for network, optimizer in zip(self.networks, self.optimizers, strict=True):
            np.random.seed(self.seed)  # of dropout
            grads = network.gradient(x, t)
            arrays = [network.last_layer.loss, network.last_layer.y, *grads.values()]
            arrays += [*network.buffers.values(), np.random.random()]
            found.append(copy.deepcopy(arrays))
            optimizer.update(network.params, grads)
            found[-1] += network.params.values()
        for one, other in zip(*found, strict=True):
            np.testing.assert_array_equal(one, other)


def is_program(network):
    """Whether the steps of any shape run as a program."""
    return bool(network._executor._steps._programs)


@SOME
@pytest.mark.parametrize("row", ROWS)
def test_a_step_leaves_what_the_layers_leave(name, dtype, rng, row, threads, no_kernel_from_python):
    fastconv.set_num_threads(threads)
    pair = Pair(whole(row, dtype))
    for n in (2, 2, 2, 2, 2, 1, 1, 1, 1, 2):
        pair.step(*batch(rng, n, dtype=dtype))
    assert is_program(pair.networks[0])
    if row is grouped:  # whose weights are turned in Python
        return
    if name == "cython" or row not in (joins, convolutions):  # Numba finishes sums in NumPy
        no_kernel_from_python()
        pair.networks[0].gradient(*batch(rng, 1, dtype=dtype))


@SOME
@pytest.mark.parametrize("algorithm", ["direct", "winograd2", "winograd2x4", "winograd4"])
@pytest.mark.parametrize("n", [1, 3])
def test_every_algorithm(name, dtype, rng, threads, algorithm, n):
    fastconv.set_num_threads(threads)
    config.set_conv_algorithm(algorithm)
    pair = Pair(whole(convolutions, dtype))
    for _ in range(6):
        pair.step(*batch(rng, n, dtype=dtype))
    assert is_program(pair.networks[0])


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        *(("deepconvnet", (1, 28, 28)), ("lenet", (1, 28, 28)), ("digitnet5", (1, 28, 28))),
        ("resnet20", (3, 32, 32)),
    ],
)
def test_models(rng, model, shape):
    pair = Pair(make_model(model, shape, 5, seed=0), Momentum)
    for _ in range(5):
        pair.step(*batch(rng, 3, shape))
    assert is_program(pair.networks[0])


def test_moves_alone_between_what_numpy_computes(rng):
    draw = Draw("float32")
    layers = [draw.conv(4, 3), Sigmoid(), Subsampling(1, 2), Sigmoid(), draw.affine(6 * 13 * 11, 5)]
    pair = Pair(Network(layers))
    for _ in range(5):
        pair.step(*batch(rng))
    assert is_program(pair.networks[0])


@BOTH
@pytest.mark.parametrize("grain", [300, 2000, 10_000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_are_cut_as_they_are_in_one_call(rng, grain, dtype):
    """A program wakes threads for less work than one call does."""
    fastconv.set_num_threads(3)
    with fine_grain(grain):
        for row in (convolutions, dense, elementwise):
            pair = Pair(whole(row, dtype))
            for _ in range(5):
                pair.step(*batch(rng, dtype=dtype))
            assert is_program(pair.networks[0])


def test_with_more_threads_than_blocks(rng):
    fastconv.set_num_threads(5)
    pair = Pair(whole(convolutions, "float32"))
    for _ in range(5):
        pair.step(*batch(rng, 1))


def test_gradients_stay_as_they_are(rng):
    network = small()
    kept = []
    for _ in range(8):
        grads = network.gradient(*batch(rng))
        kept.append((grads, copy.deepcopy(grads)))
    (program,) = network._executor._steps._programs.values()
    assert len(program._lent) == step.LENT
    for grads, before in kept:
        for key in grads:
            np.testing.assert_array_equal(grads[key], before[key])
    assert grads["W1"] is network.layers[0].dW


def test_memory_of_gradients_is_used_again_once_nobody_has_them(rng):
    network = small()
    x, t = batch(rng)
    for _ in range(4):
        grads = network.gradient(x, t)
    places = []
    for _ in range(6):
        grads = network.gradient(x, t)
        places.append(grads["W1"].ctypes.data)
    assert len(set(places)) == step.LENT
    (program,) = network._executor._steps._programs.values()
    assert program._copied is None
    view = grads["W2"][1:]
    for _ in range(3):
        del grads
        grads = network.gradient(x, t)
        assert not np.shares_memory(grads["W2"], view)


def test_gradients_that_nobody_has_lie_in_one_memory(rng):
    network = small()
    for _ in range(10):
        network.gradient(*batch(rng))
    (program,) = network._executor._steps._programs.values()
    assert len(program._lent) == 1


def resnet():
    return make_model("resnet20", (3, 32, 32), 5, seed=0)


def layers_that_keep_what_they_saw():
    layers = [layer for _ in range(6) for layer in (Tanh(), Pooling(3, 3, 1, 1))]
    return Network([*layers, Draw("float32").affine(3 * 32 * 32, 5)])


@pytest.mark.parametrize("made", [resnet, layers_that_keep_what_they_saw])
def test_a_program_has_its_memory_instead_of_the_steps_before(rng, made):
    network = made()
    x, t = batch(rng, 8, (3, 32, 32))
    held = []
    gc.collect()
    gc.disable()  # what is dropped must not wait for it
    tracemalloc.start()
    try:
        for _ in range(step.TRACED + 2):
            network.gradient(x, t)
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
        gc.enable()
    assert is_program(network)
    assert held[-1] < 1.2 * held[1]


def test_where_nobody_counts_references_gradients_are_copied(rng, monkeypatch):
    monkeypatch.setattr(step, "references", lambda memory: None)
    pair = Pair(small())
    kept = []
    for _ in range(8):
        x, t = batch(rng)
        pair.step(x, t)
        kept.append(pair.networks[0].layers[0].dW)
    assert not any(np.shares_memory(a, b) for a, b in pairwise(kept))


def test_scores_stay_as_they_are(rng):
    network = small()
    x, t = batch(rng)
    for _ in range(4):
        network.gradient(x, t)
    scores = network.predict(x, train_flg=True)
    before = scores.copy()
    network.gradient(*batch(rng))
    np.testing.assert_array_equal(scores, before)


def double(network):
    network.layers[5].W = network.layers[5].W * 2


def drop_more(network):
    network.layers[7].dropout_ratio = 0.6


def pool_less(network):
    network.layers[4].pool_h = 1


def take_out(network):
    del network.layers[6]


def put_another(network):
    network.layers[3] = Relu()


def replace_forward(network):
    relu = network.layers[6]
    relu.forward = lambda x: 2 * type(relu).forward(relu, x)


def freeze(network):
    network.freeze("W1", "b1")


def invert(network):
    network.layers[7].inverted = True


def assign(network):
    network.params["W1"] = np.ones_like(network.params["W1"])


def put_another_kind(network):
    network.layers[3] = Tanh()


def follows(pair, change, rng):
    """Take steps that are a program's, then others by changed layers."""
    for _ in range(5):
        pair.step(*batch(rng))
    assert is_program(pair.networks[0])
    for network in pair.networks:
        change(network)
    for _ in range(6):
        pair.step(*batch(rng))


CHANGES = [
    *(double, drop_more, invert, take_out, put_another, put_another_kind),
    *(replace_forward, freeze, assign),
]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_followed(rng, change):
    follows(Pair(small()), change, rng)


def put_inside(network):
    network.layers[0].layers["1"].layers["1"] = Tanh()


def put_more_inside(network):
    network.layers[0].layers["1"].layers["4"] = Tanh()


def set_inside(network):
    network.layers[0].layers["2"].layers["0"].stride = 1
    network.layers[0].layers["2"].layers["1"].dropout_ratio = 0.9


def own_forward_inside(network):
    relu = network.layers[0].layers["1"].layers["1"]
    relu.forward = partial(doubled, relu)


def doubled(layer, x):
    return 2 * type(layer).forward(layer, x)


@pytest.mark.parametrize("change", [put_inside, put_more_inside, set_inside, own_forward_inside])
def test_layers_inside_of_others_may_change(rng, change):
    follows(Pair(whole(joins, "float32")), change, rng)


def test_a_class_whose_method_is_replaced(rng, monkeypatch):
    pair = Pair(small())
    for _ in range(5):
        pair.step(*batch(rng))
    backward = Affine.backward
    monkeypatch.setattr(Affine, "backward", lambda self, dout, **k: 3 * backward(self, dout, **k))
    for _ in range(5):
        pair.step(*batch(rng))
    assert not is_program(pair.networks[0])


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [
        (BatchNormalization, "epsilon", 0.1),
        (Dropout, "_draw", lambda self, shape: self.mask),
        (BatchNormalization2d, "frozen", True),
    ],
)
def test_what_a_class_says_may_change(rng, monkeypatch, kind, setting, value):
    pair = Pair(whole(convolutions if kind is BatchNormalization2d else dense, "float32"))
    for _ in range(5):
        pair.step(*batch(rng))
    assert is_program(pair.networks[0])
    monkeypatch.setattr(kind, setting, value)
    for _ in range(6):
        pair.step(*batch(rng))


class ChangingLoss(SoftmaxWithLoss):
    """Changes a layer in the middle of the step that is watched."""

    calls = 0

    def forward(self, x, t):
        self.calls += 1
        if self.calls == step.TRACED - 1:
            self.layer.dropout_ratio = 0.6
        return super().forward(x, t)


def test_a_layer_that_changes_between_forward_and_backward(rng):
    network = small()
    network.layers[7].inverted = True
    network.last_layer = ChangingLoss()
    network.last_layer.layer = network.layers[7]
    pair = Pair(network)
    for ratio in (None, 0.4):
        for network in pair.networks:
            network.layers[7].dropout_ratio = ratio or network.layers[7].dropout_ratio
        for _ in range(6):
            pair.step(*batch(rng))
    assert is_program(pair.networks[0])


class OddLoss(SoftmaxWithLoss):
    """Has gradients of another kind now and then."""

    change = staticmethod(lambda dout: dout)

    def backward(self, dout=1):
        return self.change(super().backward(dout))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda dout: dout[:1], ShapeError),
        (lambda dout: dout.sum(), ShapeError),
        (lambda dout: dout * 1j, DTypeError),
        (lambda dout: dout.astype(object), DTypeError),
    ],
)
def test_gradients_of_a_loss_are_checked(rng, change, error):
    network = small()
    network.last_layer = OddLoss()
    pair = Pair(network)
    for _ in range(5):
        pair.step(*batch(rng))
    for network in pair.networks:
        network.last_layer.change = change
        with pytest.raises(error):
            network.gradient(*batch(rng))
        network.last_layer.change = lambda dout: dout.astype(np.float64).tolist()
    for _ in range(3):
        pair.step(*batch(rng))


@pytest.mark.parametrize("dtype", [object, complex, "U3", "M8[s]"])
def test_inputs_that_are_no_numbers(rng, dtype):
    network = small()
    for _ in range(5):
        with pytest.raises(DTypeError, match="real numbers"):
            network.predict(np.zeros(SHAPE).astype(dtype), train_flg=True)


def test_another_dtype_of_inputs(rng):
    pair = Pair(small())
    for dtype in ("float32", "float64", "float32"):
        for network in pair.networks:
            network.dtype = np.dtype(dtype)
        for _ in range(5):
            pair.step(*batch(rng, dtype="float64"))
        assert is_program(pair.networks[0])


def test_another_dtype_of_all_operations(rng):
    pair = Pair(small())
    for dtype in (None, "float64", None):
        compute_in(dtype)
        try:
            for _ in range(5):
                pair.step(*batch(rng))
        finally:
            compute_in(None)
        assert is_program(pair.networks[0])


def test_who_observes_sees_the_kernels(rng, name):
    network = small()
    seen = []

    class Seen:
        def __init__(self, backend):
            self.backend = backend

        def __getattr__(self, name):
            seen.append(name)
            return getattr(self.backend, name)

    for observing in (True, False, True):
        seen.clear()
        if observing:
            selection.observe(Seen)
        try:
            for _ in range(5):
                seen.clear()
                network.gradient(*batch(rng))
        finally:
            selection.observe_no_more(Seen)
        assert ("conv2d_block_backward" in seen) == observing


def test_steps_inside_of_a_recording_belong_to_it(rng):
    network = small()
    for count in (5, 1):
        for _ in range(count):
            network.gradient(*batch(rng))
        recorder = recording.Recorder()
        with recorder.recording():
            network.predict(batch(rng)[0], train_flg=True)
        kernels = [one.kernel for one in recorder.steps if hasattr(one, "kernel")]
        assert "conv2d_block_forward" in kernels


def set_math(fast):
    fastconv.set_math_mode("fast" if fast else None)


def set_threads(one):
    fastconv.set_num_threads(1 if one else 2)


@pytest.mark.parametrize("setting", [set_math, set_threads])
def test_settings_are_followed(rng, setting):
    pair = Pair(whole(convolutions, "float32"))
    for changed in (False, True, False):
        setting(changed)
        for _ in range(5):
            pair.step(*batch(rng))
        assert is_program(pair.networks[0])


def test_another_backend_is_the_one_that_runs(rng, no_kernel_from_python):
    network = small()
    x, t = batch(rng)
    for _ in range(5):
        network.gradient(x, t)
    no_kernel_from_python()
    with fastconv.use_backend("numpy"):
        expected = copy.deepcopy(network.gradient(x, t))
    assert expected.keys() == network.gradient(x, t).keys()
    network.backend = "numpy"
    for _ in range(5):
        network.gradient(x, t)


def test_a_backend_of_a_context(rng, name):
    pair = Pair(whole(convolutions, "float32"))
    for backend in (name, "numpy", name):
        with fastconv.use_backend(backend):
            for _ in range(5):
                pair.step(*batch(rng))


def no_run(self):
    raise AssertionError("calls are made one after the other")


def test_off_is_off(rng, no_kernel_from_python, monkeypatch):
    config.set_programs("off")
    network = small()
    prepared = network.prepare(SHAPE)
    for _ in range(5):
        network.gradient(*batch(rng))
    assert not is_program(network)
    x, t = batch(rng)
    monkeypatch.setattr(call_each, "run", no_run)
    with pytest.raises(AssertionError, match="one after the other"):
        prepared.predict(x)
    no_kernel_from_python()
    with pytest.raises(AssertionError, match="from Python"):
        network.gradient(x, t)


class Doubled(Relu):
    """Computes something else than its base."""

    def forward(self, x):
        return 2 * super().forward(x)

    def backward(self, dout):
        return 2 * super().backward(dout)


class Counted:
    """A layer of the user's own that changes nothing, but counts."""

    has_modes = False
    parameter_names = ()
    backend = None

    def __init__(self):
        self.count = 0

    def forward(self, x):
        self.count += 1
        return x

    def backward(self, dout):
        return dout


def freeze_first(layers, monkeypatch):
    layers[0].frozen = True


def put_a_derived_class(layers, monkeypatch):
    layers[6] = Doubled()


def put_own_forward(layers, monkeypatch):
    layers[6].forward = layers[6].forward


def put_own_backward(layers, monkeypatch):
    layers[6].backward = layers[6].backward


def patch_forward(layers, monkeypatch):
    plain = Affine.forward
    monkeypatch.setattr(Affine, "forward", lambda self, x: plain(self, x))


def patch_backward(layers, monkeypatch):
    plain = Affine.backward
    monkeypatch.setattr(Affine, "backward", lambda self, dout, **more: plain(self, dout, **more))


def put_a_number_in_an_array(layers, monkeypatch):
    layers[7].dropout_ratio = np.array(0.5)


OWN = [
    *(
        put_a_number_in_an_array,
        freeze_first,
        put_a_derived_class,
        put_own_forward,
        put_own_backward,
    ),
    *(patch_forward, patch_backward),
]


@pytest.mark.parametrize("own", OWN)
def test_what_a_recording_would_not_know_is_not_recorded(rng, monkeypatch, own):
    layers = small().layers
    own(layers, monkeypatch)
    monkeypatch.setattr(step, "_Seen", None)
    pair = Pair(Network(layers))
    for _ in range(5):
        pair.step(*batch(rng))


@pytest.mark.parametrize("own", [Doubled, Counted])
def test_a_layer_of_the_users_own_is_called_each_time(rng, own):
    layers = small().layers
    layers[6] = own()
    pair = Pair(Network(layers))
    for i in range(6):
        pair.step(*batch(rng))
        if own is Counted:
            assert layers[6].count == i + 1


def anew(operation, number):
    """The operation, with one of its results as a copy that no recording knows of."""

    def returns_a_copy(*arguments, **more):
        results = list(operation(*arguments, **more))
        results[number] = results[number] * 1
        return tuple(results)

    return returns_a_copy


def test_shapes_that_take_turns_are_not_traced(rng, monkeypatch):
    monkeypatch.setattr(step, "_traced", None)
    network = small()
    for n in (1, 1, 2, 2) * 4:
        network.gradient(*batch(rng, n))


def test_what_is_not_known_is_seldom_asked_about(rng, monkeypatch):
    asked = []
    monkeypatch.setattr(step, "_is_known", lambda *_: asked.append(1))
    monkeypatch.setattr(step, "_Seen", None)
    network = small()
    for _ in range(60):
        network.gradient(*batch(rng))
    assert 0 < len(asked) < 8


def test_what_was_frozen_once_is_a_program_later(rng):
    pair = Pair(small())
    for frozen in (("W1", "b1"), ()):
        for network in pair.networks:
            network.freeze(*frozen)
        for _ in range(12):
            pair.step(*batch(rng))
        assert is_program(pair.networks[0]) is not bool(frozen)


@pytest.mark.parametrize(
    ("operation", "number"),
    [("relu_forward", 0), ("affine_forward", 0), ("affine_backward", 1), ("affine_backward", 2)],
)
def test_what_comes_from_elsewhere_is_no_constant(rng, monkeypatch, operation, number):
    """An operation that a recording does not know of."""
    monkeypatch.setattr(fastconv.ops, operation, anew(getattr(fastconv.ops, operation), number))
    network = small()
    if operation == "affine_forward":
        del network.layers[5:8]  # so that nothing but the loss reads what it returns
        network = Network([*network.layers[:5], Draw("float32").affine(8 * 6 * 5, 5)])
    pair = Pair(network)
    for _ in range(6):
        pair.step(*batch(rng))
    assert not is_program(pair.networks[0])


@pytest.mark.parametrize("bias", [0.5, None, np.float32(0.5), np.ones(1, "float32")])
def test_biases_that_are_no_vectors(rng, bias):
    network = small()
    network.layers[5].b = bias
    pair = Pair(network, partial(Partly, ["W1", "b1", "W2", "W3", "b4"]))
    for _ in range(5):
        pair.step(*batch(rng))
    network.layers[2].b = bias
    pair.networks[1].layers[2].b = bias
    for _ in range(5):
        pair.step(*batch(rng))


def test_layers_without_biases(rng):
    draw = Draw("float32")
    conv, affine = Convolution(draw.conv(4, 3).W, pad=1), Affine(draw.affine(4 * 13 * 11, 5).W)
    pair = Pair(Network([conv, Relu(), affine]))
    for _ in range(5):
        pair.step(*batch(rng))
    assert is_program(pair.networks[0])
    assert conv.db is None


class Partly:
    """Changes some parameters."""

    def __init__(self, keys):
        self.keys = keys

    def update(self, params, grads):
        for key in self.keys:
            params[key] -= np.float32(0.1) * grads[key]


@pytest.mark.parametrize("layers", [[], [Relu()], [Dropout(0.5, inverted=True)]])
def test_networks_that_learn_nothing(rng, layers):
    pair = Pair(Network(layers))
    for _ in range(6):
        pair.step(*batch(rng, shape=(5,)))


@pytest.mark.parametrize(
    ("change", "program"),
    [
        (lambda dout: dout.tolist(), False),
        (lambda dout: dout.astype(np.float64) / 3, True),  # backward computes in it
        (lambda dout: np.asfortranarray(dout), True),
    ],
)
def test_gradients_of_a_loss_of_another_kind(rng, change, program):
    network = small()
    network.last_layer = OddLoss()
    network.last_layer.change = change
    pair = Pair(network)
    for _ in range(6):
        pair.step(*batch(rng))
    assert is_program(pair.networks[0]) is program


def test_weights_of_another_dtype_are_converted_each_time(rng):
    network = small()
    network.layers[5].W = network.layers[5].W.astype(np.float64)
    pair = Pair(network)
    for _ in range(6):
        pair.step(*batch(rng))


@pytest.fixture
def watched(monkeypatch):
    """The steps that are watched."""
    found = []

    class Noted(step._Seen):
        def __init__(self, *arguments):
            found.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(step, "_Seen", Noted)
    return found


def test_without_the_memory_of_a_program_steps_go_on(rng, monkeypatch):
    def no_memory(*_):
        raise OutOfMemory("no memory")

    monkeypatch.setattr(step, "Places", no_memory)
    pair = Pair(small())
    for _ in range(6):
        pair.step(*batch(rng))
    assert not is_program(pair.networks[0])


def test_forwards_without_backward_are_seldom_watched(rng, watched):
    network = small()
    x, t = batch(rng)
    for _ in range(60):
        network.loss(x, t)
    assert 0 < len(watched) < 8
    for _ in range(70):
        network.gradient(x, t)
    assert is_program(network)


def test_what_is_large_is_a_program_too(rng):
    """A trace has all arrays at a time, but none of their memory."""
    pair = Pair(small())
    for _ in range(4):
        pair.step(*batch(rng, 500))
    assert is_program(pair.networks[0])


def test_programs_that_served_are_followed_by_others_at_once(rng):
    network = small()
    x, t = batch(rng)
    for _ in range(8):
        for _ in range(12):
            network.gradient(x, t)
        assert is_program(network)
        double(network)


def test_few_shapes_are_kept(rng):
    network = small()
    for n in (1, 2, 3, 4):
        for _ in range(4):
            network.gradient(*batch(rng, n))
    assert len(network._executor._steps._programs) == step.KEPT


def test_weights_that_are_replaced_at_each_step(rng, monkeypatch, watched):
    """The network is watched less and less often, and never traced."""
    monkeypatch.setattr(step, "_traced", None)
    network = small()
    for _ in range(60):
        network.gradient(*batch(rng))
        for layer in network.layers:
            if hasattr(layer, "W"):
                layer.W = layer.W.copy()
    assert 0 < len(watched) < 8


def test_a_layer_cannot_go_back_from_what_it_did_not_see(rng):
    network = small()
    for _ in range(5):
        network.gradient(*batch(rng))
    for layer in network.layers:
        if not isinstance(layer, (Dropout, Convolution)):
            with pytest.raises(StateError, match="before"):
                layer.backward(np.zeros((2, 7), "float32"))


def test_an_error_between_forward_and_backward(rng):
    pair = Pair(small())
    for _ in range(2):
        pair.step(*batch(rng))
    x, t = batch(rng)
    for _ in range(3):  # one of them is recorded
        for network in pair.networks:
            with pytest.raises(LabelError):
                network.gradient(x, t[:1])
        pair.step(*batch(rng))
    assert pair.networks[0].loss(x, t) > 0
    for _ in range(5):
        pair.step(*batch(rng))
    assert is_program(pair.networks[0])


def lines_of_a_step(network, x, t, interrupt_at=None):
    """The lines of what runs a step, in front of each ``yield``; Ctrl-C comes at one of them."""
    watched = {"step.py", "recording.py", "executor.py", "memory.py"}
    lines, behind = {}, set()

    def trace(frame, event, _):
        file = Path(frame.f_code.co_filename).name
        if file not in watched:
            return None
        if event == "return":
            behind.add(frame)
        elif event == "line" and frame not in behind:
            lines[file, frame.f_lineno] = None
            if interrupt_at == (file, frame.f_lineno):
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        network.gradient(x, t)
    finally:
        sys.settrace(before)
    return list(lines)


@pytest.mark.parametrize("steps", [step.TRACED - 2, step.TRACED - 1])
def test_ctrl_c_anywhere_in_a_step(rng, steps):
    x, t = batch(rng)

    def begun():
        network = small()
        for _ in range(steps):
            network.gradient(x, t)
        return network

    lines = lines_of_a_step(begun(), x, t)
    for line in {*lines[::20], *(line for line in lines if line[0] == "executor.py")}:
        network = begun()
        with pytest.raises(KeyboardInterrupt):
            lines_of_a_step(network, x, t, line)
        assert not selection.observed(), line
        assert recording._current is None, line
        gc.collect()
        assert not network._executor.pool._uses, line
        pair = Pair(network)
        for _ in range(5):
            pair.step(x, t)
        assert is_program(network), line


FORK = """
import os, signal, sys, threading, warnings
import numpy as np
import fastconv
from fastconv.models import make_model
from fastconv.ops.recording import Recorder

warnings.simplefilter("ignore")  # of os.fork, where there are threads
fastconv.set_backend(sys.argv[1])
fastconv.set_num_threads(1)
network = make_model("lenet", (1, 28, 28), 10, seed=0)
x, t = np.zeros((2, 1, 28, 28), "float32"), np.zeros(2, int)
network.gradient(x, t)
begun = threading.Event()

def record():
    with Recorder().recording():
        begun.set()
        threading.Event().wait(0.3)

thread = threading.Thread(target=record)
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)  # a child that hangs is killed, and told by its status
    for _ in range(4):
        network.gradient(x, t)
    os._exit(10 + len(network._executor._steps._programs))
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_forked_while_another_thread_records(name):
    done = subprocess.run(
        [sys.executable, "-P", "-c", FORK, name],
        env={**os.environ, "PYTHONPATH": str(ROOT), "FASTCONV_PROGRAMS": "on"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.split() == ["11"], done.stderr


def test_copies_begin_anew(rng):
    network = small()
    for _ in range(5):
        network.gradient(*batch(rng))
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert not is_program(other)
        x, t = batch(rng)
        for one in (network, other):
            np.random.seed(5)
            one.gradient(x, t)
        np.testing.assert_array_equal(network.layers[0].dW, other.layers[0].dW)


@BOTH
def test_numbers_that_are_not_finite(rng):
    pair = Pair(whole(dense, "float32"))
    for i in range(8):
        x, t = batch(rng)
        x[0, 0, 0, i] = [0, np.nan, np.inf, -np.inf][i % 4]
        pair.step(x, t)


def test_two_networks_train_in_two_threads(rng, name):
    batches = [batch(rng) for _ in range(12)]
    errors = []

    def train(pair):
        try:
            with fastconv.use_backend(name):
                for x, t in batches:
                    for network in pair:
                        network.gradient(x, t)
                    for key in pair[0].params:
                        one, other = (n.layers[0].dW for n in pair)
                        np.testing.assert_array_equal(one, other, key)
        except BaseException as error:
            errors.append(error)

    def without_dropout():
        network = small()
        del network.layers[7]
        return network

    pairs = [(without_dropout(), without_dropout()) for _ in range(3)]
    threads = [threading.Thread(target=train, args=(pair,)) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for pair in pairs:
        train(pair)
    assert not errors
    assert all(is_program(network) for pair in pairs for network in pair)


def test_steps_ask_for_no_new_memory(rng):
    network = DeepConvNet(seed=0)
    optimizer = Adam()
    x, t = batch(rng, 4, (1, 28, 28))

    def train(steps):
        for _ in range(steps):
            optimizer.update(network.params, network.gradient(x, t))

    train(6)
    kept = {id(memory) for memory in network._executor.pool.kept}
    train(20)
    assert kept == {id(memory) for memory in network._executor.pool.kept}


@pytest.mark.parametrize("row", [convolutions, joins])
@pytest.mark.parametrize("programs", ["on", "off"])
def test_gradients_are_told_of_when_they_are_complete(row, programs, rng, name):
    """Each is final, and told of once, those of the last layers first: by programs, and without."""
    network = whole(row, "float32")
    config.set_programs(programs)
    names = {(id(owner), f"d{attribute}"): key for key, owner, attribute in network.named_arrays()}
    calls = []

    def listen(complete):
        calls.append({names[id(layer), d]: array.copy() for layer, d, array in complete})

    kept = []
    for steps in range(6):
        calls.clear()
        with told(listen):
            grads = network.gradient(*batch(rng))
        found = [each for call in calls for each in call.items() if each[0] in grads]
        assert len(found) == len(grads)
        assert all(np.array_equal(value, grads[key]) for key, value in found), steps
        order = [key for key, _ in found]
        assert {*order[:2]} == {*list(grads)[-2:]} and sum(map(bool, calls)) > 2
        kept += [grads] * (steps > 2)  # in use: the last ones are copies
    programs_made = list(network._executor._steps._programs.values())
    assert len(programs_made) == (programs == "on")
    network.gradient(*batch(rng))  # nobody listens: a step of another kind
    assert all(len(each._lent[0]._pieces) > 2 for each in programs_made)
