"""A network's training step, decided once, and run again for each batch of one shape.

A step of a few images computes for a shorter time than it takes to ask which group of layers, which
kernel and which memory comes next. So the third step in a row of one shape and dtype is recorded
(`fastconv.ops.recording`), and its calls are made a program as those of a prediction are
(`fastconv.network.program`), but of weights that change: a forward, and a backward that goes on
from the loss's gradient. A step by a program gives the numbers that the layers give, bit for bit.

It is the layers that decide what is computed, so a program lasts while they are as they were:
classes, settings, and the arrays that they train. Whatever a recording does not know of (a class of
the user's own, frozen layers, numbers that came from elsewhere) is never made a program of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from itertools import chain
from operator import is_
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import config
from ..backends.calls import Run, called
from ..layers.containers import Branches, Chain, Container, Shortcut
from ..layers.tree import walk
from ..ops.arrays import as_array, common_dtype, computing, expect_shape
from ..ops.memory import Pool, Use, drawing_from, empty, references
from ..ops.recording import Outside, Recorder
from ..selection import observed
from .fusion import KNOWN, LAYERS, FusedRow, trains
from .places import Places, Step, aligned, arrays_of, root, with_results_in
from .program import backend_of, in_layout_of, together

__all__ = ["Pass", "Steps"]

Array = NDArray[Any]
Key = tuple[Any, ...]

KNOWN_STEPS = KNOWN | {Branches, Chain, Shortcut}
"""Layers of which a recording knows all that their training does."""

RECORDED = 3
"""The step in a row of one shape that is recorded: what comes once or twice is not worth it."""

MOST_BYTES = 1 << 27
"""Of arrays that are recorded. Larger steps compute for so long that nothing is gained."""

KEPT = 2
"""Shapes whose programs are kept: the batches of an epoch, and a last one of fewer images."""

LENT = 2
"""Sets of gradients that layers are lent: those of the last step may still be in use."""

LONGEST_REST = 1 << 10
"""Steps after which a network whose recordings were of little use is recorded again, at most."""


class Pass(Protocol):
    """A forward in training, and the backward that may follow."""

    def forward(self, x: Array) -> Array:
        """Return what the last layer gives."""

    def backward(self, dout: Any) -> None:
        """Set the layers' gradients from that of the last layer's output."""


class _Eager:
    """Layers that run group by group; those in front of the first that trains evaluate."""

    def __init__(self, row: Sequence[Any], pool: Pool) -> None:
        self.use = Use(pool)
        first = next((i for i, layer in enumerate(row) if trains(layer)), len(row))
        self._before = FusedRow(row[:first], False)
        self._trained = FusedRow(row[first:], True)

    def forward(self, x: Array) -> Array:
        with drawing_from(self.use):
            return self._trained.forward(self._before.forward(x, False), True)

    def backward(self, dout: Any) -> None:
        with drawing_from(self.use):
            self._trained.backward(dout, False)


class _Recorded(_Eager):
    """The same, with a recording that becomes a program."""

    def __init__(self, row: Sequence[Any], steps: Steps, key: Key) -> None:
        super().__init__(row, Pool())  # a recording takes more than a step, and keeps nothing
        self._watched = _Watched(row)
        self._steps = steps
        self._key = key
        self._recorder = Recorder()

    def forward(self, x: Array) -> Array:
        self._given = in_layout_of(self._watched.row, x.shape, x.dtype)
        self._given[...] = x
        with self._recorder.recording():
            self._out = super().forward(self._given)
        self._middle = len(self._recorder.steps)
        self._watched.pause()
        return self._out

    def backward(self, dout: Any) -> None:
        recorded = self._recorder
        if _bytes_of(recorded.steps) > MOST_BYTES // 2:  # backward has as many
            recorded.steps.clear()
            super().backward(dout)
            self._steps.keep(self._key, None)
            return
        stayed = self._watched.stayed()  # a loss of the user's own may do anything
        with recorded.recording():
            super().backward(dout)
        if not stayed:
            return
        ends = self._given, self._out, dout
        self._steps.keep(self._key, _program(recorded, self._middle, *ends, self._watched))


class _Watched:
    """Layers as they are, and whether they still are.

    What a step changes on layers (gradients, running statistics) is no setting of theirs; that is
    what is different between the making of this object and `settle`.
    """

    def __init__(self, row: Sequence[Any]) -> None:
        self.row = list(row)
        self.layers = [layer for _, layer in walk(self.row, Container)]
        kinds = {kind for layer in self.layers for kind in type(layer).__mro__[:-1]}
        self._classes = [(vars(kind), dict(vars(kind))) for kind in kinds]
        self._owns: list[tuple[dict[str, Any], int]] = []
        self._nested = len(self.layers) != len(self.row)
        self._before = [dict(vars(layer)) for layer in self.layers]
        self._settings: list[tuple[dict[str, Any], str, Any]] = []

    def pause(self) -> None:
        """Say that the forward is over."""
        self._between = [dict(vars(layer)) for layer in self.layers]

    def stayed(self) -> bool:
        """Whether nothing has changed since then."""
        return all(map(_same_values, map(vars, self.layers), self._between))

    def settle(self) -> None:
        """Say that a step is over, and that nobody will go back from it layer by layer."""
        for layer, before in zip(self.layers, self._before, strict=True):
            own = vars(layer)
            layer.forget()
            self._owns.append((own, len(own)))
            self._settings += [
                (own, name, value) for name, value in before.items() if own.get(name) is value
            ]
        del self._before, self._between  # with the arrays that layers had

    def same(self, row: Sequence[Any]) -> bool:
        """Whether these are the layers, and are as they were."""
        if len(row) != len(self.row) or any(a is not b for a, b in zip(row, self.row, strict=True)):
            return False
        if self._nested:
            now = [layer for _, layer in walk(row, Container)]
            if len(now) != len(self.layers) or any(
                a is not b for a, b in zip(now, self.layers, strict=True)
            ):
                return False
        for own, name, value in self._settings:
            if own.get(name) is not value:
                return False
        for own, count in self._owns:
            if len(own) != count:  # has a method of its own, or another setting than its class
                return False
        # Of classes: methods, and settings that a layer does not have itself.
        return all(_same_values(now, before) for now, before in self._classes)

    def parameters(self) -> list[tuple[Any, str]]:
        """Each layer with the names of its parameters."""
        return [
            (layer, name)
            for layer in self.layers
            for name in ([] if isinstance(layer, Container) else layer.parameter_names)
        ]


class _Backward:
    """The backward of a step, and the memory of the gradients that it computes.

    Parameters
    ----------
    steps : sequence of Step
        At their places.
    places : Places
    gradients : sequence of (layer, str, array)
        Where each gradient goes, and the array as it was recorded.
    """

    def __init__(
        self, steps: Sequence[Step], places: Places, gradients: Sequence[tuple[Any, str, Array]]
    ) -> None:
        self._steps = steps
        self._results = places.results
        self._runs = _runs(steps)
        begin = self._results.ctypes.data
        self._gradients = [
            (layer, name, (place.shape, place.dtype, place.ctypes.data - begin, place.strides))
            for layer, name, place in ((layer, name, places.of(a)) for layer, name, a in gradients)
        ]
        self._references = references(root(self._results))  # with no place of a gradient among them

    def another(self) -> _Backward:
        """The same, in memory of its own. It runs once."""
        results = aligned(self._results.nbytes)
        steps = [with_results_in(results, self._results, step) for step in self._steps]
        other = copy(self)
        other._steps, other._results, other._runs = steps, results, _runs(steps)
        other._references = references(root(results))
        return other

    def is_free(self) -> bool:
        """Whether nobody has gradients that lie here, as far as anybody can know."""
        now = references(root(self._results))
        return now is not None and now == self._references

    def run(self) -> None:
        """Compute the gradients."""
        for run in self._runs:
            run.run()

    def lend(self) -> None:
        """Give the layers the gradients as they lie here."""
        self._give(self._results)

    def give_copies(self) -> None:
        """Give the layers copies of the gradients."""
        copies = empty(self._results.shape, np.uint8)
        copies[...] = self._results
        self._give(copies)

    def _give(self, memory: Array) -> None:
        for layer, name, (shape, dtype, offset, strides) in self._gradients:
            setattr(layer, name, np.ndarray(shape, dtype, memory, offset, strides))


class _Program:
    """A step of a batch of one shape. See `Pass`."""

    def __init__(
        self,
        recorded: Recorder,
        middle: int,
        given: Array,
        out: Array,
        dout: Array,
        gradients: Sequence[tuple[Any, str, Array]],
        watched: _Watched,
    ) -> None:
        self.watched = watched
        steps = recorded.steps
        noted = [array for _, arrays in recorded.notes for array in arrays]
        drawn = [array for array, _ in recorded.draws]
        places = Places(
            steps,
            [(0, array) for array in (given, *drawn)]
            + [(middle, array) for array in (out, *noted, dout)]
            + [(len(steps), array) for _, _, array in gradients],
        )
        self._x, self._out, self._dout = (places.of(array) for array in (given, out, dout))
        self._draws = [(places.of(array), draw) for array, draw in recorded.draws]
        self._notes = [(note, [*map(places.of, arrays)]) for note, arrays in recorded.notes]
        self._owners = [(layer, name) for layer, name, _ in gradients]
        self._x[...], self._dout[...] = given, dout
        for (array, _), (place, _) in zip(recorded.draws, self._draws, strict=True):
            place[...] = array
        moved = [places.moved(step) for step in steps]
        self._forward = _runs(moved[:middle])
        self._lent = [_Backward(moved[middle:], places, gradients)]
        self._copied: _Backward | None = None

    def forward(self, x: Array) -> Array:
        self._x[...] = x
        for place, draw in self._draws:
            place[...] = draw()
        for run in self._forward:
            run.run()
        for note, arrays in self._notes:
            note(*arrays)
        return self._out.copy()

    def backward(self, dout: Any) -> None:
        dout = as_array(dout)
        expect_shape("backward", "dout", dout, self._dout.shape)
        common_dtype("backward", dout)
        self._dout[...] = dout
        for layer, name in self._owners:
            setattr(layer, name, None)
        for backward in self._lent:
            if backward.is_free():
                backward.run()
                backward.lend()
                return
        if len(self._lent) < LENT:
            self._lent.append(self._lent[0].another())
            self._lent[-1].lend()
            return
        if self._copied is None:
            self._copied = self._lent[0].another()
        else:
            self._copied.run()
        self._copied.give_copies()


class Steps:
    """The training steps of one network: which of them run as programs.

    Parameters
    ----------
    pool : Pool
        Memory of those that do not.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._programs: dict[Key, _Program | None] = {}  # None: not to be recorded
        self._use = Use(pool)  # of the last step that was no program's
        self._last: Key = ()
        self._in_a_row = 0
        self._rest = 1
        self._resting = 0

    def begin(self, row: Sequence[Any], x: Array) -> Pass:
        """What runs these layers on x."""
        if observed() or computing.dtype is not None:  # who records observes too
            return _Eager(row, self.pool)
        key = x.shape, x.dtype, config.context_backend.get(), config.Process.version
        if key in self._programs:
            program = self._programs[key]
            if program is None:
                return _Eager(row, self.pool)
            if program.watched.same(row):
                self._rest = max(1, self._rest - 1)
                return program
            del self._programs[key]
        self._in_a_row = self._in_a_row + 1 if key == self._last else 1
        self._last = key
        self._resting = max(0, self._resting - 1)
        if self._in_a_row < RECORDED or self._resting:
            eager = _Eager(row, self.pool)
            self._use = eager.use
            return eager
        if config.get_programs() == "off" or not _is_known(row, x) or self._use.most > MOST_BYTES:
            self.keep(key, None)
            return _Eager(row, self.pool)
        # Perhaps no backward follows, or layers change all the time.
        self._resting, self._rest = self._rest, min(2 * self._rest, LONGEST_REST)
        self.pool.release()  # a program has memory of its own
        return _Recorded(row, self, key)

    def keep(self, key: Key, program: _Program | None) -> None:
        """Run later steps of this shape by a program; None: never record them."""
        version = config.Process.version
        self._programs = {old: kept for old, kept in self._programs.items() if old[-1] == version}
        while len(self._programs) >= KEPT:
            del self._programs[next(iter(self._programs))]
        self._programs[key] = program


