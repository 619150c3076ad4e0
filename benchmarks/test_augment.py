"""Augmentation of a batch of DeepConvNet's images, and what part of a training step it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import Augmentation
from fastconv.optimizer import Adam

from .check import EXACT_TO, assert_same
from .data import batch_of, network_of
from .timing import limited_threads, measure, note, turn

AUGMENTATIONS = {
    "affine": "scale=0.1,shear=5,rotate=10,shift=2",
    "elastic": "scale=0.1,shear=5,rotate=10,shift=2,elastic=34",
    "all": "flip_horizontal=0.5,scale=0.1,shear=5,rotate=10,shift=2,crop=2,elastic=34,"
    "contrast=0.1,brightness=0.1,cutout=8",
}


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_augmentation(
    benchmark: Any, kind: str, dtype: str, threads: int, backend: str, size: str
) -> None:
    augmentation = Augmentation.parse(AUGMENTATIONS[kind])
    x, t = batch_of(100 if size == "full" else 2, dtype)
    with fastconv.use_backend("numpy"):
        wanted = augmentation(x, np.random.default_rng(1))
    rng = np.random.default_rng(0)
    shares = {}
    with limited_threads(threads), fastconv.use_backend(backend):
        got = augmentation(x, np.random.default_rng(1))
        assert_same({"x": got}, {"x": wanted}, EXACT_TO[dtype], f"{kind} {backend} {dtype}")
        measure(benchmark, lambda: augmentation(x, rng))
        if not benchmark.disabled:
            network, adam = network_of(dtype, backend), Adam()
            step = turn(lambda: adam.update(network.params, network.gradient(x, t)))
            shares["share_of_step"] = benchmark.stats.stats.median / step
    note(
        benchmark,
        operation=f"augmentation {kind}",
        shape="x".join(map(str, x.shape)),
        dtype=dtype,
        threads=threads,
        backend=backend,
        **shares,
    )
