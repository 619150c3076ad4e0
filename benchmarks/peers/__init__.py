"""DeepConvNet, and large networks, in other libraries, each as its own users would run it.

A contender is made from a `Problem` and has

* ``scores()``: inference on the problem's images, as an array (N, classes);
* ``gradients()``: of the mean cross-entropy, under the names and in the shapes of
  `fastconv.DeepConvNet.params`, with the problem's own dropout masks;
* ``infer()`` and ``step()``: the work that is timed. A step is the gradient and Adam's
  update, with fresh dropout masks; it returns when its result is there.

Inference alone leaves the other two out. A `ModelProblem` is the same for a network of
`fastconv.models`, with SGD with momentum. From a `ConvProblem` a contender makes one convolution,
with ``gradients()`` (its output too) and ``step()``: forward and both gradients. A module is
imported only in the process that runs its contender: no two libraries' thread pools meet
unless that is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from typing import Any

import numpy as np

from fastconv import models

from ..data import batch_of, network_of

__all__ = [
    "CONTENDERS",
    "Contender",
    "ConvProblem",
    "ModelProblem",
    "Problem",
    "load",
    "load_problem",
    "make",
    "missing",
    "new_model",
    "new_model_problem",
    "new_problem",
    "save_problem",
]

MASK_SEED = 1
"""Seed of NumPy's global generator from which the book's network draws the problem's masks."""

PADS = (1, 1, 1, 2, 1, 1)
"""Of the six convolutions."""


NETWORK_TASKS = ("inference", "training step")

ALL_TASKS = (*NETWORK_TASKS, "convolution")

MODELS = ("vgg16", "resnet50", "googlenet")
"""Networks that have a twin in PyTorch (`torch_twins.py`)."""

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
    """

    module: str
    mode: str
    needs: tuple[str, ...]
    tasks: tuple[str, ...] = NETWORK_TASKS


CONTENDERS = {
    "fastconv cython": Contender("ours", "cython default plan", (), ALL_TASKS),
    "fastconv cython, math fast": Contender("ours", "cython fast plan", (), ALL_TASKS),
    "fastconv cython, by hand": Contender("ours", "cython default by_hand", ()),
    "fastconv numba": Contender("ours", "numba default plan", (), ALL_TASKS),
    "fastconv numba, math fast": Contender("ours", "numba fast plan", (), ALL_TASKS),
    "fastconv numba, by hand": Contender("ours", "numba default by_hand", ()),
    "book (NumPy, float64)": Contender("ours", "book", ()),
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
    absent = [module for module in CONTENDERS[name].needs if util.find_spec(module) is None]
    return f"{name}: not installed: {', '.join(absent)}" if absent else ""


def load(name: str) -> Any:
    """Import the contender's module, and with it its library."""
    return import_module(f"{__name__}.{CONTENDERS[name].module}")


def make(name: str, problem: Problem | ConvProblem | ModelProblem) -> Any:
    """Import the contender's library and build its network."""
    return load(name).make(CONTENDERS[name].mode, problem)


def new_problem(images: int, threads: int, dtype: str = "float32") -> Problem:
    """Return the problem of this batch size: fresh weights, random images."""
    draw = np.random.RandomState(MASK_SEED).rand
    masks = ((draw(images, units) > 0.5).astype(dtype) for units in (50, 10))
    x, t = batch_of(images, dtype)
    return Problem(network_of(dtype, None).params, x, t, tuple(masks), threads)


def new_model(network: str, dtype: str, backend: str | None = None) -> Any:
    """A large network for 1000 classes, without dropout, whose masks no two libraries share."""
    more = {} if network.startswith("resnet") else {"dropout": 0.0}
    return getattr(models, network)(dtype=dtype, backend=backend, seed=MASK_SEED, **more)


def new_model_problem(
    network: str,
    images: int,
    size: int,
    threads: int,
    dtype: str = "float32",
    state: dict[str, np.ndarray] | None = None,
) -> ModelProblem:
    """Return the problem of this batch and image size: random images, and fresh weights.

    With an empty `state` each contender makes weights of its own.
    """
    rng = np.random.default_rng(MASK_SEED)
    x = rng.standard_normal((images, 3, size, size), np.float32).astype(dtype)
    state = new_model(network, dtype).state() if state is None else state
    return ModelProblem(network, state, x, rng.integers(0, 1000, images), threads)


def save_problem(path: Path, problem: Problem | ConvProblem | ModelProblem) -> None:
    """Write a problem for the processes that will load it."""
    if isinstance(problem, ConvProblem):
        np.savez(path, **vars(problem))
        return
    if isinstance(problem, ModelProblem):
        arrays = {f"param {key}": value for key, value in problem.state.items()}
        arrays |= {"x": problem.x, "t": problem.t, "threads": np.array(problem.threads)}
        np.savez(path, network=np.array(problem.network), **arrays)
        return
    arrays = {f"param {key}": value for key, value in problem.params.items()}
    arrays |= {"x": problem.x, "t": problem.t, "threads": np.array(problem.threads)}
    np.savez(path, mask_1=problem.masks[0], mask_2=problem.masks[1], **arrays)


def load_problem(path: Path) -> Problem | ConvProblem | ModelProblem:
    """Read what `save_problem` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        if "dout" in arrays:
            values = {name: arrays[name] for name in arrays}
            numbers = {name: int(values.pop(name)) for name in ("stride", "pad", "threads")}
            return ConvProblem(**values, **numbers)
        params = {
            name.removeprefix("param "): arrays[name] for name in arrays if name[:6] == "param "
        }
        if "network" in arrays:
            network, threads = str(arrays["network"]), int(arrays["threads"])
            return ModelProblem(network, params, arrays["x"], arrays["t"], threads)
        masks = (arrays["mask_1"], arrays["mask_2"])
        return Problem(params, arrays["x"], arrays["t"], masks, int(arrays["threads"]))
