"""Steps of an evaluation that need not run as they were recorded, since nobody can tell.

The positions of max pooling are left out where no step reads them. Where a kernel's output is only
copied to its place in a concatenation, the kernel writes there itself. Images that only kernels for
it write and read lie in memory as bfloat16s, in the math mode ``bf16``. A backend gets such calls
only if it says that it takes them (`fastconv.backends.table`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import config
from ..backends.calls import BFLOAT16, MOVE, Call
from ..ops.recording import arrays_of, root
from .places import Step, on_others

__all__ = ["is_among_channels", "rewritten"]

Array = NDArray[Any]


def rewritten(steps: Sequence[Step], out: Array) -> list[tuple[Step, Step]]:
    """Return the steps that are left, each with what it was.

    Parameters
    ----------
    steps : sequence of Call and Outside
        Of an evaluation.
    out : array
        What it computes.
    """
    readers: dict[int, list[int]] = defaultdict(list)
    writers: dict[int, list[int]] = defaultdict(list)
    for place, step in enumerate(steps):
        for uses, arrays in zip((readers, writers), arrays_of(step), strict=True):
            for array in arrays:
                uses[id(root(array))].append(place)
    readers[id(root(out))].append(len(steps))
    left: list[Step | None] = [_without_unread(step, readers) for step in steps]
    for place, step in enumerate(steps):
        if not isinstance(step, Call) or step.kernel != MOVE or step.arguments["factor"] != 1:
            continue
        source, to = step.arguments["source"], step.arguments["out"]
        made_at = writers[id(root(source))]
        if len(made_at) != 1 or readers[id(root(source))] != [place]:
            continue
        call = left[made_at[0]]
        others = [steps[i] for i in writers[id(root(to))] if i != place]
        free = all(i > place for i in readers[id(root(to))]) and all(_apart(o, to) for o in others)
        if free and isinstance(call, Call) and _can_write(call, source, to):
            left[made_at[0]] = replace(call, arguments=call.arguments | {"out": to})
            left[place] = None
    kept = [(new, old) for new, old in zip(left, steps, strict=True) if new is not None]
    if config.get_math_mode() != "bf16":
        return kept
    narrowed = _narrowed([step for step, _ in kept], out)
    return [(new, old) for new, (_, old) in zip(narrowed, kept, strict=True)]


def is_among_channels(images: Array) -> bool:
    """Whether others' channels lie between the pixels of images (N, C, H, W)."""
    return images.ndim == 4 and images.strides[3] > images.shape[1] * images.strides[1] > 0


def _narrowed(steps: Sequence[Step], out: Array) -> list[Step]:
    """The steps, on images of bfloat16s where all kernels that write and read these can."""
    wide = {id(root(out))}  # what must stay as it is
    written: dict[int, Array] = {}
    for step in steps:
        for array in arrays_of(step)[1]:
            written[id(root(array))] = root(array)
        if not isinstance(step, Call):
            wide |= {id(root(array)) for arrays in arrays_of(step) for array in arrays}
            continue
        narrows = getattr(step.backend, "bfloat16_images", {}).get(step.kernel, ())
        if step.arguments.get("winner") is not None:
            narrows = ()
        for name, value in step.arguments.items():
            if isinstance(value, np.ndarray) and not (name in narrows and _has_pairs(value)):
                wide.add(id(root(value)))
    halves = {
        key: np.empty(array.nbytes // 2, np.uint8)
        for key, array in written.items()
        if key not in wide
    }

    def narrow(array: Array) -> Array:
        if id(whole := root(array)) not in halves:
            return array
        offset = (array.ctypes.data - whole.ctypes.data) // 2
        strides = [stride // 2 for stride in array.strides]
        return np.ndarray(array.shape, BFLOAT16, halves[id(whole)], offset, strides)

    return [on_others(step, narrow) for step in steps]


def _has_pairs(images: Array) -> bool:
    """Whether images of float32 are channels-last, with two channels in each place of a pair."""
    if images.ndim != 4 or images.dtype != np.float32 or images.strides[1] != images.itemsize:
        return False
    offset = images.ctypes.data - root(images).ctypes.data
    numbers = (offset, images.strides[3], images.shape[1] * images.itemsize)
    return all(number % (2 * images.itemsize) == 0 for number in numbers)


def _without_unread(step: Step, readers: Mapping[int, Sequence[int]]) -> Step:
    """The step, without the positions of max pooling if nobody reads them."""
    if not isinstance(step, Call) or step.kernel != "maxpool2d_forward":
        return step
    winner = step.arguments["winner"]
    unread = winner is not None and not readers.get(id(root(winner)))
    if not unread or not getattr(step.backend, "winner_is_optional", False):
        return step
    return replace(step, arguments=step.arguments | {"winner": None})


def _can_write(call: Call, source: Array, to: Array) -> bool:
    """Whether a call makes all of `source`, and can make it at `to`."""
    if call.kernel not in getattr(call.backend, "into_channels", ()):
        return False
    given = call.arguments
    out = given["out"]
    whole = _where(out) == _where(source) and out.dtype == to.dtype
    alone = given.get("winner") is None and given.get("residual") is None and not given.get("pool")
    return whole and alone and _has_even_pixels(to)


def _where(array: Array) -> tuple[Any, ...]:
    return array.ctypes.data, array.shape, array.strides


def _has_even_pixels(images: Array) -> bool:
    """Whether images are channels-last, with pixels all the same distance apart."""
    _, _, h, w = images.shape
    pixel = images.strides[3]
    return images.strides == (h * w * pixel, images.itemsize, w * pixel, pixel)


def _apart(step: Step, images: Array) -> bool:
    """Whether a step writes other channels of the images that these are channels of."""
    if not isinstance(step, Call) or step.kernel != MOVE:
        return False
    other = step.arguments["out"]
    if other.ndim != 4 or other.strides != images.strides:
        return False
    first, last = sorted((other, images), key=lambda each: each.ctypes.data)
    distance = last.ctypes.data - first.ctypes.data
    return bool(first.shape[1] * first.itemsize <= distance < first.strides[3])
