"""Prepared networks against the networks that they were made of.

What a network predicts is compared with the oracle elsewhere; here it is the expectation, bit for
bit, since a program makes the same calls. It must know that the weights stay as they are, as in a
program (`by_calls`): else it may fold none, or choose another algorithm.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv import config, selection
from fastconv.backends.algorithms import CONSTANT, forward_by
from fastconv.backends.calls import Call, call_each, move
from fastconv.backends.shared.axes import common_axes
from fastconv.errors import ArgumentError, DTypeError, ShapeError
from fastconv.layers import Convolution, Dropout, Layer, Relu, Tanh
from fastconv.layers.tree import leaves
from fastconv.models import make_model
from fastconv.models.ensemble import Ensemble
from fastconv.network import Network
from fastconv.network.fusion import KNOWN
from fastconv.network.program import Program
from fastconv.network.views import View
from fastconv.ops import memory, recording
from fastconv.ops.recording import Recorder
from fastconv.testing import ways

from .layer_rows import ROWS, SHAPE, Draw, convolutions, dense, grouped, joins
from .took import fine_grain


@pytest.fixture(autouse=True)
def threads():
    """Two, for the least work."""
    with fine_grain():
        fastconv.set_num_threads(2)
        config.set_programs("on")
        yield


def whole(rows, dtype, backend):
    return Network(rows(Draw(dtype)), dtype, backend)


def by_calls(network, x):
    """What the network predicts, call by call, on weights that stay as they are."""
    with forward_by(CONSTANT):
        return network.predict(x)


def images(rng, dtype="float32", n=2):
    return rng.standard_normal((n, *SHAPE[1:])).astype(dtype)


def test_the_rows_have_every_layer_that_is_known():
    there = {type(leaf) for row in ROWS for _, leaf in leaves(row(Draw("float32")))}
    assert there == KNOWN


@pytest.mark.parametrize("row", ROWS)
def test_it_predicts_what_the_network_predicts(backend, dtype, rng, row):
    network = whole(row, dtype, backend)
    prepared = network.prepare(SHAPE)
    assert len(prepared.parts) == 1
    assert prepared.parts[0].startswith(backend)
    for n in (2, 1, 2):
        x = images(rng, dtype, n)
        found = prepared.predict(x)
        np.testing.assert_array_equal(found, by_calls(network, x))
        assert found.dtype == dtype
        assert not np.shares_memory(found, prepared.predict(x))


@pytest.fixture
def cython():
    """The backend's table; what is Numba's alone is in test_programs."""
    if not (status := selection.registry().status("cython")):
        pytest.skip(status.reason)
    return selection.active("cython")


@pytest.mark.parametrize("algorithm", ["direct", "winograd2", "winograd2x4", "winograd4"])
def test_every_algorithm(dtype, rng, cython, algorithm):
    config.set_conv_algorithm(algorithm)
    network = whole(convolutions, dtype, "cython")
    prepared = network.prepare(SHAPE)
    for _ in range(2):
        x = np.maximum(images(rng, dtype), 0)
        x[:, :, :9] = 0  # windows of zeros are the bias
        np.testing.assert_array_equal(prepared.predict(x), by_calls(network, x))
    with ways(cython) as taken:
        prepared.predict(x)
    assert {way.how for way in taken if way.part == "forward"} == {algorithm, "direct"}
    assert any(way.parallel for way in taken)


@pytest.mark.parametrize("name", ["deepconvnet", "resnet20", "googlenet"])
def test_models(backend, rng, name):
    shape = (1, 28, 28) if name == "deepconvnet" else (3, 32, 32)
    network = make_model(name, shape, 10, seed=0, dtype="float32", backend=backend)
    prepared = network.prepare((2, *shape))
    assert len(prepared.parts) == 1
    for _ in range(2):
        x = rng.random((2, *shape), dtype=np.float32)
        np.testing.assert_array_equal(prepared.predict(x), by_calls(network, x))


def test_filters_that_are_transformed_once_choose_other_algorithms(backend, rng):
    if backend == "numpy":
        pytest.skip("NumPy has one algorithm")
    network = make_model("deepconvnet", (1, 28, 28), 10, seed=0, dtype="float64", backend=backend)
    prepared = network.prepare((1, 1, 28, 28))
    by = [step.algorithm for step in prepared.description.steps if step.algorithm]
    assert by == ["direct", "winograd2x4", "direct", "winograd2x4", "winograd2x4", "winograd2x4"]
    assert not any(step.measured for step in prepared.description.steps)
    x = rng.random((1, 1, 28, 28))
    np.testing.assert_allclose(prepared.predict(x), network.predict(x), rtol=1e-9)


@pytest.mark.parametrize("row", ROWS)
def test_python_calls_no_kernel(rng, monkeypatch, cython, dtype, row):
    network = whole(row, dtype, "cython")
    prepared = network.prepare(SHAPE)
    x = images(rng, dtype)
    expected = by_calls(network, x)
    monkeypatch.setattr(selection.registry().load("cython"), "_kernels", None)
    with pytest.raises(AttributeError):
        network.predict(x)
    np.testing.assert_array_equal(prepared.predict(x), expected)


def test_each_run_asks_anew_whether_all_is_finite(backend, dtype):
    """Merged groups would spread a NaN, so that they are merged or not by what comes in."""
    network = Network([Draw(dtype).conv(32, 32, groups=8)], dtype, backend)
    prepared = network.prepare((1, 32, 9, 9))
    x = np.ones((1, 32, 9, 9), dtype)
    for value in (1, np.nan, np.inf, 2, -np.inf, 0, np.nan, 1):
        x[0, 0, 4, 4] = value
        with np.errstate(invalid="ignore"):
            found = prepared.predict(x)
            np.testing.assert_array_equal(found, by_calls(network, x))
        spoilt = ~np.isfinite(found).all(axis=(0, 2, 3))
        assert spoilt.sum() == (0 if np.isfinite(value) else 4)  # its own group's


@pytest.mark.parametrize("row", ROWS)
def test_ways_are_taken_as_often_as_by_calls(cython, row):
    """Of two ways that are both recorded, one is taken."""
    network = whole(row, "float32", "cython")
    prepared = network.prepare(SHAPE)
    x = np.ones(SHAPE)
    counts = []
    for predict in (partial(by_calls, network), prepared.predict):
        with ways(cython) as taken:
            predict(x)
        counts.append(Counter((way.part, way.how) for way in taken.elements()))
    pools = counts[0].pop(("maxpool2d_forward", "positions"), 0)
    assert counts[1] == counts[0] + Counter({("maxpool2d_forward", "values"): pools})


def test_parts_run_where_their_condition_holds(cython, dtype):
    kernels = selection.registry().load("cython")._kernels
    x, flag = np.ones(9999, dtype), np.ones(1, np.intp)
    source, outs = np.arange(9, dtype=dtype), np.zeros((3, 9), dtype)

    def calls():
        kernels.look_for_others(x, flag, 2)
        for number, condition in enumerate((flag, flag, None)):
            kernels.only_if(condition, number)
            kernels.move(source, outs[number], common_axes(source, outs[number]), 1.0, 2)

    program = kernels.Program(True)
    program.record(calls, [x, flag, source, outs])
    assert [out.any() for out in outs] == [False, True, True]  # it was recorded on finite numbers
    for value, expected in ((np.nan, 0), (1, 1), (np.inf, 0), (-np.inf, 0), (0, 1)):
        x[-1], outs[...] = value, 0
        program.run()
        assert flag[0] == expected
        assert [out.any() for out in outs] == [expected == 0, expected == 1, True]


def test_what_a_run_of_grouped_convolutions_needs_is_kept(cython, rng):
    """Taps, tables and phases are made by Python, which forgets them."""
    network = whole(grouped, "float32", "cython")
    x = images(rng)
    expected = network.predict(x)
    prepared = network.prepare(SHAPE)
    del network
    garbage = [np.full(1 << n, np.nan, np.float32) for n in range(4, 20) for _ in range(4)]
    np.testing.assert_array_equal(prepared.predict(x), expected)
    del garbage


def test_what_no_input_reaches_is_not_computed_again(backend):
    """Weights that have to be brought into order are brought there once."""
    layer = Convolution(np.asfortranarray(np.ones((5, 3, 3, 3), np.float32)), None)
    assert Network([layer], "float32", backend).prepare(SHAPE).parts == (f"{backend}: 1 calls",)


def test_layers_of_another_dtype(backend, rng):
    """Numbers are converted where the layers meet."""
    layers = [Draw(dtype).conv(6, 3 if i == 0 else 6, pad=0) for i, dtype in enumerate("fdf")]
    layers += [Dropout(0.2), Draw("d").affine(6 * 7 * 5, 3)]
    network = Network(layers, "float32", backend)
    prepared = network.prepare(SHAPE)
    for _ in range(2):
        x = images(rng)
        np.testing.assert_array_equal(prepared.predict(x), by_calls(network, x))


def test_places_in_memory_are_used_again():
    """Of eleven layers of one size, no more than a few lie in memory at a time."""
    draw = Draw("float32")
    layers = [layer for _ in range(11) for layer in (draw.conv(4, 4), Tanh())]
    program = Program(
        Network(layers, backend="numpy")._snapshot(True)[0], (8, 4, 32, 32), "float32"
    )
    image = 8 * 4 * 32 * 32 * 4
    assert 2 * image <= program.description.block_bytes <= 3 * image + 1024


def test_broken_numbers_reach_what_they_reach(backend, rng):
    network = whole(grouped, "float32", backend)
    prepared = network.prepare(SHAPE)
    x = images(rng)
    prepared.predict(x)
    x[0, 1, 2, 3], x[1, 0, 0, 0] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(prepared.predict(x), by_calls(network, x))


# ---- a snapshot -------------------------------------------------------------------------


def test_it_is_a_snapshot_until_it_is_refreshed(backend, rng):
    network = whole(joins, "float32", backend)
    prepared = network.prepare(SHAPE)
    x = images(rng)
    before = {n: by_calls(network, x[:n]) for n in (2, 1)}
    for value in network.params.values():
        value *= 0.5
    for n, expected in before.items():  # two were prepared before, one is only now
        np.testing.assert_array_equal(prepared.predict(x[:n]), expected)
    prepared.refresh()
    after = by_calls(network, x)
    assert not np.array_equal(after, before[2])
    np.testing.assert_array_equal(prepared.predict(x), after)


def test_what_is_set_again_is_no_change(cython):
    fastconv.set_math_mode("default")
    prepared = whole(dense, "float32", "cython").prepare(SHAPE)
    (kept,) = next(iter(prepared._programs.values()))
    fastconv.set_math_mode("default")
    fastconv.set_num_threads(2)
    prepared.predict(np.zeros(SHAPE))
    assert next(iter(prepared._programs.values())) == [kept]


def test_settings_that_change_are_followed(rng, cython):
    network = make_model("deepconvnet", (1, 28, 28), 10, seed=0, dtype="float32")
    x = rng.random((32, 1, 28, 28), dtype=np.float32)
    with fastconv.use_backend("cython"):
        prepared = network.prepare(x.shape)
        default = prepared.predict(x)
        fastconv.set_math_mode("fast")
        fast = prepared.predict(x)
        assert not np.array_equal(default, fast)
        np.testing.assert_array_equal(fast, network.predict(x))
    with fastconv.use_backend("numpy"):
        np.testing.assert_array_equal(prepared.predict(x), by_calls(network, x))
        assert prepared.parts[0].startswith("numpy")


class Doubled(Layer):
    """A layer of the user's own."""

    def forward(self, x):
        return 2 * x

    def backward(self, dout):
        return 2 * dout


