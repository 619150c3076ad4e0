"""A network's evaluation on inputs of one shape, decided once: which calls, and where arrays lie.

The layers' calls for one batch are traced; where a layer of the user's own is among them, which may
look at numbers, the layers evaluate a batch of zeros instead. Calls that the input does not reach
give the same each time, and are left out; others are `rewritten`. Arrays that are written get
places in one block of memory: two whose uses do not overlap in time may have the same. Constants
stay where they are: the layers are a program's own. Calls of one backend in a row become one `Run`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .. import config
from ..backends.algorithms import CONSTANT, forward_by
from ..backends.calls import Call, Run, call_each
from ..layers.tree import leaves
from ..ops import empty_images
from ..ops.memory import array_in, bytes_for
from ..ops.recording import Outside, Recorder, arrays_of, root
from ..selection import active
from .description import Description, described
from .fusion import FusedRow, all_known
from .measuring import measured, provider
from .places import Places, Step
from .rewriting import rewritten

__all__ = ["Program", "backend_of", "in_layout_of", "together"]

Array = NDArray[Any]


class Program:
    """What a prepared network runs for one batch size. One thread at a time may run it.

    Parameters
    ----------
    layers : sequence of Layer
        Of a snapshot: their arrays must not change.
    input_shape : tuple of int
        Batch first.
    dtype : float32 or float64
    names : sequence of str, optional
        Of their `leaves`, for the description; by default their places.
    algorithms : {"rule", "measured"}
        What chooses those of convolutions; see `measured`.

    Attributes
    ----------
    x, out : array
        What goes in and what comes out.
    parts : tuple of str
        What runs, for people: a backend with the number of its calls, or a layer that is
        computed in Python.
    description : Description
        The same in full: each step, and how much memory its arrays take.
    """

    def __init__(
        self,
        layers: Sequence[Any],
        input_shape: tuple[int, ...],
        dtype: DTypeLike,
        names: Sequence[str] | None = None,
        algorithms: str = "rule",
    ) -> None:
        recorder = Recorder(traces=all_known(layers))
        with recorder.recording(), forward_by(CONSTANT):
            given = recorder.given(in_layout_of(layers, input_shape, np.dtype(dtype)))
            if not recorder.traces:
                given[...] = 0
            out = FusedRow(layers, False).forward(given, False)
        reached = rewritten(_reached(recorder.steps, given), out)
        steps = [step for step, _ in reached]
        for step, before in reached:
            recorder.makers[id(step)] = recorder.makers.get(id(before))
        places = Places(steps, [(0, given), (len(steps), out)])
        self.x, self.out = places.of(given), places.of(out)
        moved = [places.moved(step) for step in steps]
        if algorithms == "measured":
            moved = measured(moved, self.x, _runs)
        self._runs = _runs(moved)
        parts, where = [], []
        for run in together(moved):
            if isinstance(run, Outside):
                parts.append(f"Python: {run.name}")
                where.append("Python")
                continue
            backend = backend_of(run)
            name = "NumPy" if backend is None else backend.name
            parts.append(f"{name}: {len(run)} calls")
            mover = "Python" if _maker(backend) is call_each else name
            where += [mover if call.backend is None else provider(call) for call in run]
        self.parts = tuple(parts)
        there = leaves(layers)
        if names is None:
            names = [name for name, _ in there]
        by_id = {id(layer): name for (_, layer), name in zip(there, names, strict=True)}
        self.description = Description(
            described(steps, moved, where, recorder, by_id),
            places.block.nbytes + places.results.nbytes,
            places.bytes_without_reuse,
        )

    def run(self) -> None:
        """Compute `out` from `x` as it is now."""
        for run in self._runs:
            run.run()


def _runs(steps: Sequence[Step]) -> list[Run]:
    """What runs the steps, in their order."""
    return [
        run if isinstance(run, Outside) else _maker(backend_of(run))(run) for run in together(steps)
    ]


def _maker(backend: Any) -> Callable[[Sequence[Call]], Run]:
    """What makes a run of a backend's calls."""
    maker: Callable[[Sequence[Call]], Run] = call_each
    if config.get_programs() == "on":
        maker = getattr(backend, "program", call_each)
    return maker


def in_layout_of(layers: Sequence[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Memory for a network's input, in the layout that the first layer's backend wants."""
    array: Array
    if len(shape) == 4:
        n, c, h, w = shape
        layout = active(getattr(layers[0], "backend", None) if layers else None).layout
        array = empty_images((n, c, h, w), dtype, layout)
    else:
        array = array_in(bytes_for(shape, dtype), shape, dtype)
    return array


def _reached(steps: Sequence[Step], given: Array) -> list[Step]:
    """The steps that have a hand in what depends on what is given."""
    reached = {id(root(given))}
    used = []
    for step in steps:
        read, written = ({id(root(array)) for array in arrays} for arrays in arrays_of(step))
        if read & reached:
            reached |= written
        used.append(read | written)
    return [step for step, roots in zip(steps, used, strict=True) if roots & reached]


def backend_of(calls: Sequence[Call]) -> Any:
    """The backend of calls that belong together; None where nothing but moves is among them."""
    return next((call.backend for call in calls if call.backend is not None), None)


def together(steps: Sequence[Step]) -> Iterator[list[Call] | Outside]:
    """Calls of one backend in a row, and what is computed in Python by itself."""
    calls: list[Call] = []
    backend: Any = None
    for step in steps:
        other = isinstance(step, Outside) or (
            step.backend is not None and backend is not None and step.backend is not backend
        )
        if other and calls:
            yield calls
            calls, backend = [], None
        if isinstance(step, Outside):
            yield step
            continue
        backend = step.backend or backend
        calls.append(step)
    if calls:
        yield calls
