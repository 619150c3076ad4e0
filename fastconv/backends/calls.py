"""Calls of kernels, written down with their arguments, to be made again later.

A prepared network calls the same kernels on the same arrays each time. A backend may have a method
``program(calls)`` that makes such calls in order and returns a `Run`, whose `run` does what the
calls would do. From then on the arrays stay where they are, and the constants among them keep
their values. Other backends are called kernel by kernel.

A call may name the algorithm of its convolution, instead of the rule's choice. Whoever makes calls
does so by `Call.made`, which sees to that.

A channels-last backend may have an attribute ``into_channels``: the names of kernels that can write
an `out` that is some channels of larger images. Its pixels then lie further apart, all by the same
distance, and what lies between stays as it is. Such calls have no `residual`, `winner` or `pool`.

Such a backend may have an attribute ``bfloat16_images``: for some kernels, the names of the images
that may lie in memory as bfloat16s in the math mode ``bf16``, in arrays of `BFLOAT16`, while other
arrays are of float32. Such images have an even number of channels, and begin at an even one where
they are channels of larger ones; there is no `winner`. What is read is that number as a float32;
what is written is rounded, to nearest and to even, after all that the kernel does.

A training network makes the same calls at each step, but its weights change between runs. A backend
may also have a method ``step_program(calls)``, for which no array keeps its values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .algorithms import forward_by
from .table import Backend

__all__ = ["BFLOAT16", "MOVE", "WRITES", "Call", "Run", "call_each", "called", "move", "recorded"]

MOVE = "move"
"""Not a kernel: `move`, which copies numbers to another place, perhaps scaled."""

BFLOAT16 = np.dtype(np.uint16)
"""What bfloat16s, which NumPy does not have, are kept as: their bits."""

WRITES = {
    "conv2d_forward": ("out",),
    "conv2d_block_forward": ("out", "winner"),
    "conv2d_grouped_forward": ("out",),
    "maxpool2d_forward": ("out", "winner"),
    "avgpool2d_forward": ("out",),
    "affine_forward": ("out",),
    "relu_forward": ("out", "mask"),
    "activation_forward": ("out",),
    "lrn_forward": ("out", "scale"),
    "batchnorm_infer": ("out",),
    "batchnorm2d_apply": ("out",),
    MOVE: ("out",),
    "conv2d_backward": ("dx", "dweight", "dbias"),
    "conv2d_block_backward": ("dx", "dweight", "dbias"),
    "conv2d_grouped_backward": ("dx", "dweight", "dbias"),
    "maxpool2d_backward": ("dx",),
    "avgpool2d_backward": ("dx",),
    "affine_backward": ("dx", "dweight", "dbias"),
    "relu_backward": ("dx",),
    "activation_backward": ("dx",),
    "lrn_backward": ("dx",),
    "batchnorm_train": ("out", "normalized", "mean", "variance"),
    "batchnorm_backward": ("dx", "dgamma", "dbeta"),
    "batchnorm2d_statistics": ("mean", "variance"),
    "batchnorm2d_backward": ("dx", "dgamma", "dbeta", "dresidual"),
}
"""Kernels of evaluation and training, and which of its arguments each writes."""


@dataclass(frozen=True)
class Call:
    """A call of a kernel of `WRITES`.

    Attributes
    ----------
    backend : Backend or None
        None for `MOVE`, which any backend does.
    kernel : str
    arguments : dict
        By their names in the kernel table.
    algorithm : str
        Of a forward convolution; see `fastconv.backends.algorithms.forward_by`.
    """

    backend: Backend | None
    kernel: str
    arguments: dict[str, Any]
    algorithm: str = "auto"

    def made(self, function: Callable[..., None]) -> Callable[[], None]:
        """What makes the call, by a function that is its kernel, or records it."""
        make = partial(function, **self.arguments)
        return make if self.algorithm == "auto" else partial(_make_by, self.algorithm, make)


def _make_by(algorithm: str, make: Callable[[], None]) -> None:
    with forward_by(algorithm):
        make()


class Run(Protocol):
    """Calls that run as a whole. One thread at a time may run it."""

    def run(self) -> None:
        """Do what the calls would do."""


def move(source: NDArray[Any], factor: float, out: NDArray[Any]) -> None:
    """out = source * factor, for arrays of one shape in any order of memory."""
    if factor == 1:
        out[...] = source
    else:
        np.multiply(source, factor, out=out, dtype=out.dtype)


class call_each:
    """A `Run` that makes the calls one by one, for backends without `program`."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.steps = [
            call.made(move if call.kernel == MOVE else getattr(call.backend, call.kernel))
            for call in calls
        ]

    def run(self) -> None:
        """Make the calls."""
        for make in self.steps:
            make()


def called(calls: Sequence[Call]) -> Run:
    """Make the calls, and return a `Run` that makes them again one by one."""
    run = call_each(calls)
    run.run()
    return run


def recorded(
    calls: Sequence[Call], whole: Callable[[Call], bool], record: Callable[[list[Call]], Run]
) -> Run:
    """Make the calls, and return a `Run` that does the same again.

    Parameters
    ----------
    calls : sequence of Call
    whole : callable
        Whether a backend can record all that a call does.
    record : callable
        Makes consecutive calls of that kind, and returns a `Run`. Python makes the others.
    """
    runs = [
        record(list(some)) if recordable else called(list(some))
        for recordable, some in groupby(calls, whole)
    ]
    return runs[0] if len(runs) == 1 else _InOrder(runs)


class _InOrder:
    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs

    def run(self) -> None:
        for run in self.runs:
            run.run()