def _same_values(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return len(now) == len(before) and all(map(is_, now.values(), before.values()))


def _is_known(row: Sequence[Any], x: Array) -> bool:
    """Whether a recording of these layers knows all that they do with such an input."""
    return x.dtype.kind == "f" and all(
        type(layer) in KNOWN_STEPS
        and not layer.frozen
        and not {"forward", "backward"} & vars(layer).keys()
        and not any(map(_may_change_in_place, vars(layer).values()))
        and all(
            getattr(layer, name).__module__.startswith(LAYERS) for name in ("forward", "backward")
        )
        for _, layer in walk(row, Container)
    )


def _may_change_in_place(setting: Any) -> bool:
    """Whether this is a number that nobody would see change."""
    return isinstance(setting, np.ndarray) and setting.ndim == 0


def _bytes_of(steps: Iterable[Step]) -> int:
    """Memory of all arrays that the steps use."""
    roots = {id(r): r.nbytes for step in steps for r in map(root, chain(*arrays_of(step)))}
    return sum(roots.values())


def _program(
    recorded: Recorder, middle: int, given: Array, out: Array, dout: Any, watched: _Watched
) -> _Program | None:
    """The program, if the recording says how each number comes from the batch and the weights."""
    gradients = [
        (layer, f"d{name}", getattr(layer, f"d{name}")) for layer, name in watched.parameters()
    ]
    own = [getattr(layer, name) for layer, name in watched.parameters()]
    arrays = [dout, *own, *(gradient for _, _, gradient in gradients)]
    if not all(isinstance(array, np.ndarray) for array in arrays):
        return None
    known = {id(root(array)) for array in (*own, *recorded.constants, given, dout)}
    known |= {id(root(array)) for array, _ in recorded.draws}
    for i, step in enumerate(recorded.steps):
        read, written = ({id(root(array)) for array in arrays} for arrays in arrays_of(step))
        if not read <= known:
            return None
        known |= written
        if i + 1 == middle and id(root(out)) not in known:
            return None
    if not {id(root(array)) for _, _, array in gradients} <= known:
        return None
    backends = {step.backend for step in recorded.steps if not isinstance(step, Outside)} - {None}
    if not all(hasattr(backend, "step_program") for backend in backends):
        return None
    watched.settle()
    return _Program(recorded, middle, given, out, dout, gradients, watched)


def _runs(steps: Sequence[Step]) -> list[Run]:
    """What runs these steps, in their order. They are made once."""
    runs: list[Run] = []
    for run in together(steps):
        if isinstance(run, Outside):
            run.run()
            runs.append(run)
        else:
            backend = backend_of(run)  # of moves alone there is none
            runs.append(called(run) if backend is None else backend.step_program(run))
    return runs
