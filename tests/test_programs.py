"""Programs of Numba: what its kernels did once is done again, on other numbers.

What holds for every backend's is in test_prepared. Each is asked more than once, about several
inputs: what a run leaves behind shows in the next one.
"""

from __future__ import annotations

import multiprocessing
import sys

import numpy as np
import pytest

import fastconv
from fastconv import config, selection
from fastconv.backends.algorithms import CONSTANT, forward_by
from fastconv.backends.calls import MOVE, WRITES, Call, move
from fastconv.network import Network
from fastconv.testing import ways

from .layer_rows import ROWS, SHAPE, Draw, convolutions, dense, grouped
from .took import fine_grain

NAME = "numba"
THREADS = pytest.mark.parametrize("threads", [1, 2])


@pytest.fixture(autouse=True)
def numba():
    """The backend, which uses several threads for the least work."""
    if not (status := selection.registry().status(NAME)):
        pytest.skip(status.reason)
    fastconv.set_backend(NAME)
    config.set_programs("on")
    with fine_grain():
        yield selection.active()


def same(got, expected):
    """To the bit, but that a NaN is a NaN."""
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def by_calls(network, x):
    """What the network predicts, call by call, on weights that stay as they are."""
    with forward_by(CONSTANT):
        return network.predict(x)


def compare(network, prepared, *inputs):
    """Twice each, in turns."""
    for x in (*inputs, *inputs):
        same(prepared.predict(x), by_calls(network, x))


def build(layers, dtype):
    return Network(layers(Draw(dtype)), dtype, NAME)


def images(dtype, count=2, shape=SHAPE):
    rng = np.random.default_rng(7)
    return [rng.standard_normal(shape).astype(dtype) for _ in range(count)]


def whole(prepared):
    """One run of the backend's own, and nothing in Python."""
    assert len(prepared.parts) == 1, prepared.parts
    assert prepared.parts[0].startswith(NAME)


@THREADS
@pytest.mark.parametrize("algorithm", ["direct", "winograd2", "winograd2x4", "winograd4"])
def test_every_algorithm(dtype, algorithm, threads):
    fastconv.set_num_threads(threads)
    config.set_conv_algorithm(algorithm)
    network = build(convolutions, dtype)
    prepared = network.prepare(SHAPE)
    whole(prepared)
    one, other = images(dtype)
    other[:, :, :9] = 0  # windows that are empty have a way of their own
    compare(network, prepared, one, other)
    with ways(selection.active()) as taken:
        prepared.predict(one)
    hows = {way.how for way in taken if way.part == "forward"}
    assert hows == {algorithm, "direct"}
    assert any(way.parallel for way in taken) == (threads == 2)


@THREADS
def test_what_is_not_finite(dtype, threads):
    """Merged groups would spread it, so that they are merged or not by what comes in."""
    fastconv.set_num_threads(threads)
    network = build(grouped, dtype)
    prepared = network.prepare(SHAPE)
    one, other = images(dtype)
    for value in (np.nan, np.inf):
        one[0, 1, 4, 5] = value
        with np.errstate(invalid="ignore"):
            compare(network, prepared, one, other)

    alone = Network([Draw(dtype).conv(32, 32, groups=8)], dtype, NAME)
    prepared = alone.prepare((1, 32, 9, 9))
    (x,) = images(dtype, 1, (1, 32, 9, 9))
    x[0, 0, 4, 4] = np.nan
    compare(alone, prepared, x, np.ones_like(x))
    assert np.isnan(prepared.predict(x)).any(axis=(0, 2, 3)).sum() == 4  # its own group's


@THREADS
def test_python_calls_no_kernel(monkeypatch, numba, threads):
    fastconv.set_num_threads(threads)
    networks = [build(layers, "float32") for layers in ROWS]
    prepared = [network.prepare(SHAPE) for network in networks]
    (x,) = images("float32", 1)
    expected = [by_calls(network, x) for network in networks]

    def fail(*arguments, **more):
        raise AssertionError("called from Python")

    for kernel in {*WRITES} - {MOVE}:
        monkeypatch.setattr(numba, kernel, fail)
    monkeypatch.setattr(type(numba._team), "run", fail)
    for one, scores in zip(prepared, expected, strict=True):
        same(one.predict(x), scores)


def test_it_keeps_what_it_needs(numba):
    """Nothing that a run reads is freed with the network, or moved by another's work."""
    network = build(convolutions, "float32")
    (x,) = images("float32", 1)
    expected = by_calls(network, x)
    prepared = network.prepare(SHAPE)
    for _, layer in network.named_layers():
        for name in getattr(layer, "parameter_names", ()):
            getattr(layer, name)[...] = np.nan
    del network
    garbage = [np.full(1 << n, np.nan, np.float32) for n in range(4, 20) for _ in range(4)]
    for layers in ROWS:
        build(layers, "float32").prepare(SHAPE).predict(x)
    same(prepared.predict(x), expected)
    del garbage


def _asked_in_a_child(prepared, x, expected, pipe):
    pipe.send(bool(np.array_equal(prepared.predict(x), expected)))


