"""DeepConvNet, and large networks, in other libraries, each as its own users would run it.

A contender is made from a `Problem` and has

* ``scores()``: inference on the problem's images, as an array (N, classes);
* ``gradients()``: of the mean cross-entropy, under the names and in the shapes of
  `fastconv.DeepConvNet.params`, with the problem's own dropout masks;
* ``infer()`` and ``step()``: the work that is timed. A step is the gradient and Adam's
  update, with fresh dropout masks; it returns when its result is there.

Inference alone leaves the other two out. A `ModelProblem` is the same for a network of
`fastconv.models`, with SGD with momentum. From a `ConvProblem` a contender makes one convolution,
with ``gradients()`` (its output too) and ``step()``: forward and both gradients.

A library is imported only in the process that runs its contender: no two libraries' thread pools
meet unless that is wanted. This module imports none, not even fastconv: what a cold start takes is
the contender's own.
"""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "BOOK",
    "CONTENDERS",
    "AnyProblem",
    "Contender",
    "ConvProblem",
    "ModelProblem",
    "Problem",
    "able",
    "load",
    "load_problem",
    "make",
    "missing",
    "save_problem",
]

PADS = (1, 1, 1, 2, 1, 1)
"""Of the six convolutions."""

NETWORK_TASKS = ("inference", "training step")

ALL_TASKS = (*NETWORK_TASKS, "convolution")

MODELS = ("vgg16", "resnet50", "googlenet")
"""Networks that have a twin in PyTorch (`torch_twins.py`)."""

MASK_SEED = 1
"""Seed of NumPy's global generator from which the book's network draws the problem's masks."""

CHECKED = 2
"""Images of a large network's batch whose results are compared with the reference's."""

MOMENTUM = {"lr": 1e-3, "momentum": 0.9}
"""Of a large network's training step."""


@dataclass(frozen=True)
class Problem:
    """What every contender computes on.

    Attributes
    ----------
    params : dict of str to array
        Weights as `fastconv.DeepConvNet.params` has them. All arrays but t have their dtype.
    x, t : arrays (N, 1, 28, 28), (N,) int64
    masks : arrays (N, 50) and (N, 10)
        Dropout masks for the comparison of gradients: 1 is kept.
    threads : int
    """

    params: dict[str, np.ndarray]
    x: np.ndarray
    t: np.ndarray
    masks: tuple[np.ndarray, ...]
    threads: int


@dataclass(frozen=True)
class ConvProblem:
    """One convolution: x (N, C, H, W), weight, bias, and the gradient dout of its output."""

    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    dout: np.ndarray
    stride: int
    pad: int
    threads: int

    @property
    def input_gradient(self) -> bool:
        """Whether anybody needs it: a first layer's input is the images."""
        return self.x.shape[1] > 3


@dataclass(frozen=True)
class ModelProblem:
    """A network of `fastconv.models`, without dropout: x (N, 3, H, W), labels t (N,).

    `state` has its weights; where that is empty, each contender makes its own.
    """

    network: str
    state: dict[str, np.ndarray]
    x: np.ndarray
    t: np.ndarray
    threads: int


AnyProblem = Problem | ConvProblem | ModelProblem


@dataclass(frozen=True)
class Contender:
    """A library in one of its modes.

    Attributes
    ----------
    module, mode : str
        Module of this package, and what its ``make`` is told.
    needs : tuple of str
        Modules that must be installed.
    tasks : tuple of str
        What it can do: inference, training step, convolution. Those that can do the last run
        the large networks too.
    """

    module: str
    mode: str
    needs: tuple[str, ...]
    tasks: tuple[str, ...] = NETWORK_TASKS


BOOK = "book (NumPy, float64)"

CONTENDERS = {
    "fastconv cython": Contender("ours", "cython default network", (), ALL_TASKS),
    "fastconv cython, math fast": Contender("ours", "cython fast network", (), ALL_TASKS),
    "fastconv cython, by hand": Contender("ours", "cython default by_hand", ()),
    "fastconv numba": Contender("ours", "numba default network", (), ALL_TASKS),
    "fastconv numba, math fast": Contender("ours", "numba fast network", (), ALL_TASKS),
    "fastconv numba, by hand": Contender("ours", "numba default by_hand", ()),
    "fastconv numpy": Contender("ours", "numpy default network", ()),
    BOOK: Contender("ours", "book", ()),
    "PyTorch eager NCHW": Contender("pytorch", "eager contiguous", ("torch",), ALL_TASKS),
    "PyTorch eager channels_last": Contender(
        "pytorch", "eager channels_last", ("torch",), ALL_TASKS
    ),
    "torch.compile channels_last": Contender("pytorch", "compile channels_last", ("torch",)),
    "ONNX Runtime": Contender("onnx_runtime", "", ("onnx", "onnxruntime"), ("inference",)),
    "JAX jit NHWC": Contender("jax_jit", "", ("jax",)),
}


def missing(name: str) -> str:
    """Return what keeps a contender from running here, or an empty text."""
    contender = CONTENDERS[name]
    if name.startswith("fastconv "):
        import fastconv

        return fastconv.list_backends()[contender.mode.split()[0]].reason
    absent = [module for module in contender.needs if util.find_spec(module) is None]
    return f"{name}: not installed: {', '.join(absent)}" if absent else ""


def able(
    task: str,
    words: list[str] | None = None,
    modules: tuple[str, ...] = (),
    large: bool = False,
) -> list[str]:
    """Return the contenders that can do a task here; say which cannot, on standard error.

    Parameters
    ----------
    words : list of str, optional
        Only contenders that have one of these in their name.
    modules : tuple of str
        Only contenders of these modules; where there are none, of all.
    large : bool
        On a large network, which some contenders do not have.
    """
    found = []
    for name, contender in CONTENDERS.items():
        if task not in contender.tasks or not any(word in name for word in words or [""]):
            continue
        if modules and contender.module not in modules:
            continue
        if large and "convolution" not in contender.tasks:
            continue
        if reason := missing(name):
            print(f"left out: {reason}", file=sys.stderr)
        else:
            found.append(name)
    return found


def load(name: str) -> Any:
    """Import the contender's module, and with it its library."""
    return import_module(f"{__name__}.{CONTENDERS[name].module}")


def make(name: str, problem: AnyProblem) -> Any:
    """Import the contender's library and build its network."""
    return load(name).make(CONTENDERS[name].mode, problem)


def save_problem(path: Path, problem: AnyProblem) -> None:
    """Write a problem for the processes that will load it."""
    path.write_bytes(pickle.dumps(problem, pickle.HIGHEST_PROTOCOL))


def load_problem(path: Path) -> AnyProblem:
    """Read what `save_problem` wrote."""
    return pickle.loads(path.read_bytes())
