"""Memory of large results is reused, but never while something refers to them."""

from __future__ import annotations

import copy
import gc
import os
import signal
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from fastconv import layers, ops
from fastconv.errors import OutOfMemory
from fastconv.network import Network
from fastconv.ops import memory
from fastconv.selection import registry

LARGE = (64, 1 << 12)
"""Shape of a result whose memory is kept: 1 MB of float32."""


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory._current, "pool", memory.Pool(memory.MOST))


def test_free_memory_is_reused() -> None:
    first = memory.empty(LARGE, np.float32)
    place = address(first)
    del first
    assert address(memory.empty(LARGE, np.float32)) == place


@pytest.mark.parametrize(
    "hold",
    [
        lambda array: array,
        lambda array: array[3:5, ::7],
        lambda array: array.T.reshape(-1, 2, order="F").view(np.int32),
        lambda array: memoryview(array),
        lambda array: np.from_dlpack(array),
        lambda array: array.ctypes.data_as(__import__("ctypes").c_void_p),
    ],
    ids=["array", "slice", "view", "buffer", "dlpack", "pointer"],
)
def test_memory_in_use_is_left_alone(hold: object) -> None:
    held = hold(memory.empty(LARGE, np.float32))  # type: ignore[operator]
    (kept,) = memory._current.pool.kept
    kept[:] = 1
    for _ in range(3):
        memory.empty(LARGE, np.float32)[:] = 2
    assert (kept == 1).all()
    assert len(memory._current.pool.kept) == 2
    del held, kept
    memory.empty(LARGE, np.float32)
    assert len(memory._current.pool.kept) == 2