def test_a_layer_of_the_users_own_runs_in_python(backend, rng):
    draw = Draw("float32")
    layers = [draw.conv(5, 3), Doubled(), Relu(), draw.affine(5 * 13 * 11, 3)]
    network = Network(layers, "float32", backend)
    prepared = network.prepare(SHAPE)
    assert prepared.parts[1] == "Python: Doubled" and len(prepared.parts) == 3
    for _ in range(2):
        x = images(rng)
        np.testing.assert_array_equal(prepared.predict(x), by_calls(network, x))


class OddRelu(Relu):
    """A derived class computes something else, and is not taken for what it derives from."""

    def forward(self, x):
        return super().forward(x) - 1


def test_a_derived_layer_runs_in_python(backend, rng):
    network = Network([Draw("float32").conv(5, 3), OddRelu()], "float32", backend)
    prepared = network.prepare(SHAPE)
    assert prepared.parts == (f"{backend}: 1 calls", "Python: OddRelu")
    for _ in range(2):
        x = images(rng)
        np.testing.assert_array_equal(prepared.predict(x), by_calls(network, x))


class Failing(Doubled):
    def forward(self, x):
        if np.isnan(x).any():
            raise ValueError("no NaN, please")
        return x


def test_an_error_leaves_it_usable(backend, rng):
    network = Network([Draw("float32").conv(5, 3), Failing()], "float32", backend)
    prepared = network.prepare(SHAPE)
    x = images(rng)
    with pytest.raises(ValueError, match="no NaN, please"):
        prepared.predict(x * np.float32(np.nan))
    np.testing.assert_array_equal(prepared.predict(x), by_calls(network, x))