@pytest.mark.skipif(sys.platform != "linux", reason="no fork that is safe")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_on_one_thread_a_forked_child_runs_it():
    """It enters no threading layer, which would not survive."""
    fastconv.set_num_threads(2)
    network = build(dense, "float32")
    (x,) = images("float32", 1)
    network.prepare(SHAPE).predict(x)
    fastconv.set_num_threads(1)
    prepared, expected = network.prepare(SHAPE), network.predict(x)
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(False)
    child = context.Process(target=_asked_in_a_child, args=(prepared, x, expected, send))
    child.start()
    try:
        assert receive.poll(60)
        assert receive.recv()
    finally:
        child.join(5)
        child.kill()


def test_the_callers_number_of_threads_stays(numba):
    import numba as package

    fastconv.set_num_threads(2)
    prepared = build(convolutions, "float32").prepare(SHAPE)
    package.set_num_threads(1)
    try:
        prepared.predict(images("float32", 1)[0])
        assert package.get_num_threads() == 1
    finally:
        package.set_num_threads(package.config.NUMBA_NUM_THREADS)


# ---- moves -------------------------------------------------------------------------------------

MOVES = {
    "as it lies": lambda x: (x, x.shape),
    "channels last": lambda x: (x.transpose(0, 2, 3, 1), (2, 6, 7, 5)),
    "channels first": lambda x: (x.reshape(2, 6, 7, 5).transpose(0, 3, 1, 2), (2, 5, 6, 7)),
    "some": lambda x: (x[:, 1:4, ::2, 1::3], (2, 3, 3, 2)),
    "backwards": lambda x: (x[::-1, :, ::-1], x.shape),
    "one number for all": lambda x: (np.broadcast_to(x[:1, :1], (3, 4, 6, 7)), (3, 4, 6, 7)),
    "one": lambda x: (x[1, 1, 1, 1, ...], ()),
    "none": lambda x: (x[:0], (0, 5, 6, 7)),
    "nine axes": lambda x: (
        x.reshape(2, 5, 2, 3, 7).transpose(4, 3, 2, 1, 0)[:, None, :, None, :, None, :, None],
        (7, 1, 3, 1, 2, 1, 5, 1, 2),
    ),
}


@THREADS
@pytest.mark.parametrize("factor", [1, 0.7])
@pytest.mark.parametrize("what", MOVES)
def test_moves(numba, dtype, threads, what, factor):
    """Whatever the order of memory on either side, and into part of an array."""
    fastconv.set_num_threads(threads)
    selection.active()
    x = np.arange(2 * 5 * 6 * 7, dtype=dtype).reshape(2, 5, 6, 7) / 3
    source, shape = MOVES[what](x)
    for to in (dtype, np.dtype("float64"), np.dtype("float32")):
        for order in "CF":
            around = np.full((*shape, 2), -1, to, order)
            out, expected = around[..., 1], np.empty(shape, to)
            move(source, factor, expected)
            arguments = {"source": source, "factor": factor, "out": out}
            run = numba.program([Call(None, MOVE, arguments)])
            out[...] = np.nan
            run.run()
            same(out, expected)
            assert (around[..., 0] == -1).all()


# ---- recordings --------------------------------------------------------------------------------


@THREADS
def test_a_launch_is_made_where_its_condition_holds(numba, threads):
    fastconv.set_num_threads(threads)
    selection.active()
    from fastconv.backends._numba.launch.recording import recording
    from fastconv.backends._numba.move import move_to

    flag, source, outs = np.ones(1, np.int64), np.ones(9), np.zeros((3, 9))

    def conditional():
        to = recording()
        for i in range(2):
            with to.only_if(flag, i):
                move_to(numba._team, outs[i], source, 1 + i)
        move_to(numba._team, outs[2], source, 3)

    run = numba._team.record([conditional])
    for value, expected in ((1, [0, 2, 3]), (0, [1, 0, 3])):
        flag[0], outs[...] = value, 0
        run.run()
        assert outs[:, 0].tolist() == outs[:, -1].tolist() == expected


def test_each_run_asks_anew_whether_all_is_finite(monkeypatch, numba, dtype):
    from fastconv.backends._numba.launch.recording import Recording

    flags, only_if = [], Recording.only_if

    def noted(self, flag, value):
        flags.append(flag)
        return only_if(self, flag, value)

    monkeypatch.setattr(Recording, "only_if", noted)
    prepared = Network([Draw(dtype).conv(32, 32, groups=8)], dtype, NAME).prepare((1, 32, 9, 9))
    (x,) = images(dtype, 1, (1, 32, 9, 9))
    assert len(flags) == 2
    for value, expected in ((1, 1), (np.inf, 0), (2, 1), (-np.inf, 0), (np.nan, 0), (0, 1)):
        x[0, -1, -1, -1] = value
        with np.errstate(invalid="ignore"):
            prepared.predict(x)
        assert [flag[0] for flag in flags] == [expected, expected]


def test_what_is_lent_lies_apart_until_the_call_ends(numba):
    from fastconv.backends._numba.launch.recording import CHUNK_BYTES, Recording

    to = Recording(numba._team.builder, True)
    sizes = (1, CHUNK_BYTES // 2, CHUNK_BYTES - 64, 100, 2 * CHUNK_BYTES, 0, 64)
    places = []
    for _ in range(3):
        lent = [to.lend(size) for size in sizes]
        for i, (memory, size) in enumerate(zip(lent, sizes, strict=True)):
            assert len(memory) >= size
            assert memory.ctypes.data % 64 == 0
            memory[...] = i
        assert all((memory == i).all() for i, memory in enumerate(lent))
        places.append([memory.ctypes.data for memory in lent])
        to.next_call()
    assert places[0] == places[1] == places[2]
