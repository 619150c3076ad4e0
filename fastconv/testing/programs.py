"""A backend's programs against its own kernels, called one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.calls import MOVE, WRITES, Call, Run, call_each
from ..backends.table import Backend
from ..geometry import shown_window, window_geometry
from .contract import Freedoms
from .strict import Arguments, guarded, intact, is_array, lay_out, require

__all__ = ["check_programs"]

Array = NDArray[Any]

CHANGING = ("x", "residual", "source")
"""Arguments whose numbers change from run to run; those of others are a program's constants."""

METHODS = {"program": False, "step_program": True}
"""What makes a `Run`, and whether it is for training: there the others change, too."""

OF_TRAINING = ("_backward", "_train", "_statistics")
"""Ends of the names of kernels that predictions do not call."""


def _other(x: Array) -> Array:
    return np.asarray(-0.75 * np.flip(x)).astype(x.dtype)


def _broken(x: Array) -> Array:
    x = _other(x)
    x.reshape(-1)[:1], x.reshape(-1)[-1:] = np.nan, np.inf
    return x


STAGES: tuple[tuple[str, Callable[[Array], Array]], ...] = (
    ("on the inputs that it was made on", np.copy),
    ("on other inputs", _other),
    ("on the same inputs once more", _other),
    ("on zeros", np.zeros_like),
    ("on inputs with NaN and infinities", _broken),
    ("on the first inputs again", np.copy),
)
"""What a program is run on, one after the other."""


@dataclass
class _Twin:
    """Two arrays of the same numbers: one for the program, one for calls one by one.

    Attributes
    ----------
    name : str
        The argument's.
    program, calls : array
    memory : array
        The guarded memory around the program's array.
    first : array or None
        What it held when the program was made; None if only calls write it.
    """

    name: str
    program: Array
    calls: Array
    memory: Array
    first: Array | None = None

    def hold(self, numbers: Any) -> None:
        """Give both arrays these numbers, or poison."""
        for array in (self.program, self.calls):
            writeable = array.flags.writeable
            array.flags.writeable = True
            array[...] = numbers
            array.flags.writeable = writeable

    def expect_same(self, where: str, call: Call, written: bool) -> None:
        """Fail where the arrays differ in a bit, or a byte beside the program's is not poison."""
        if differ := self._differing():
            what = "not what the call by itself gives" if written else "an input, and written"
            count = f"{differ} of {self.program.size} differ"
            raise AssertionError(f"{where}: {_said(call)}: {self.name} is {what}: {count}")
        if not intact(self.memory):
            raise AssertionError(f"{where}: {_said(call)}: written outside of {self.name}")

    def _differing(self) -> int:
        """How many elements differ in a bit; a NaN is a NaN."""
        if self.program.tobytes() == self.calls.tobytes():
            return 0
        shape = (*self.program.shape, self.program.itemsize)
        one, other = (
            np.ascontiguousarray(array).view(np.uint8).reshape(shape)
            for array in (self.program, self.calls)
        )
        differs = (one != other).any(axis=-1)
        if self.program.dtype.kind == "f":
            differs &= ~(np.isnan(self.program) & np.isnan(self.calls))
        return int(np.sum(differs))


