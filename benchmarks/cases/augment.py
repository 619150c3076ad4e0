"""Images turned and moved a little, alone and with an elastic field; its smoothing; tone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

import fastconv

from .case import Arguments, Case, draw

__all__ = ["cases"]


def cases(full: bool) -> Iterator[Case]:
    for shape in ((100, 1, 28, 28), (8, 3, 224, 224)) if full else ((3, 2, 6, 5),):
        yield from _augmentation(shape)


def _augmentation(shape: tuple[int, int, int, int]) -> Iterator[Case]:
    n, c, h, w = shape
    label, threads = f"{c}@{h}x{w},N={n}", {"threads": fastconv.get_num_threads()}

    def warp(rng: np.random.Generator, elastic: bool) -> Arguments:
        # In parts of a pixel that float32 holds exactly: between two pixels of noise, a place that
        # is off by the rounding of its coordinate has a value that is off by more than a kernel's.
        matrix = _whole_parts(np.eye(2, 3) + draw(rng, n, 2, 3) * [0.1, 0.1, 2])
        field = _whole_parts(draw(rng, n, 2, h, w)) if elastic else None
        return {"x": draw(rng, *shape), "matrix": matrix, "field": field, "fill": 0.0} | threads

    def smooth(rng: np.random.Generator) -> Arguments:
        return {"x": draw(rng, n, 2, h, w), "taps": draw(rng, 25)} | threads

    def tone(rng: np.random.Generator) -> Arguments:
        boxes = np.tile(np.array([0, 1, h // 2, w // 2], np.int64), (n, 1))
        numbers = {"gain": draw(rng, n), "offset": draw(rng, n), "boxes": boxes, "fill": 0.0}
        return {"x": draw(rng, *shape)} | numbers | threads

    for elastic in (False, True):
        more = "+field" * elastic
        inputs, kind = partial(warp, elastic=elastic), f"{c} channels{more}"
        yield Case("warp", label + more, inputs, {"out": shape}, kind=kind)
    yield Case("smooth", f"2@{h}x{w},25 taps,N={n}", smooth, {"out": (n, 2, h, w)})
    yield Case("tone", label, tone, {"out": shape})


def _whole_parts(numbers: np.ndarray) -> np.ndarray:
    return np.rint(numbers * 256) / 256
