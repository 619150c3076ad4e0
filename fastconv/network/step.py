"""A network's training step, decided once, and run again for each batch of one shape.

A step of a few images computes for a shorter time than it takes to ask which group of layers, which
kernel and which memory comes next; one of many images has more arrays than it needs at a time. So a
step that is likely to come again is made a program as a prediction is (`fastconv.network.program`),
but of weights that change: a forward, and a backward that goes on from the loss's gradient. It
gives the numbers that the layers give, bit for bit.

It is the layers that decide what is computed. The second step in a row of one shape and dtype is
watched, for what it leaves as it was: classes, settings, and the arrays that are trained. If all of
that still is so when the third begins, that one is traced (`fastconv.ops.recording`), and runs as a
program, as do those after it while it is so. Whatever a trace does not know of (a class of the
user's own, frozen layers, numbers that came from elsewhere) is not made a program of; whether that
has changed is asked less and less often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from itertools import pairwise
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
from ..ops.norm import sharers
from ..ops.recording import Outside, Recorder, arrays_of, root
from ..selection import observed
from .fusion import KNOWN, LAYERS, FusedRow, trains
from .places import Places, Step, aligned, with_results_in
from .program import backend_of, in_layout_of, together
from .ready import lender, listener

__all__ = ["Pass", "Steps"]

Array = NDArray[Any]
Key = tuple[Any, ...]

KNOWN_STEPS = KNOWN | {Branches, Chain, Shortcut}
"""Layers of which a trace knows all that their training does."""

TRACED = 3
"""The step in a row of one shape that is traced, if the one before it was watched to its end."""

KEPT = 2
"""Shapes whose programs are kept: the batches of an epoch, and a last one of fewer images."""

LENT = 2
"""Sets of gradients that layers are lent: those of the last step may still be in use."""

LONGEST_REST = 1 << 10
"""Steps after which a network whose programs were of little use is watched again, at most."""


class Pass(Protocol):
    """A forward in training, and the backward that may follow."""

    def forward(self, x: Array) -> Array:
        """Return what the last layer gives."""

    def backward(self, dout: Any) -> None:
        """Set the layers' gradients from that of the last layer's output."""


def _halves(row: Sequence[Any]) -> tuple[FusedRow, FusedRow]:
    """The layers before the first that trains, which evaluate, and the others."""
    first = next((i for i, layer in enumerate(row) if trains(layer)), len(row))
    return FusedRow(row[:first], False), FusedRow(row[first:], True)


class _Eager:
    """Layers that run group by group; those before the first that trains evaluate."""

    def __init__(self, row: Sequence[Any], pool: Pool) -> None:
        self._use = Use(pool)
        self._before, self._trained = _halves(row)

    def forward(self, x: Array) -> Array:
        with drawing_from(self._use):
            return self._trained.forward(self._before.forward(x, False), True)

    def backward(self, dout: Any) -> None:
        with drawing_from(self._use):
            self._trained.backward(dout, False)


class _Seen(_Eager):
    """A step group by group that is watched; the step after it may be traced."""

    def __init__(self, row: Sequence[Any], steps: Steps, key: Key) -> None:
        super().__init__(row, steps.pool)
        self._watched = _Watched(row)
        self._steps = steps
        self._key = key

    def forward(self, x: Array) -> Array:
        out = super().forward(x)
        self._watched.pause(out)
        return out

    def backward(self, dout: Any) -> None:
        stayed = self._watched.stayed(dout)  # a loss of the user's own may do anything
        super().backward(dout)
        if stayed:
            self._watched.settle()
            self._steps.seen = self._key, self._watched


class _Watched:
    """Layers as they are, and whether they still are.

    What a step changes on layers (gradients, running statistics) is no setting of theirs; that is
    what is different between the making of this object and `settle`.

    Attributes
    ----------
    row, layers : list of Layer
        As they run, and all of them, those in containers included.
    dout : dtype
        Of the loss's gradient.
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

    def pause(self, out: Array) -> None:
        """Say that the forward is over."""
        self._between = [dict(vars(layer)) for layer in self.layers]
        self._out = out.shape

    def stayed(self, dout: Any) -> bool:
        """Whether nothing has changed since then, and this is a gradient as a trace expects it."""
        if not isinstance(dout, np.ndarray) or dout.shape != self._out or dout.dtype.kind != "f":
            return False
        self.dout = dout.dtype
        return all(map(_same_values, map(vars, self.layers), self._between))

    def settle(self) -> None:
        """Say that a step is over."""
        for layer, before in zip(self.layers, self._before, strict=True):
            own = vars(layer)
            self._settings += [
                (own, name, value) for name, value in before.items() if own.get(name) is value
            ]
        del self._before, self._between  # with the arrays that layers had
        self._count()

    def _count(self) -> None:
        """Note how much each layer has of its own."""
        self._owns = [(vars(layer), len(vars(layer))) for layer in self.layers]

    def restore(self, before: Sequence[Mapping[str, Any]]) -> None:
        """Give the layers what they had before a trace, but not what a step has left on them."""
        for layer, had in zip(self.layers, before, strict=True):
            own = vars(layer)
            own.clear()
            own.update(had)
            layer.forget()
        for layer, name in self.parameters():
            setattr(layer, f"d{name}", None)
        self._count()

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
    ends : sequence of int
        How many steps it takes until each is complete. While somebody is told of gradients
        (`fastconv.network.ready`), the steps run in pieces that end there.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        places: Places,
        gradients: Sequence[tuple[Any, str, Array]],
        ends: Sequence[int],
    ) -> None:
        self._steps = steps
        self._results = places.results
        begin = self._results.ctypes.data
        self._gradients = [
            (layer, name, (place.shape, place.dtype, place.ctypes.data - begin, place.strides))
            for layer, name, place in ((layer, name, places.of(a)) for layer, name, a in gradients)
        ]
        self._ends = ends
        self._cuts = sorted({*(ends if listener() is not None else ()), len(steps)})
        self._pieces: list[list[Run]] = []
        self.run()
        self._references = references(root(self._results))  # with no place of a gradient among them

    def another(self) -> _Backward:
        """This backward, in memory of its own. It runs once."""
        results = _memory_of_gradients(self._results.nbytes)
        steps = [with_results_in(results, self._results, step) for step in self._steps]
        other = copy(self)
        other._steps, other._results, other._pieces = steps, results, []
        other.run()
        other._references = references(root(results))
        return other

    def is_free(self) -> bool:
        """Whether nobody has gradients that lie here, as far as anybody can know."""
        now = references(root(self._results))
        return now is not None and now == self._references

    def run(self) -> None:
        """Compute the gradients, and tell of them."""
        tell = listener()
        for number, (begin, end) in enumerate(pairwise([0, *self._cuts])):
            if number == len(self._pieces):
                self._pieces.append(_runs(self._steps[begin:end]))
            else:
                for run in self._pieces[number]:
                    run.run()
            if tell is not None:
                complete = zip(self._gradients, self._ends, strict=True)
                tell(
                    [
                        (layer, name, _in_place(self._results, place))
                        for (layer, name, place), last in complete
                        if last == end
                    ]
                )

    def lend(self) -> None:
        """Give the layers the gradients as they lie here."""
        self._give(self._results)

    def give_copies(self) -> None:
        """Give the layers copies of the gradients."""
        copies = empty(self._results.shape, np.uint8)
        copies[...] = self._results
        self._give(copies)

    def _give(self, memory: Array) -> None:
        for layer, name, place in self._gradients:
            setattr(layer, name, _in_place(memory, place))