class Asking(Doubled):
    """A layer that asks a prepared network of its own, which is prepared while the outer one is."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.asked = inner, None

    def forward(self, x):
        self.asked = self.asked or self.inner.prepare(x.shape)
        return self.asked.predict(x)


def test_one_inside_of_another(backend, rng):
    draw = Draw("float32")
    inner = Network([draw.conv(4, 5), Relu()], "float32", backend)
    network = Network([draw.conv(5, 3), Asking(inner), draw.conv(2, 4)], "float32", backend)
    prepared = network.prepare(SHAPE)
    assert len(prepared.parts) == 3
    for _ in range(2):
        x = images(rng)
        np.testing.assert_array_equal(prepared.predict(x), by_calls(network, x))


class Moody(Doubled):
    answer = staticmethod(lambda x: x)

    def forward(self, x):
        return self.answer(x)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda x: x[:, :1], ShapeError, r"Moody: output has shape \(2, 1, 13, 11\), expected"),
        (lambda x: x.astype("d"), DTypeError, "Moody: output has dtype float64, expected float32"),
    ],
)
def test_a_layer_that_changes_its_mind(rng, monkeypatch, answer, error, message):
    network = Network([Draw("float32").conv(5, 3), Moody()], "float32", "numpy")
    prepared = network.prepare(SHAPE)
    monkeypatch.setattr(Moody, "answer", staticmethod(answer))
    with pytest.raises(error, match=message):
        prepared.predict(images(rng))


# ---- threads ----------------------------------------------------------------------------


def test_many_threads_share_one(backend, rng):
    network = whole(dense, "float32", backend)
    prepared = network.prepare(SHAPE)
    inputs = [images(rng) for _ in range(6)]
    expected = [network.predict(x) for x in inputs]
    wrong: list[int] = []

    def predict(number):
        for _ in range(8):
            if not np.array_equal(prepared.predict(inputs[number]), expected[number]):
                wrong.append(number)

    workers = [threading.Thread(target=predict, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_what_another_thread_calls_is_not_written_down(backend):
    recorder = Recorder()
    with recorder.recording():
        other = threading.Thread(target=Relu(backend).forward, args=(np.ones((9, 999)),))
        other.start()
        other.join()
        assert recorder.steps == []
        Relu(backend).forward(np.ones(9))
    assert [step.kernel for step in recorder.steps] == ["relu_forward"]


def test_another_thread_may_predict_while_one_prepares(rng):
    """Its calls are not written down, and its results are its own."""
    network = whole(joins, "float32", "numpy")
    x = images(rng)
    expected, stop, wrong = network.predict(x), threading.Event(), []
    prepared_gives = by_calls(network, x)
    parts = network.prepare(SHAPE).parts

    def predict():
        while not stop.is_set():
            if not np.array_equal(network.predict(x), expected):
                wrong.append(1)

    other = threading.Thread(target=predict)
    other.start()
    try:
        for _ in range(10):
            prepared = network.prepare(SHAPE)
            np.testing.assert_array_equal(prepared.predict(x), prepared_gives)
            assert prepared.parts == parts
    finally:
        stop.set()
        other.join()
    assert not wrong


# ---- what goes in and comes out ------------------------------------------------------------


@pytest.fixture
def prepared():
    return whole(dense, "float32", "numpy").prepare(SHAPE)


@pytest.mark.parametrize("shape", [(3, 3, 13, 11), (2, 3, 13, 10), (2, 429), (3, 13, 11)])
def test_another_shape_is_refused(prepared, shape):
    with pytest.raises(
        ShapeError, match=r"prepared for inputs of shape \(1 to 2, 3, 13, 11\), got"
    ):
        prepared.predict(np.zeros(shape))


def test_what_is_no_number_is_refused(prepared):
    with pytest.raises(DTypeError, match="expected real numbers"):
        prepared.predict(np.zeros(SHAPE, complex))


@pytest.mark.parametrize("shape", [5, (), (3,), (0, 3, 13, 11), (2, 3, 13.5, 11), "big"])
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises(ArgumentError, match="prepare"):
        Network([Relu()]).prepare(shape)


def test_it_does_not_train(prepared):
    with pytest.raises(ArgumentError, match="does not train"):
        prepared.predict(np.zeros(SHAPE), train_flg=True)


def test_nothing_gives_nothing(prepared):
    assert prepared.predict(np.zeros((0, *SHAPE[1:]))).shape == (0, 10)


def test_probabilities_and_accuracy(prepared, rng):
    x = rng.standard_normal((7, *SHAPE[1:]))
    scores = np.concatenate([prepared.predict(x[i : i + 2]) for i in range(0, 7, 2)])
    shares = np.exp(scores[:2]) / np.exp(scores[:2]).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(prepared.predict_proba(x[:2]), shares, rtol=1e-5)
    t = scores.argmax(axis=1)
    t[2] = (t[2] + 1) % 10
    assert prepared.accuracy(x, t) == pytest.approx(6 / 7)
    assert prepared.accuracy(x, t, batch_size=100) == pytest.approx(6 / 7)


def test_few_batch_sizes_are_kept():
    network = Network([Relu()], "float32", "numpy")
    prepared = network.prepare((50, 2))
    for n in range(1, 50):
        prepared.predict(np.zeros((n, 2)))
    assert len(prepared._programs) == 8


def test_an_ensemble_is_prepared(backend, rng):
    members = [
        make_model("lenet", (1, 28, 28), 10, seed=seed, dtype="float32", backend=backend)
        for seed in (0, 1)
    ]
    ensemble = Ensemble(members, (View(), View(down=1)))
    prepared = ensemble.prepare((4, 1, 28, 28))
    x = rng.random((4, 1, 28, 28), dtype=np.float32)
    np.testing.assert_array_equal(prepared.probabilities(x), ensemble.probabilities(x))
    with pytest.raises(ArgumentError, match="make_model"):
        prepared.save("never.npz")


# ---- calls ----------------------------------------------------------------------------------


def test_move_and_call_each(rng):
    source, out = rng.standard_normal((3, 4)), np.empty((3, 4))
    move(source, 1, out)
    np.testing.assert_array_equal(out, source)
    call_each([Call(None, "move", {"source": source.T, "factor": 3, "out": out.T})]).run()
    np.testing.assert_array_equal(out, 3 * source)


PEAK = """
from pathlib import Path
import numpy as np
from fastconv.layers import Convolution, Relu
from fastconv.network import Network

