"""Programs described for people: which kernels run, by which algorithms, in how much memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..backends.algorithms import ALGORITHMS
from ..backends.calls import MOVE, WRITES, Call
from ..backends.table import FAMILIES
from ..console import in_columns
from ..geometry import shown_stride
from ..ops.recording import Outside, Recorder
from .fusion import ConvGroup, Group, Sum
from .measuring import algorithm_of
from .places import Step
from .rewriting import is_among_channels

__all__ = ["Description", "StepFacts", "described"]

KIB = 1024


@dataclass(frozen=True)
class StepFacts:
    """A call of a kernel, or a layer that Python computes.

    Attributes
    ----------
    name : str
        Name in the network of the first layer that takes part; empty if none has a name.
    layers : tuple of str
        Classes of all layers in the group that this step belongs to; ``Shortcut`` stands for the
        sum at its end.
    kernel : str
        Name in the kernel table, ``"move"`` for a copy, or the class of a layer in Python.
    what : str
        The kernel in short, with window and stride: ``conv2d 3x3/2``.
    fused : tuple of str
        What the kernel does besides: ``norm``, ``add``, ``relu``, ``pool``, and ``concat``: it
        writes where its output lies in a concatenation.
    algorithm : str
        How a convolution is computed; empty for others, and if the backend does not say.
    measured : bool
        Whether the algorithm was found by measuring; else it is the rule's, or forced.
    output_shape : tuple of int
    output_bytes : int
        Of all arrays that the step writes.
    runs_in : str
        The backend that runs the kernel or the copy; ``"Python"`` if none does.
    """

    name: str
    layers: tuple[str, ...]
    kernel: str
    what: str
    fused: tuple[str, ...]
    algorithm: str
    measured: bool
    output_shape: tuple[int, ...]
    output_bytes: int
    runs_in: str


@dataclass(frozen=True)
class Description:
    """What a program consists of; as text, a table.

    Attributes
    ----------
    steps : tuple of StepFacts
        In the order they run.
    block_bytes : int
        Memory of all arrays that are written.
    bytes_without_reuse : int
        The same, if each array had memory of its own.
    """

    steps: tuple[StepFacts, ...]
    block_bytes: int
    bytes_without_reuse: int

    def __str__(self) -> str:
        lines = [("layer", "computed by", "algorithm", "output", "KiB", "runs in")]
        lines += [
            (
                step.name or " + ".join(step.layers),
                " ".join((step.what, *(f"+{part}" for part in step.fused))),
                step.algorithm + (", measured" if step.measured else ""),
                " x ".join(map(str, step.output_shape)),
                _in_kib(step.output_bytes),
                step.runs_in,
            )
            for step in self.steps
        ]
        number = len(self.steps)
        return (
            f"{in_columns(lines, right=(4,))}\n"
            f"{number} {'step' if number == 1 else 'steps'}; arrays in "
            f"{_in_kib(self.block_bytes)} KiB, which without reuse were "
            f"{_in_kib(self.bytes_without_reuse)} KiB"
        )

    def plain(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        return asdict(self)


def _in_kib(count: int) -> str:
    return f"{count / KIB:,.1f}"


def described(
    steps: Sequence[Step],
    moved: Sequence[Step],
    runs_in: Sequence[str],
    recorder: Recorder,
    names: Mapping[int, str],
) -> tuple[StepFacts, ...]:
    """Facts about the steps of a recording.

    Parameters
    ----------
    steps : sequence of Call and Outside
        As they were recorded.
    moved : sequence of Call and Outside
        The same as they run.
    runs_in : sequence of str
        What runs each of them.
    recorder : Recorder
        What recorded them.
    names : mapping of int to str
        The layers' names, by their `id`.
    """
    found = []
    for step, last, where in zip(steps, moved, runs_in, strict=True):
        group: Group | None = recorder.makers.get(id(step))
        layers = [] if group is None else list(group.layers)
        named = [names[id(layer)] for layer in layers if id(layer) in names]
        folded = isinstance(group, ConvGroup) and group.norm is not None
        written = (
            [step.out]
            if isinstance(step, Outside)
            else [step.arguments[name] for name in WRITES[step.kernel]]
        )
        shape = written[0].shape
        whole = recorder.made.get(id(group), shape)
        if math.prod(whole) == written[0].size:  # a kernel may take it in another shape
            shape = whole
        found.append(
            StepFacts(
                name=named[0] if named else "",
                layers=tuple(
                    "Shortcut" if isinstance(layer, Sum) else type(layer).__name__
                    for layer in layers
                ),
                kernel=step.name if isinstance(step, Outside) else step.kernel,
                what=step.name if isinstance(step, Outside) else _what(step),
                fused=() if isinstance(step, Outside) else _fused(step, folded),
                algorithm="" if isinstance(last, Outside) else algorithm_of(last),
                measured=not isinstance(last, Outside) and last.algorithm in ALGORITHMS[1:],
                output_shape=shape,
                output_bytes=sum(array.nbytes for array in written if array is not None),
                runs_in=where,
            )
        )
    return tuple(found)


def _what(call: Call) -> str:
    """The kernel in a word or two."""
    arguments = call.arguments
    if call.kernel == MOVE:
        return "copy" if arguments["factor"] == 1 else "scale"
    if call.kernel == "activation_forward":
        return str(arguments["kind"])
    words = [next(family for family, kernels in FAMILIES.items() if call.kernel in kernels)]
    words[0] = words[0].removesuffix("_block").removesuffix("_grouped")
    if (g := arguments.get("geometry")) is not None:
        stride = shown_stride(g.strides)
        words.append(f"{g.fh}x{g.fw}" + (f"/{stride}" if stride != "1" else ""))
    if arguments.get("groups", 1) > 1:
        words.append(f"in {arguments['groups']} groups")
    if call.kernel.endswith("_backward"):
        words.append("backward")
    return " ".join(words)


def _fused(call: Call, folded: bool) -> tuple[str, ...]:
    """What else a kernel does, in words."""
    arguments = call.arguments
    also = {
        "norm": folded and call.kernel.startswith("conv2d"),
        "add": arguments.get("residual") is not None,
        "relu": bool(arguments.get("relu")),
        "pool": bool(arguments.get("pool")),
        "concat": call.kernel != MOVE
        and "out" in arguments
        and is_among_channels(arguments["out"]),
    }
    return tuple(part for part, there in also.items() if there)