def _memory_of_gradients(size: int) -> Array:
    """So many bytes for gradients, begun at a cache line."""
    lend = lender()
    lent = None if lend is None else lend(size)
    return aligned(size) if lent is None else lent


def _in_place(memory: Array, place: tuple[Any, ...]) -> Array:
    """The array at a place in memory: of this shape and dtype, from this byte, in these strides."""
    shape, dtype, begin, strides = place
    return np.ndarray(shape, dtype, memory, begin, strides)


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
            _memory_of_gradients,
        )
        self._x, self._out, self._dout = (places.of(array) for array in (given, out, dout))
        self._draws = [(places.of(array), draw) for array, draw in recorded.draws]
        self._notes = [(note, [*map(places.of, arrays)]) for note, arrays in recorded.notes]
        self._owners = [(layer, name) for layer, name, _ in gradients]
        moved = [places.moved(step) for step in steps]
        self._steps = moved[:middle]
        self._forward: list[Run] | None = None
        written = {
            id(root(array)): number
            for number, step in enumerate(steps[middle:], 1)
            for array in arrays_of(step)[1]
        }
        ends = [written.get(id(root(array)), len(steps) - middle) for _, _, array in gradients]
        self._back = moved[middle:], places, gradients, ends
        self._lent: list[_Backward] = []
        self._copied: _Backward | None = None

    def forward(self, x: Array) -> Array:
        self._x[...] = x
        for place, draw in self._draws:
            place[...] = draw()
        if self._forward is None:
            self._forward = _runs(self._steps)
        else:
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
            self._lent.append(self._another())
            self._lent[-1].lend()
            return
        if self._copied is None:
            self._copied = self._another()
        else:
            self._copied.run()
        self._copied.give_copies()

    def _another(self) -> _Backward:
        """A backward with gradients of its own, which has run."""
        return self._lent[0].another() if self._lent else _Backward(*self._back)


