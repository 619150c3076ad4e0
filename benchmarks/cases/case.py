"""A kernel on one shape, and a call of it that is ready to be timed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv.backends.numpy import NumpyBackend
from fastconv.backends.table import CHANNELS_FIRST, Backend

__all__ = [
    "REFERENCE",
    "Arguments",
    "Call",
    "Case",
    "draw",
    "expected",
    "prepare",
    "winners_may_round",
]

Arguments = dict[str, Any]

REFERENCE = NumpyBackend()

EXACT = ("direct", "winograd2")
"""Algorithms that keep whole numbers exact."""

IN_PLACE = {"adam_update": ("param", "m", "v")}


@dataclass(frozen=True, eq=False)
class Case:
    """One kernel on one shape.

    Attributes
    ----------
    kernel, label : str
        Name in the table, and the shape in words.
    inputs : callable
        Draws the inputs from a generator, in float64 but exact in float32.
    outputs : dict
        Shapes by name; None for a gradient that nobody needs.
    flops : int
        Convolutions counted as direct; 0 where moving data is all that counts.
    kind : str
        What sets it apart from other cases of this kernel, besides the numbers of its shape.
    places : callable or None
        From the inputs, the values (..., places) among which ``winner`` names the largest, for
        backends that round them. None where every backend has to name the same one.
    """

    kernel: str
    label: str
    inputs: Callable[[np.random.Generator], Arguments]
    outputs: dict[str, tuple[int, ...] | None]
    flops: int = 0
    kind: str = ""
    places: Callable[[Arguments], np.ndarray] | None = None

    @property
    def written(self) -> int:
        """Numbers that are written."""
        return sum(math.prod(shape) for shape in self.outputs.values() if shape is not None)

    def __str__(self) -> str:
        return f"{self.kernel}-{self.label}"


@dataclass(frozen=True)
class Call:
    """A case made ready for a backend: call it as often as you like.

    Attributes
    ----------
    outputs : dict
        The arrays that it writes.
    moved : int
        Bytes, each input read once and each output written once.
    """

    function: Callable[..., Any]
    arguments: Arguments
    outputs: Arguments
    moved: int

    def __call__(self) -> Any:
        return self.function(**self.arguments)


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal numbers in float64 that are exact in float32."""
    return rng.standard_normal(shape, np.float32).astype(np.float64)


def prepare(case: Case, backend: Backend, dtype: str, inputs: Arguments) -> Call:
    """Lay out the inputs as the backend wants them, and allocate the outputs."""
    last = backend.layout == "channels_last" and case.kernel not in CHANNELS_FIRST
    arguments: Arguments = {}
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            kind = dtype if value.dtype.kind == "f" else value.dtype
            arguments[name] = _zeros(value.shape, kind, last and name != "weight")
            arguments[name][...] = value
        else:
            arguments[name] = value
    outputs = {name: arguments[name] for name in IN_PLACE.get(case.kernel, ())}
    for name, shape in case.outputs.items():
        kind = np.uint8 if name in ("winner", "mask") else dtype
        outputs[name] = None if shape is None else _zeros(shape, kind, last and name != "dweight")
    read = sum(a.nbytes for a in arguments.values() if isinstance(a, np.ndarray))
    written = sum(a.nbytes for a in outputs.values() if a is not None)
    return Call(getattr(backend, case.kernel), arguments | outputs, outputs, read + written)


def _zeros(shape: tuple[int, ...], dtype: Any, channels_last: bool) -> np.ndarray:
    """Zeros that are written: pages that are only reserved would be timed with the kernel."""
    if len(shape) == 4 and channels_last:
        n, c, h, w = shape
        return np.full((n, h, w, c), 0, dtype).transpose(0, 3, 1, 2)
    return np.full(shape, 0, dtype)


def expected(case: Case, inputs: Arguments) -> Arguments:
    """What the reference backend computes in float64."""
    call = prepare(case, REFERENCE, "float64", inputs)
    call()
    return call.outputs


def winners_may_round(case: Case, backend: Backend, inputs: Arguments) -> bool:
    """Whether the backend's algorithm rounds what `winner` of this case is chosen by."""
    say = getattr(backend, "conv2d_algorithms", None)
    if case.places is None or say is None:
        return False
    algorithms = say(inputs["geometry"], len(inputs["weight"]), inputs["pool"])
    return algorithms.forward not in EXACT