def peak():  # getrusage's would be that of the process that started this one, if it was larger
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

W, b = np.ones((8, 8, 1, 1), np.float32), np.zeros(8, np.float32)
network = Network([layer for _ in range(12) for layer in (Convolution(W, b), Relu())], "float32")
network.backend = "cython"
before = peak()
prepared = network.prepare((1, 8, 512, 512))
print(peak() - before, prepared.description.bytes_without_reuse)
"""


def told_by(code):
    """The numbers that a process of its own prints, where no memory was used before."""
    found = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0", "FASTCONV_PROGRAMS": "on"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return map(int, found.stdout.split())


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of a process")
def test_arrays_of_a_trace_take_no_memory(cython):
    grown, without_reuse = told_by(PEAK)
    assert grown < without_reuse / 2


def test_a_trace_tells_nobody_and_draws_nothing():
    told, drawn = [], []
    recorder = Recorder(traces=True)
    with recorder.recording():
        x = recorder.given(np.full(3, np.nan))
        mask = recording.drawn(lambda: drawn.append(1), (3,), np.bool_)
        out = recording.computed("1 / x", lambda x: 1 / (x + 1), x)
        recording.noted(lambda *arrays: told.append(arrays), out)
        recording.moved_to(target := np.zeros(3), out)
        large = memory.empty((1 << 18,), np.float64)
    assert not told and not drawn and not mask.any() and not target.any()
    assert not any(np.shares_memory(large, kept) for kept in memory._current.pool.kept)
    assert [out.shape, len(recorder.draws), len(recorder.notes)] == [(3,), 1, 1]
    np.testing.assert_array_equal(out, np.ones(3))  # of zeros, whatever x has


def test_a_method_that_was_replaced_on_its_class_runs(rng, backend, monkeypatch):
    plain = Tanh.forward
    monkeypatch.setattr(Tanh, "forward", lambda self, x: 2 * plain(self, x) + 1)
    network = Network([Draw("float32").conv(4, 3), Tanh()], "float32", backend)
    x = images(rng)
    prepared = network.prepare(x.shape)
    np.testing.assert_array_equal(prepared.predict(x), by_calls(network, x))


def test_without_a_copy_there_is_one_set_of_weights(rng):
    def new():
        return make_model("lenet", (1, 28, 28), 10, seed=0, dtype="float32")

    weights = sum(value.nbytes for value in new().params.values())
    x = rng.random((1, 1, 28, 28), dtype=np.float32)
    new().prepare(x.shape)  # the first of a process leaves more
    held = {}
    for copy in (True, False):
        network = new()
        expected = network.predict(x)
        gc.collect()
        tracemalloc.start()
        prepared = network.prepare(x.shape, copy=copy)
        gc.collect()
        held[copy] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        np.testing.assert_array_equal(prepared.predict(x), expected)
    assert 0.9 * weights < held[True] - held[False] < 1.1 * weights


IN_HUGE_PAGES = """
from pathlib import Path
import numpy as np
from fastconv import config
from fastconv.layers import Convolution
from fastconv.network import Network
config.set_conv_algorithm("direct")
W, b = np.ones((512, 512, 3, 3), np.float32), np.zeros(512, np.float32)
prepared = Network([Convolution(W, b, pad=1)], "float32", "cython").prepare((1, 512, 7, 7))
found = size = 0
for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
    name, *words = line.split()
    if name == "Size:":
        size = int(words[0]) * 1024
    elif name == "VmFlags:" and "hg" in words:
        found += size
print(found, W.nbytes)
"""


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="this system has none"
)
def test_packed_weights_lie_in_huge_pages(cython):
    """NumPy, which would ask for them too, is told not to."""
    in_huge_pages, weights = told_by(IN_HUGE_PAGES)
    assert in_huge_pages > weights - (1 << 21)  # what is left is less than such a page