@dataclass
class _Rows:
    """Calls that are each made twice: in the program, and one by one on arrays of their own."""

    backend: Backend
    all_change: bool
    calls: list[tuple[Call, Call]] = field(default_factory=list)
    inputs: list[list[_Twin]] = field(default_factory=list)
    outputs: list[list[_Twin]] = field(default_factory=list)

    def add(self, kernel: str, inputs: Arguments) -> None:
        """A call of a kernel on inputs of its own."""
        sides = [lay_out(self.backend, kernel, inputs) for _ in range(2)]
        (given, outputs, memories), (other, others, _) = sides
        places = dict(memories)
        read = [
            _Twin(name, given[name], other[name], places[name], inputs[name])
            for name in given
            if is_array(given[name]) and name not in outputs
        ]
        written = [_Twin(name, outputs[name], others[name], places[name]) for name in outputs]
        for twin in written:
            before: Any = inputs.get(twin.name)  # what is updated in place; a shape, or nothing
            twin.first = before.copy() if is_array(before) else None
        self._note(kernel, (given | outputs, other | others), read, written)

    def twin(self, name: str, first: Any, dtype: Any = None, last: bool | None = None) -> _Twin:
        """An array of these numbers, or of this shape, in the backend's layout."""
        given = is_array(first)
        shape, dtype = (first.shape, first.dtype) if given else (first, np.dtype(dtype))
        last = self.backend.layout == "channels_last" if last is None else last
        (program, memory), (calls, _) = (guarded(shape, dtype, last) for _ in range(2))
        twin = _Twin(name, program, calls, memory, first if given else None)
        if given:
            twin.hold(first)
        return twin

    def join(
        self, kernel: str, read: dict[str, Any], written: dict[str, Any], called: Any = None
    ) -> None:
        """A call on arrays that other calls may share: twins, or views (twin, index or shape).

        The kernel that is called one by one is `called`'s, by default the backend's.
        """
        arguments = [{n: _side(v, side) for n, v in (read | written).items()} for side in range(2)]
        twins = [[_owner(v) for v in of.values() if _owner(v)] for of in (read, written)]
        self._note(kernel, (arguments[0], arguments[1]), twins[0], twins[1], called)

    def _note(
        self,
        kernel: str,
        arguments: tuple[Arguments, Arguments],
        read: list[Any],
        written: list[Any],
        called: Any = None,
    ) -> None:
        backend = None if kernel == MOVE else self.backend
        first, second = arguments
        self.calls.append((Call(backend, kernel, first), Call(called or backend, kernel, second)))
        self.inputs.append(read)
        self.outputs.append(written)

    def change(self, how: Callable[[Array], Array]) -> None:
        """Put new numbers into what changes; into outputs poison, or what they held at first."""
        for read, written in zip(self.inputs, self.outputs, strict=True):
            for twin in written:
                poison = np.nan if twin.program.dtype.kind == "f" else 0x5A
                twin.hold(poison if twin.first is None else twin.first)
            for twin in read:
                if twin.first is None or twin.first.dtype.kind != "f":
                    continue
                if twin.name in CHANGING:
                    twin.hold(how(twin.first))
                elif self.all_change:  # of one sign, since a variance has one
                    twin.hold(twin.first if how is np.copy else 0.75 * np.flip(twin.first))

    def expect_same(self, where: str) -> None:
        """Fail where the program's arrays differ from those of the calls one by one."""
        for (call, _), read, written in zip(self.calls, self.inputs, self.outputs, strict=True):
            for twin in written:
                twin.expect_same(where, call, True)
            for twin in read:
                twin.expect_same(where, call, False)


def _side(value: Any, side: int) -> Any:
    """The argument that the program (0) gets, or that calls one by one (1) get."""
    if isinstance(value, tuple):
        twin, view = value
        return view(_side(twin, side))
    return (value.program, value.calls)[side] if isinstance(value, _Twin) else value


def _owner(value: Any) -> _Twin | None:
    twin = value[0] if isinstance(value, tuple) else value
    return twin if isinstance(twin, _Twin) else None


def _said(call: Call) -> str:
    arrays = [f"{n} {a.dtype} {a.shape}" for n, a in call.arguments.items() if is_array(a)]
    g = call.arguments.get("geometry")
    window = [shown_window(g)] if g else []
    return f"{call.kernel}: {', '.join(arrays + window)}"