class Steps:
    """The training steps of one network: which of them run as programs.

    Parameters
    ----------
    pool : Pool
        Memory of those that do not.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.seen: tuple[Key, _Watched] | None = None  # of the last step, if it was watched
        self._programs: dict[Key, _Program] = {}
        self._last: Key = ()
        self._in_a_row = 0
        self._rest = 1
        self._resting = 0

    def begin(self, row: Sequence[Any], x: Array) -> Pass:
        """What runs these layers on x."""
        seen, self.seen = self.seen, None
        if (
            observed()
            or computing.dtype is not None
            or config.get_programs() == "off"
            or sharers() is not None  # who talk in the middle of a step
        ):
            return _Eager(row, self.pool)  # who records observes too
        takers = listener() is not None, lender()
        key = x.shape, x.dtype, takers, config.context_backend.get(), config.Process.version
        if (program := self._programs.get(key)) is not None:
            if program.watched.same(row):
                self._rest = max(1, self._rest - 1)
                return program
            del self._programs[key]
        if seen is not None and seen[0] == key and seen[1].same(row):
            self.pool.release()  # a program has memory of its own
            program = _traced(seen[1], x)
            if program is not None:
                self._keep(key, program)
                return program
        self._in_a_row = self._in_a_row + 1 if key == self._last else 1
        self._last = key
        self._resting = max(0, self._resting - 1)
        if self._in_a_row < TRACED - 1 or self._resting:
            return _Eager(row, self.pool)
        # Perhaps no backward follows, or layers change all the time, or cannot be traced.
        self._resting, self._rest = self._rest, min(2 * self._rest, LONGEST_REST)
        return _Seen(row, self, key) if _is_known(row, x) else _Eager(row, self.pool)

    def _keep(self, key: Key, program: _Program) -> None:
        """Run later steps of this shape by a program."""
        version = config.Process.version
        self._programs = {old: kept for old, kept in self._programs.items() if old[-1] == version}
        while len(self._programs) >= KEPT:
            del self._programs[next(iter(self._programs))]
        self._programs[key] = program


def _same_values(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return len(now) == len(before) and all(map(is_, now.values(), before.values()))


def _is_known(row: Sequence[Any], x: Array) -> bool:
    """Whether a trace of these layers knows all that they do with such an input."""
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


def _traced(watched: _Watched, x: Array) -> _Program | None:
    """A program of what the layers do with such a batch; None where it cannot be one."""
    had = [dict(vars(layer)) for layer in watched.layers]
    recorder = Recorder(traces=True)
    before, trained = _halves(watched.row)
    try:
        with recorder.recording(), np.errstate(all="ignore"):  # what is not there may be anything
            given = recorder.given(in_layout_of(watched.row, x.shape, x.dtype))
            out = trained.forward(before.forward(given, False), True)
            middle = len(recorder.steps)
            dout = recorder.given(empty(out.shape, watched.dout))
            trained.backward(dout, False)
        return _program(recorder, middle, given, out, dout, watched)
    except MemoryError:  # a trace has all arrays at a time, if only their addresses
        return None
    finally:
        watched.restore(had)


def _program(
    recorded: Recorder, middle: int, given: Array, out: Array, dout: Array, watched: _Watched
) -> _Program | None:
    """The program, if the trace says how each number comes from the batch and the weights."""
    gradients = [
        (layer, f"d{name}", getattr(layer, f"d{name}")) for layer, name in watched.parameters()
    ]
    own = [getattr(layer, name) for layer, name in watched.parameters()]
    arrays = [*own, *(gradient for _, _, gradient in gradients)]
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
