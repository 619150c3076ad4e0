"""DeepConvNet: inference, gradient, training step (gradient and Adam), and the plain loop.

The plain loop is what a reader of the book writes by hand over the layers; it must stay
fast too. Each is checked against the reference backend in float64, with the same dropout.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv.optimizer import Adam

from .check import EXACT_TO, assert_same, assert_same_gradients
from .data import batch_of, gradient_by_hand, network_of
from .timing import limited_threads, measure, note

FLOPS_FORWARD = 2 * (
    784 * 16 * 9 * (1 + 16)  # 28 x 28
    + 196 * 32 * 9 * 16  # 14 x 14
    + 256 * 32 * 9 * 32  # 16 x 16, by the pad of 2
    + 64 * 64 * 9 * (32 + 64)  # 8 x 8
    + 1024 * 50
    + 50 * 10
)
"""Operations of one image, convolutions counted as direct."""

# Backward takes two products for each of forward's, but for the gradient of the images.
FLOPS = {"inference": FLOPS_FORWARD, "other": 3 * FLOPS_FORWARD - 2 * 784 * 16 * 9}


@lru_cache(maxsize=1)  # for every thread count, dtype and backend of a batch size
def _wanted(batch: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(scores, gradients) in float64 by the reference."""
    network = network_of("float64", "numpy")
    x, t = batch_of(batch, "float64")
    np.random.seed(0)
    return {"scores": network.predict(x)}, network.gradient(x, t)


@pytest.mark.parametrize("task", ["inference", "gradient", "training step", "layers by hand"])
def test_network(
    benchmark: Any, task: str, batch: int, dtype: str, threads: int, backend: str, full: bool
) -> None:
    if full and dtype == "float64" and batch != 100:
        pytest.skip("float64 is measured at batch 100 only, for the time that it takes")
    network, adam = network_of(dtype, backend), Adam()
    x, t = batch_of(batch, dtype)
    what = f"{task} {backend} {dtype} batch {batch}"
    scores, gradients = _wanted(batch)

    def step() -> None:
        adam.update(network.params, network.gradient(x, t))

    work: dict[str, Callable[[], Any]] = {
        "inference": lambda: network.predict(x),
        "gradient": lambda: network.gradient(x, t),
        "training step": step,
        "layers by hand": lambda: gradient_by_hand(network, x, t),
    }
    # Adam's update follows the surrounding choice of backend.
    with limited_threads(threads), fastconv.use_backend(backend):
        if task == "inference":
            assert_same({"scores": network.predict(x)}, scores, EXACT_TO[dtype], what)
        else:
            np.random.seed(0)
            found = (
                gradient_by_hand(network, x, t)
                if task == "layers by hand"
                else network.gradient(x, t)
            )
            assert_same_gradients(found, gradients, dtype, what)
            step()
        measure(benchmark, work[task])
    note(
        benchmark,
        operation=task,
        shape=f"DeepConvNet, batch {batch}",
        dtype=dtype,
        threads=threads,
        backend=backend,
        flops=batch * FLOPS.get(task, FLOPS["other"]),
        batch=batch,
    )
