"""Moves: copies of numbers, perhaps scaled or in another dtype.

    for piece of a row, in parallel:  for i:  out(i) = source(i) * factor

The arrays have the same shape and any steps. A row runs along the axis whose elements are closest
in the target.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, operator"

from __future__ import annotations

from typing import Any

import numpy as np

from ..shared.axes import common_axes
from ..table import Array
from .launch.build import Kernel
from .launch.memory import code
from .launch.recording import recording
from .launch.team import Team
from .words.pointer import ELEMENTS, copy, helper, share
from .words.record import takes

__all__ = ["clear", "move", "move_to", "put"]


def row_mover(source_type: int, target_type: int) -> Any:
    """`count` numbers of one row."""
    number: Any = ELEMENTS[target_type]

    @helper
    def move_row(source, source_step, out, out_step, count, factor):
        if factor != number(1):
            for i in range(count):
                out[i * out_step] = number(source[i * source_step]) * factor
        elif source_step == 1 and out_step == 1:
            if source_type == target_type:
                copy(out, source, count)
            else:
                for i in range(count):
                    out[i] = number(source[i])
        else:
            for i in range(count):
                out[i * out_step] = number(source[i * source_step])

    return move_row


@takes(
    source_type="source",
    target_type="out",
    int64="table",
    floats="factor",
    integers="axes values",
)
def move(source_type: int, target_type: int) -> Kernel:
    """out = source * factor; the table has length, source step and out step of each axis.

    Rows are the last axis.
    """
    number: Any = ELEMENTS[target_type]
    move_row = row_mover(source_type, target_type)

    def kernel(a, part, parts):
        factor, last = number(a.factor), a.table + 3 * (a.axes - 1)
        first, end = share(a.values, part, parts)
        while first < end:
            row, begin = first // last[0], first % last[0]
            count = min(last[0] - begin, end - first)
            read, write = begin * last[1], begin * last[2]
            for axis in range(a.axes - 2, -1, -1):
                here = a.table + 3 * axis
                place, row = row % here[0], row // here[0]
                read += place * here[1]
                write += place * here[2]
            move_row(a.source + read, last[1], a.out + write, last[2], count, factor)
            first += count

    return kernel


def move_to(team: Team, out: Array, source: Array, factor: float = 1.0) -> None:
    """out = source * factor."""
    if out.size:
        axes = common_axes(source, out)
        images = {"source": source, "out": out, "factor": factor}
        sizes = {"table": np.array(axes, np.int64), "axes": len(axes), "values": out.size}
        team.run(move, (code(source), code(out)), team.parts(out.size), images, sizes)


def put(team: Team, out: Array, source: Array) -> None:
    """out = source, where a kernel needs weights in another place.

    NumPy would be as fast for so few numbers, but a recording would not repeat its copy.
    """
    to = recording()
    if to is None or to.weights_stay:
        out[...] = source
    else:
        move_to(team, out, source)


def clear(team: Team, *arrays: Array) -> None:
    """Set all numbers to 0, also in a recording."""
    for array in arrays:
        if recording() is None:
            array[...] = 0
        else:
            move_to(team, array, np.zeros(array.shape, array.dtype))