def check_programs(
    backend: Backend, cases: Sequence[tuple[str, Arguments]], dtype: np.dtype[Any], how: str
) -> int:
    """Compare a backend's programs with its kernels called one by one, bit for bit.

    With each of `METHODS` that it has: a program of all the cases, one of copies, and one of calls
    that use each other's outputs and memory; then two programs in two threads at once.

    Parameters
    ----------
    backend : Backend
        If it makes no programs, nothing is checked.
    cases : sequence of (str, dict)
        Kernels and inputs; those that no program calls are left out.
    dtype : dtype
    how : str
        For messages.

    Returns
    -------
    int
        How many calls were compared.

    Raises
    ------
    AssertionError
        The first call that differs, or that wrote where it should not.
    """
    compared = 0
    for method, all_change in METHODS.items():
        if not callable(getattr(backend, method, None)):
            continue
        rows, beside = _Rows(backend, all_change), _Rows(backend, all_change)
        for kernel, inputs in cases:
            if kernel in WRITES and (all_change or not kernel.endswith(OF_TRAINING)):
                rows.add(kernel, inputs)
        _moves(rows, dtype)
        _network(rows, dtype)
        _into_channels(rows, dtype)
        _network(beside, dtype)
        where = f"{backend.name}, {method} of {len(rows.calls)} calls, {how}"
        there = f"{backend.name}, second {method}, {how}"
        with np.errstate(all="ignore"):
            _compare(rows, _made(method, rows, where), where, _made(method, beside, there), beside)
        compared += len(STAGES) * len(rows.calls)
    return compared


def _compare(rows: _Rows, run: Run, where: str, other: Run, beside: _Rows) -> None:
    """Run a program on all inputs, then at the same time as another."""
    for stage, change in STAGES:
        rows.change(change)
        run.run()
        call_each([call for _, call in rows.calls]).run()
        rows.expect_same(f"{where}, {stage}")
    for each in (rows, beside):
        each.change(_other)
        call_each([call for _, call in each.calls]).run()
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run.run), pool.submit(other.run)]:
            done.result()
    for each in (rows, beside):
        each.expect_same(f"{where}, beside another in a second thread")


def _made(method: str, rows: _Rows, where: str) -> Run:
    """The backend's program of the calls; making it may write only what they write."""
    try:
        run = getattr(rows.backend, method)([call for call, _ in rows.calls])
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise AssertionError(f"{where}: cannot be made: {what}") from error
    kind = type(run).__name__
    require(callable(getattr(run, "run", None)), f"{where}: a {kind}, which has no method run")
    for (call, _), read in zip(rows.calls, rows.inputs, strict=True):
        for twin in read:
            if twin.first is not None:
                twin.expect_same(f"{where}, when it was made", call, False)
    result: Run = run
    return result


def _moves(rows: _Rows, dtype: np.dtype[Any]) -> None:
    """Copies: in any order of memory, to any dtype, of a part, and side by side into parts."""
    rng = np.random.default_rng(5)
    images = rng.standard_normal((2, 5, 6, 7)).astype(dtype)
    orders = itertools.product((1, 0.7), (np.float32, np.float64), (False, True), (False, True))
    for factor, to, source_last, out_last in orders:
        source = rows.twin("source", images, last=source_last)
        out = rows.twin("out", images.shape, to, out_last)
        rows.join(MOVE, {"source": source, "factor": factor}, {"out": out})
    beside = rows.twin("out", (2, 9, 6, 7), dtype)
    for of, to_part in ((slice(None), slice(5)), (slice(4, 0, -1), slice(5, 9))):
        part = (rows.twin("source", images), _channels(of))
        rows.join(MOVE, {"source": part, "factor": 1}, {"out": (beside, _channels(to_part))})


def _channels(part: slice) -> Callable[[Array], Array]:
    """A view of some channels."""
    return lambda images: images[:, part]


