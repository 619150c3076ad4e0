"""Memory of large results is used again, and never while somebody holds them."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import layers, ops
from fastconv.ops import memory

LARGE = (64, 1 << 12)
"""Shape of a result whose memory is kept: 1 MB of float32."""


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory._current, "pool", memory.Pool(memory.MOST))


def test_memory_that_nobody_holds_is_used_again() -> None:
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
def test_memory_that_somebody_holds_is_left_alone(hold: object) -> None:
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


def test_a_result_far_smaller_leaves_large_memory_to_large_ones() -> None:
    place = address(memory.empty((1 << 22,), np.uint8))
    small = memory.empty((1 << 17,), np.uint8)
    assert address(small) != place
    assert address(memory.empty((1 << 22,), np.uint8)) == place


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
