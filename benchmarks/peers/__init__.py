"""DeepConvNet, and large networks, in other libraries, each as its own users would run it.

A contender is made from a `Problem` and has

* ``scores()``: inference on the problem's images, as an array (N, classes);
* ``gradients()``: of the mean cross-entropy, under the names and in the shapes of
  `fastconv.DeepConvNet.params`, with the problem's own dropout masks;
* ``infer()`` and ``step()``: the work that is timed. A step is the gradient and Adam's
  update, with fresh dropout masks; it returns when its result is there.

Inference alone leaves ``gradients()`` and ``step()`` out. A `ModelProblem` is the same for a
network of `fastconv.models`, with SGD with momentum. From a `ConvProblem` a contender makes one
convolution, with ``gradients()`` (its output too) and ``step()``: forward and both gradients.

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
from typing import Any, Literal

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

INFERENCE = ("inference",)

NETWORK_TASKS = (*INFERENCE, "training step")

ALL_TASKS = (*NETWORK_TASKS, "convolution")

TWINNED = ("vgg16", "resnet50", "googlenet")
"""Networks of `fastconv.models` that have a twin in PyTorch (`torch_twins.py`)."""

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

    @property
    def checked(self) -> int:
        """Images whose scores are compared with the reference's: all."""
        return len(self.x)


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
    """A network of `fastconv.models`, without dropout: x (N, C, H, W), labels t (N,).

    H and W are equal. `state` has its weights; where that is empty, each contender makes its own.
    """

    network: str
    state: dict[str, np.ndarray]
    x: np.ndarray
    t: np.ndarray
    threads: int

    @property
    def checked(self) -> int:
        """Images whose scores are compared with the reference's: the first ones."""
        return CHECKED


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
        What it can do: inference, training step, convolution.
    models : {"none", "twinned", "every"}
        Which networks of `fastconv.models` it has besides DeepConvNet: those with a twin in
        PyTorch, or every one.
    rough : bool
        Whether it multiplies bfloat16s.
    """

    module: str
    mode: str
    needs: tuple[str, ...]
    tasks: tuple[str, ...] = NETWORK_TASKS
    models: Literal["none", "twinned", "every"] = "none"
    rough: bool = False

    def has(self, model: str) -> bool:
        """Whether it has this network of `fastconv.models`."""
        return self.models == "every" or (self.models == "twinned" and model in TWINNED)


BOOK = "book (NumPy, float64)"

CONTENDERS = {
    "fastconv cython": Contender("ours", "cython default network", (), ALL_TASKS, "every"),
    "fastconv cython, math fast": Contender("ours", "cython fast network", (), ALL_TASKS, "every"),
    "fastconv cython, math bf16": Contender(
        "ours", "cython bf16 network", (), ALL_TASKS, "every", rough=True
    ),
    "fastconv cython, by hand": Contender("ours", "cython default by_hand", ()),
    "fastconv cython, prepared": Contender(
        "ours", "cython default prepared", (), INFERENCE, "every"
    ),
    "fastconv cython, prepared, math fast": Contender(
        "ours", "cython fast prepared", (), INFERENCE, "every"
    ),
    "fastconv cython, prepared, math bf16": Contender(
        "ours", "cython bf16 prepared", (), INFERENCE, "every", rough=True
    ),
    "fastconv numba": Contender("ours", "numba default network", (), ALL_TASKS, "every"),
    "fastconv numba, math fast": Contender("ours", "numba fast network", (), ALL_TASKS, "every"),
    "fastconv numba, by hand": Contender("ours", "numba default by_hand", ()),
    "fastconv numba, prepared": Contender("ours", "numba default prepared", (), INFERENCE, "every"),
    "fastconv numba, prepared, math fast": Contender(
        "ours", "numba fast prepared", (), INFERENCE, "every"
    ),
    "fastconv numpy": Contender("ours", "numpy default network", ()),
    BOOK: Contender("ours", "book", ()),
    "PyTorch eager NCHW": Contender(
        "pytorch", "eager contiguous", ("torch",), ALL_TASKS, "twinned"
    ),
    "PyTorch eager channels_last": Contender(
        "pytorch", "eager channels_last", ("torch",), ALL_TASKS, "twinned"
    ),
    "PyTorch autocast bfloat16": Contender(
        "pytorch", "autocast channels_last", ("torch",), NETWORK_TASKS, "twinned", rough=True
    ),
    "torch.compile channels_last": Contender("pytorch", "compile channels_last", ("torch",)),
    "ONNX Runtime": Contender("onnx_runtime", "", ("onnx", "onnxruntime"), INFERENCE, "every"),
    "OpenVINO": Contender("open_vino", "f32", ("onnx", "openvino"), INFERENCE, "every"),
    "OpenVINO bfloat16": Contender(
        "open_vino", "bf16", ("onnx", "openvino"), INFERENCE, "every", rough=True
    ),
    "JAX jit NHWC": Contender("jax_jit", "", ("jax",)),
}


def missing(name: str) -> str:
    """Return what keeps a contender from running here, or an empty text."""
    contender = CONTENDERS[name]
    if name.startswith("fastconv "):
        import fastconv

        backend, math_mode, *_ = contender.mode.split()
        status = fastconv.list_backends()[backend]
        if status and math_mode not in status.math_modes:
            return f"{name}: the backend {backend} does not run in this math mode here"
        return status.reason
    absent = [module for module in contender.needs if util.find_spec(module) is None]
    return f"{name}: not installed: {', '.join(absent)}" if absent else ""


def able(
    task: str,
    words: list[str] | None = None,
    modules: tuple[str, ...] = (),
    model: str | None = None,
) -> list[str]:
    """Return the contenders that can do a task here; say which cannot, on standard error.

    Parameters
    ----------
    words : list of str, optional
        Only contenders that have one of these in their name.
    modules : tuple of str
        Only contenders of these modules; where there are none, of all.
    model : str, optional
        Only contenders that have this network of `fastconv.models`; by default it is DeepConvNet.
    """
    found = []
    for name, contender in CONTENDERS.items():
        if task not in contender.tasks or not any(word in name for word in words or [""]):
            continue
        if modules and contender.module not in modules:
            continue
        if model is not None and not contender.has(model):
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