def _network(rows: _Rows, dtype: np.dtype[Any]) -> None:
    """Calls that use each other's outputs, in memory that later calls use again."""
    rng = np.random.default_rng(6)

    def draw(*shape: int) -> Array:
        return np.asarray(rng.standard_normal(shape), dtype)

    shape = (2, 16, 9, 11)
    g = window_geometry("check_backend", shape, 3, 3, 1, 1)
    x = rows.twin("x", draw(*shape))
    one, two = (rows.twin("out", shape, dtype) for _ in range(2))

    def constants(*shapes: tuple[int, ...]) -> Iterator[_Twin]:
        names = ("weight", "bias")
        for name, each in zip(names, shapes, strict=True):
            yield rows.twin(name, draw(*each), last=False)

    def convolution(source: _Twin, residual: _Twin | None, out: _Twin) -> None:
        weight, bias = constants((16, 16, 3, 3), (16,))
        read = {"x": source, "weight": weight, "bias": bias, "residual": residual, "geometry": g}
        more = {"relu": True, "pool": False, "winner": None}
        rows.join("conv2d_block_forward", read | more, {"out": out})

    convolution(x, None, one)
    convolution(one, x, two)
    convolution(two, None, one)  # where the first one's output was
    joined = rows.twin("out", (2, 32, 9, 11), dtype)
    rows.join(MOVE, {"source": one, "factor": 1}, {"out": (joined, _channels(slice(16)))})
    rows.join(MOVE, {"source": two, "factor": 0.5}, {"out": (joined, _channels(slice(16, 32)))})
    windows = window_geometry("check_backend", joined.program.shape, 3, 3, 2, 0)
    pooled = rows.twin("out", windows.output_shape(32), dtype)
    winner = rows.twin("winner", windows.output_shape(32), np.uint8)
    rows.join(
        "maxpool2d_forward",
        {"x": joined, "geometry": windows},
        {"out": pooled, "winner": winner},
    )
    flat = rows.twin("out", pooled.program.shape, dtype, last=False)
    rows.join(MOVE, {"source": pooled, "factor": 1}, {"out": flat})
    features = flat.program[0].size
    weight, bias = constants((features, 10), (10,))
    scores = rows.twin("out", (2, 10), dtype)
    row = (flat, lambda images: images.reshape(len(images), -1))
    rows.join("affine_forward", {"x": row, "weight": weight, "bias": bias}, {"out": scores})
    out, mask = rows.twin("out", (20,), dtype), rows.twin("mask", (20,), np.uint8)
    ravel = (scores, lambda each: each.reshape(-1))
    rows.join("relu_forward", {"x": ravel}, {"out": out, "mask": mask})


class _ByCopy:
    """A backend whose kernels write dense images, which are then copied to `out`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __getattr__(self, kernel: str) -> Callable[..., None]:
        def call(*, out: Array, **given: Any) -> None:
            dense, _ = guarded(out.shape, out.dtype, self._backend.layout == "channels_last")
            getattr(self._backend, kernel)(out=dense, **given)
            out[...] = dense

        return call


def _into_channels(rows: _Rows, dtype: np.dtype[Any]) -> None:
    """Kernels that say so write between the channels of larger images, side by side."""
    freedoms = Freedoms.of(rows.backend)
    rng = np.random.default_rng(7)
    shape, filters = (2, 16, 9, 11), 19
    g = window_geometry("check_backend", shape, 3, 3, 1, 1)
    x = rows.twin("x", np.asarray(rng.standard_normal(shape), dtype))
    joined = rows.twin("out", (2, 60, 9, 11), dtype)
    weight = rows.twin("weight", rng.standard_normal((filters, 16, 3, 3)).astype(dtype), last=False)
    bias = rows.twin("bias", rng.standard_normal(filters).astype(dtype), last=False)
    read: dict[str, Any] = {"x": x, "weight": weight, "bias": bias, "geometry": g}
    block = {"residual": None, "relu": True, "pool": False, "winner": None}
    each: list[tuple[str, dict[str, Any], slice]] = [
        ("conv2d_forward", read, slice(1, 1 + filters)),
        ("conv2d_block_forward", read | block, slice(23, 23 + filters)),
    ]
    if freedoms.winner_is_optional:
        pooling = {"x": x, "geometry": g, "winner": None}
        each.append(("maxpool2d_forward", pooling, slice(42, 58)))
    for kernel, arguments, part in each:
        if kernel in freedoms.into_channels:
            out = {"out": (joined, _channels(part))}
            rows.join(kernel, arguments, out, _ByCopy(rows.backend))