def test_memory_kept_has_a_limit() -> None:
    held = [memory.empty((memory.MOST // 8,), np.uint8) for _ in range(20)]
    assert sum(kept.size for kept in memory._current.pool.kept) <= memory.MOST
    for i, array in enumerate(held):
        array[:] = i
    assert [int(array[-1]) for array in held] == list(range(20))


def test_memory_is_taken_for_what_it_exceeds_by_a_quarter_at_most() -> None:
    pool, size = memory.Pool(memory.MOST), memory.LEAST
    place = address(pool.empty_bytes(size + size // memory.ROOM))
    assert address(pool.empty_bytes(size - memory.ROOM)) != place
    assert address(pool.empty_bytes(size)) == place


def test_one_result_takes_a_quarter_of_what_the_process_keeps_at_most() -> None:
    pool = memory.Pool(1 << 20)
    pool.empty_bytes((1 << 18) + 1)
    assert pool.kept == []
    pool.empty_bytes(1 << 18)
    assert [kept.size for kept in pool.kept] == [1 << 18]


def test_a_result_far_smaller_leaves_large_memory_to_large_ones() -> None:
    place = address(memory.empty((1 << 22,), np.uint8))
    small = memory.empty((1 << 17,), np.uint8)
    assert address(small) != place
    assert address(memory.empty((1 << 22,), np.uint8)) == place


def test_released_memory_is_free_memory_alone() -> None:
    """What is in use stays known, and is drawn from again once it is free."""
    held, free = memory.empty(LARGE, np.float32), memory.empty(LARGE, np.float32)
    place = address(held)
    del free
    memory._current.pool.release()
    assert len(memory._current.pool.kept) == 1
    del held
    assert address(memory.empty(LARGE, np.float32)) == place


def test_a_use_counts_memory_by_the_largest_size_that_it_was_drawn_for() -> None:
    use = memory.Use(memory.Pool())
    first, other = np.empty(50, np.uint8), np.empty(70, np.uint8)
    use.note(first, 40)
    use.note(first, 30)
    assert (use.drawn, use.most) == (40, 40)
    use.note(first, 50)
    use.note(other, 70)
    assert (use.drawn, use.most) == (120, 120)
    use.lose(first)
    assert (use.drawn, use.most) == (70, 120)


def test_memory_that_another_use_draws_is_counted_there_alone() -> None:
    pool = memory.Pool()
    first, second = memory.Use(pool), memory.Use(pool)
    pool.begin(first)
    pool.begin(second)
    place = address(pool.empty_bytes(memory.LEAST, first))
    assert (first.drawn, second.drawn) == (memory.LEAST, 0)
    assert address(pool.empty_bytes(memory.LEAST, second)) == place
    assert (first.drawn, second.drawn) == (0, memory.LEAST)
    pool.release()
    assert (first.drawn, second.drawn) == (0, 0)


@pytest.mark.parametrize("make", [memory.empty, memory.fresh])
def test_what_no_machine_has_is_said_in_gib(make) -> None:
    wanted = r"shape \(4194304, 4194304\) and dtype float64 takes 131,072 GiB, more than there is"
    with pytest.raises(OutOfMemory, match=wanted):
        make((1 << 22, 1 << 22), np.float64)


def test_nothing_along_axes_too_long_for_numpy() -> None:
    with pytest.raises(OutOfMemory, match="too long together, even if there is one of length 0"):
        memory.empty((0, 1 << 62, 8), np.float64)


def test_arrays_begin_at_a_cache_line() -> None:
    for size in (1, 100, 1 << 15, 1 << 20):
        assert address(memory.empty((size,), np.float64)) % memory.LINE == 0


def test_a_layer_result_that_is_kept_does_not_change(backend: str) -> None:
    rng = np.random.default_rng(0)
    relu = layers.Relu(backend=backend)
    x = rng.standard_normal((8, 16, 32, 32)).astype(np.float32)
    first = relu.forward(x)
    copy = first.copy()
    for _ in range(4):
        relu.forward(-x)
    np.testing.assert_array_equal(first, copy)


def test_a_loop_over_convolutions_asks_for_no_new_memory(backend: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 4, 32, 32)).astype(np.float32)
    weight, bias = rng.standard_normal((16, 4, 3, 3)).astype(np.float32), np.zeros(16, np.float32)
    places = set()
    for _ in range(5):
        out, _ = ops.conv2d_forward(x, weight, bias, 1, 1, backend)
        places.add(address(out))
        del out, _
    assert len(places) == 1


# ---- the pool of a network ------------------------------------------------------------


def images(*sizes: int) -> list[np.ndarray]:
    return [np.zeros((1, 3, size, size), np.float32) for size in sizes]


def plain(backend: str) -> Network:
    """A row of convolutions with ReLU: each draws an output of 8 channels, nothing else large."""
    rng = np.random.default_rng(0)
    found: list[layers.Layer] = []
    for channels in (3, 8, 8, 8):
        weight = rng.standard_normal((8, channels, 3, 3)).astype(np.float32)
        found += [layers.Convolution(weight, np.zeros(8, np.float32), pad=1), layers.Relu()]
    head = rng.standard_normal((8, 4)).astype(np.float32)
    found += [layers.GlobalAveragePooling(), layers.Affine(head, np.zeros(4, np.float32))]
    return Network(found, backend=backend)


def kept(network: Network) -> int:
    """Bytes that the network keeps for later calls."""
    return sum(block.size for block in network._executor.pool.kept)


def need(network: Network, x: np.ndarray) -> int:
    """Bytes that the pool of such a network has after one prediction and no other."""
    alone = copy.deepcopy(network)
    alone.predict(x)
    return kept(alone)


@pytest.fixture
def network() -> Network:
    return plain("cython" if registry().status("cython") else "numba")


@pytest.fixture
def allocations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all memory that pools have newly allocated."""
    sizes: list[int] = []

    def empty(shape: object, dtype: object) -> np.ndarray:
        if isinstance(shape, int):
            sizes.append(shape)
        return np.zeros(shape, dtype)  # type: ignore[call-overload]

    stand_in = SimpleNamespace(**{**vars(np), "empty": empty})
    monkeypatch.setattr(memory, "np", stand_in)
    return sizes


def test_one_size_keeps_two_outputs_of_a_row(network: Network) -> None:
    (x,) = images(256)
    for _ in range(5):
        network.predict(x)
    output = 8 * 256 * 256 * 4
    # Each layer's input and output, and the kernels' scratch, which is far less.
    assert 2 * output <= kept(network) < 3 * output


def test_growing_sizes_keep_twice_the_largest(network: Network) -> None:
    for x in images(*range(64, 384, 16)):
        network.predict(x)
        assert kept(network) <= 2 * need(network, x)


def test_random_sizes_keep_twice_the_largest(network: Network) -> None:
    largest = 0
    for x in images(*np.random.default_rng(0).integers(64, 320, 60)):
        network.predict(x)
        largest = max(largest, need(network, x))
        assert kept(network) <= 2 * largest


def test_memory_of_a_large_size_is_freed_when_only_small_ones_follow(network: Network) -> None:
    large, small = images(320, 64)
    network.predict(large)
    before = kept(network)
    for _ in range(memory.RECENT):
        network.predict(small)
    assert kept(network) <= 2 * need(network, small) < before / 4


def test_training_keeps_twice_what_a_step_needs(network: Network) -> None:
    rng = np.random.default_rng(0)
    alone = copy.deepcopy(network)
    alone.gradient(rng.random((20, 3, 48, 48)), rng.integers(0, 4, 20))
    for size in rng.integers(2, 21, 40):
        network.gradient(rng.random((size, 3, 48, 48)), rng.integers(0, 4, size))
        assert kept(network) <= 2 * kept(alone)


def test_sizes_that_take_turns_ask_for_memory_once(
    network: Network, allocations: list[int]
) -> None:
    """A loop of training batches, a last smaller one, and evaluations."""
    rng = np.random.default_rng(0)
    x, t = rng.random((60, 3, 32, 32)).astype(np.float32), rng.integers(0, 4, 60)

    def epoch() -> None:
        for size in (40, 40, 40, 23):
            network.gradient(x[:size], t[:size])
        for size in (60, 60, 17):
            network.predict(x[:size])

    def turns() -> None:
        network.gradient(x[:40], t[:40])
        network.predict(x[:60])

    for loop in (epoch, turns):
        for _ in range(5):  # the third of a size is recorded, also of the last batches
            loop()
        assert allocations
        allocations.clear()
        for _ in range(5):
            loop()
        assert [size for size in allocations if size >= memory.LEAST] == []


def test_an_evaluation_of_many_batches_does_not_cost_the_next_step_its_memory(
    network: Network, allocations: list[int]
) -> None:
    rng = np.random.default_rng(0)
    x, t = rng.random((40, 3, 32, 32)).astype(np.float32), rng.integers(0, 4, 40)
    for _ in range(4):  # the third of these is recorded
        network.gradient(x, t)
        network.predict(x[:10])
    allocations.clear()
    for _ in range(memory.RECENT - 10):
        network.predict(x[:10])
    network.gradient(x, t)
    assert [size for size in allocations if size >= memory.LEAST] == []


def test_idle_threads_keep_nothing_of_their_own(network: Network) -> None:
    (x,) = images(128)
    together, leave = threading.Barrier(50, timeout=60), threading.Event()
    done = threading.Semaphore(0)

    def work() -> None:
        together.wait()
        network.predict(x)
        done.release()
        leave.wait(60)  # a thread that stays, as in a server

    threads = [threading.Thread(target=work) for _ in range(50)]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            assert done.acquire(timeout=60)
        assert kept(network) <= 2 * need(network, x)
    finally:
        leave.set()
        for thread in threads:
            thread.join()


def test_two_threads_that_predict_at_once_reuse_memory(
    network: Network, allocations: list[int]
) -> None:
    (x,) = images(128)
    inside = threading.Barrier(2, timeout=60)

    class Together(layers.Layer):
        def forward(self, x: np.ndarray) -> np.ndarray:
            inside.wait()
            return x

    both = Network([*network.layers[:4], Together(), *network.layers[4:]], backend=network.backend)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            list(pool.map(both.predict, [x] * 2))
        allocations.clear()
        for _ in range(10):
            list(pool.map(both.predict, [x] * 2))
    # Chance decides which is ahead, but hardly anything is allocated twice.
    large = sum(size for size in allocations if size >= memory.LEAST)
    assert large < 10 * 2 * need(network, x) / 4


def test_a_network_that_is_gone_keeps_nothing() -> None:
    network, (x,) = plain("numba"), images(128)
    network.gradient(x, [1])
    network.predict(x)
    blocks = [weakref.ref(block) for block in network._executor.pool.kept]
    assert blocks and all(block() is not None for block in blocks)
    gc.disable()  # must work without it
    try:
        del network
        assert all(block() is None for block in blocks)
    finally:
        gc.enable()


def test_a_loss_without_a_gradient_keeps_no_activations(network: Network) -> None:
    """All that `loss` drew is free afterwards for what comes next."""
    (x,) = images(128)
    network.loss(x, [1])
    pool = network._executor.pool
    last = network.layers[-1]
    last.forget()
    assert len(pool.kept) >= 4
    free = [memory._references(pool.kept, i) == memory._UNUSED for i in range(len(pool.kept))]
    assert all(free)


def test_only_the_caller_refers_to_a_prediction(network: Network) -> None:
    (x,) = images(128)
    network.predict(x)
    pool = network._executor.pool
    assert pool.kept
    for i in range(len(pool.kept)):
        assert memory._references(pool.kept, i) == memory._UNUSED
    for _, layer in network.named_layers():
        assert getattr(layer, "x", None) is None and layer._context is None


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_no_child_of_a_fork_finds_a_pool_locked() -> None:
    stop = threading.Event()

    def draw() -> None:
        pool = memory.Pool(memory.MOST)
        while not stop.is_set():
            pool.empty_bytes(memory.LEAST)

    threads = [threading.Thread(target=draw) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            child = os.fork()
            if child == 0:
                signal.alarm(10)  # kills a child that waits for a lock
                memory.empty(LARGE, np.float32)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
