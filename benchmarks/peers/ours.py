"""fastconv itself, and the book's own code, as contenders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import fastconv
from fastconv.layers import Convolution
from fastconv.optimizer import Adam, Momentum

from ..book import BookAdam, BookNet
from ..data import gradient_by_hand, network_for, scores_by_hand
from . import CHECKED, MASK_SEED, MOMENTUM, AnyProblem, ConvProblem, ModelProblem, Problem

__all__ = ["make"]


def make(mode: str, problem: AnyProblem) -> Any:
    """Return the contender of "BACKEND MATH CALLER", or for ``book`` the book's own code."""
    # BLAS keeps to the problem's threads for the rest of the process.
    threadpool_limits(problem.threads, user_api="blas")
    if mode == "book":
        return Book(problem)
    backend, math_mode, caller = mode.split()
    if isinstance(problem, ConvProblem):
        return OneConvolution(backend, math_mode, problem)
    if caller == "prepared":
        return Prepared(backend, math_mode, problem)
    if isinstance(problem, ModelProblem):
        return Model(backend, math_mode, problem)
    return {"network": Ours, "by_hand": ByHand}[caller](backend, math_mode, problem)


def use_math_mode(mode: str) -> None:
    """Set the mode if another contender of this process has changed it.

    A mode that is set, even to what it was, makes fastconv choose kernels and prepare networks
    anew, which no user's loop does.
    """
    if fastconv.get_math_mode() != mode:
        fastconv.set_math_mode(mode)


class Ours:
    """DeepConvNet on one backend, by the methods of `Network`."""

    def __init__(self, backend: str, math_mode: str, problem: Problem) -> None:
        fastconv.set_num_threads(problem.threads)
        self.problem, self.backend, self.math_mode = problem, backend, math_mode
        self.network, self.adam = network_for(problem, problem.x.dtype.name, backend), Adam()

    def take(self, x: np.ndarray, t: np.ndarray) -> None:
        """Go on with other images and labels."""
        self.problem = replace(self.problem, x=x, t=t)

    def scores(self) -> np.ndarray:
        use_math_mode(self.math_mode)
        return self.network.predict(self.problem.x)

    def gradients(self) -> dict[str, np.ndarray]:
        np.random.seed(MASK_SEED)
        use_math_mode(self.math_mode)
        return self._gradient()

    def infer(self) -> None:
        self.scores()

    def step(self) -> None:
        use_math_mode(self.math_mode)
        with fastconv.use_backend(self.backend):  # for Adam
            self.adam.update(self.network.params, self._gradient())

    def _gradient(self) -> dict[str, np.ndarray]:
        return self.network.gradient(self.problem.x, self.problem.t)


class ByHand(Ours):
    """DeepConvNet by the loop over its layers that the book's network classes write."""

    def scores(self) -> np.ndarray:
        use_math_mode(self.math_mode)
        return scores_by_hand(self.network, self.problem.x, train_flg=False)

    def _gradient(self) -> dict[str, np.ndarray]:
        return gradient_by_hand(self.network, self.problem.x, self.problem.t)


class Model:
    """A large network on one backend; a comparison begins from the problem's weights."""

    def __init__(self, backend: str, math_mode: str, problem: ModelProblem) -> None:
        fastconv.set_num_threads(problem.threads)
        self.problem, self.backend, self.math_mode = problem, backend, math_mode
        self.network = network_for(problem, problem.x.dtype.name, backend)
        self.momentum = Momentum(**MOMENTUM)

    def scores(self) -> np.ndarray:
        use_math_mode(self.math_mode)
        return self.network.predict(self.problem.x[:CHECKED])

    def gradients(self) -> dict[str, np.ndarray]:
        use_math_mode(self.math_mode)
        return self.network.gradient(self.problem.x[:CHECKED], self.problem.t[:CHECKED])

    def infer(self) -> None:
        use_math_mode(self.math_mode)
        self.network.predict(self.problem.x)

    def step(self) -> None:
        use_math_mode(self.math_mode)
        with fastconv.use_backend(self.backend):
            gradients = self.network.gradient(self.problem.x, self.problem.t)
            self.momentum.update(self.network.params, gradients)


class Prepared:
    """Either kind of network, prepared for the problem's batch: it only predicts."""

    def __init__(self, backend: str, math_mode: str, problem: Problem | ModelProblem) -> None:
        fastconv.set_num_threads(problem.threads)
        self.x, self.checked, self.math_mode = problem.x, problem.checked, math_mode
        use_math_mode(math_mode)
        network = network_for(problem, problem.x.dtype.name, backend)
        self.network = network.prepare(problem.x.shape)

    def scores(self) -> np.ndarray:
        use_math_mode(self.math_mode)
        # The whole batch, as it is timed: each batch size is prepared for itself.
        return self.network.predict(self.x)[: self.checked]

    def infer(self) -> None:
        use_math_mode(self.math_mode)
        self.network.predict(self.x)


class OneConvolution:
    """The layer, as users call it."""

    def __init__(self, backend: str, math_mode: str, problem: ConvProblem) -> None:
        fastconv.set_num_threads(problem.threads)
        self.problem, self.math_mode = problem, math_mode
        p = problem
        self.layer = Convolution(p.weight, p.bias, p.stride, p.pad, backend=backend)
        # Between layers images are in the backend's own memory layout.
        self.x, self.dout = (np.asarray(a.transpose(0, 2, 3, 1), order="C") for a in (p.x, p.dout))

    def gradients(self) -> dict[str, np.ndarray]:
        use_math_mode(self.math_mode)
        out = self.layer.forward(self.x.transpose(0, 3, 1, 2))
        dout = self.dout.transpose(0, 3, 1, 2)
        dx = self.layer.backward(dout, input_gradient=self.problem.input_gradient)
        found = {"out": out, "dweight": self.layer.dW, "dbias": self.layer.db}
        return found if dx is None else found | {"dx": dx}

    def step(self) -> None:
        self.gradients()


class Book:
    """NumPy, float64, the whole column matrix."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.x = problem, problem.x.astype(np.float64)
        self.network, self.adam = BookNet(problem.params), BookAdam()

    def scores(self) -> np.ndarray:
        return self.network.predict(self.x)

    def gradients(self) -> dict[str, np.ndarray]:
        np.random.seed(MASK_SEED)
        return self.network.gradient(self.x, self.problem.t)

    def infer(self) -> None:
        self.network.predict(self.x)

    def step(self) -> None:
        gradients = self.network.gradient(self.x, self.problem.t)
        self.adam.update(self.network.params, gradients)
