"""The axes along which a copy walks from one array to another of the same shape."""

from __future__ import annotations

from ..table import Array

__all__ = ["common_axes"]


def common_axes(source: Array, out: Array) -> list[tuple[int, int, int]]:
    """Length of each axis and its steps in both arrays, in elements.

    Axes come in the order of the target's memory; those contiguous in both arrays are merged.
    """
    steps = [[step // array.itemsize for step in array.strides] for array in (source, out)]
    found: list[tuple[int, int, int]] = []
    for length, read, write in sorted(
        zip(out.shape, *steps, strict=True), key=lambda axis: -abs(axis[2])
    ):
        if length == 1:
            continue
        if found:
            before, outer_read, outer_write = found[-1]
            if (outer_read, outer_write) == (length * read, length * write):
                found[-1] = before * length, read, write
                continue
        found.append((length, read, write))
    return found or [(1, 1, 1)]
