"""What should be known about samples before a network is trained on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .validation import class_labels

__all__ = ["remarks_on_classes", "remarks_on_numbers", "remarks_on_scale"]

MOST_UNEVEN = 10
"""How many times as many samples the largest class may have without a remark."""

MOST_LARGE = 100
"""How large a pixel of a training image may be without a remark."""

FEWEST_PIXELS = 64
"""Numbers in the smallest sample that is an image: 8 x 8."""

CHUNK = 1000
"""Samples that are looked through at a time."""


def remarks_on_numbers(name: str, x: NDArray[Any]) -> Iterator[str]:
    """Yield a sentence if samples (N, ...) of the set `name` hold NaN or infinity."""
    if x.dtype.kind not in "fc" or x.size == 0:
        return
    starts = range(0, len(x), CHUNK)
    # An extreme of numbers is only finite if all are; it takes no memory.
    lost = [start for start in starts if not _all_finite(x[start : start + CHUNK])]
    if not lost:
        return
    count = sum(_lost(x[start : start + CHUNK]).sum() for start in lost)
    first = lost[0] + int(_lost(x[lost[0] : lost[0] + CHUNK]).argmax())
    yield (
        f"{count:,} of {len(x):,} {name} samples hold NaN or infinity, the first of them sample "
        f"{first} (counted from 0): what a network computes of them is NaN, and so are its "
        "weights once it has trained on one"
    )


def _all_finite(x: NDArray[Any]) -> bool:
    return bool(np.isfinite(x.min()) and np.isfinite(x.max()))


def _lost(x: NDArray[Any]) -> NDArray[np.bool_]:
    return ~np.isfinite(x).reshape(len(x), -1).all(axis=1)


def remarks_on_scale(x: NDArray[Any]) -> Iterator[str]:
    """Yield a sentence if training images (N, ...) are far from 0 to 1, as pixels in bytes are."""
    if x.dtype.kind not in "iuf" or math.prod(x.shape[1:]) < FEWEST_PIXELS or len(x) == 0:
        return
    largest = max(float(x.max()), -float(x.min()))
    if MOST_LARGE < largest < math.inf:
        yield (
            f"pixels of training images reach {largest:g}: most networks learn only from numbers "
            "of about 0 to 1; divide these pixels, and all that come later, by 255 or their range"
        )


def remarks_on_classes(
    t: NDArray[Any], remedy: str, named: Callable[[int], str] = "class {}".format
) -> Iterator[str]:
    """Yield a sentence if training labels have one class only, or classes of very unequal size.

    Parameters
    ----------
    t : array
        Class indices (N,) or one-hot (N, classes).
    remedy : str
        How to let all classes count equally.
    named : callable
        What to call the class of an index.
    """
    if len(t) == 0:
        return
    classes, counts = np.unique(class_labels(t), return_counts=True)
    small, large = int(counts.argmin()), int(counts.argmax())
    if len(classes) == 1:
        yield (
            f"all {len(t):,} training samples are of one class, {named(classes[0])}: a network "
            "learns from them to answer that whatever it sees"
        )
    elif counts[large] >= MOST_UNEVEN * counts[small]:
        yield (
            f"classes of very different sizes: {named(classes[large])} has {counts[large]:,} "
            f"training samples, {named(classes[small])} has {counts[small]:,}; a network reads "
            f"the small ones badly, unless they count as much as the large ones: {remedy}"
        )
