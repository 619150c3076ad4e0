"""fastconv itself, and the book's own way, as contenders."""

from __future__ import annotations

from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import fastconv
from fastconv.optimizer import Adam

from ..data import network_of
from ..reference import BookAdam, BookNet
from . import MASK_SEED, Problem

__all__ = ["make"]


def make(mode: str, problem: Problem) -> Any:
    """Return the contender of a backend, or for ``book`` of the reference's own way."""
    # BLAS keeps to the problem's threads for the rest of the process.
    threadpool_limits(problem.threads, user_api="blas")
    return Book(problem) if mode == "book" else Ours(mode, problem)


class Ours:
    """DeepConvNet on one backend."""

    def __init__(self, backend: str, problem: Problem) -> None:
        fastconv.set_num_threads(problem.threads)
        self.problem, self.backend = problem, backend
        self.network, self.adam = network_of("float32", backend), Adam()
        self.network.set_params(problem.params)

    def scores(self) -> np.ndarray:
        return self.network.predict(self.problem.x)

    def gradients(self) -> dict[str, np.ndarray]:
        np.random.seed(MASK_SEED)
        return self.network.gradient(self.problem.x, self.problem.t)

    def infer(self) -> None:
        self.network.predict(self.problem.x)

    def step(self) -> None:
        with fastconv.use_backend(self.backend):  # for Adam
            gradients = self.network.gradient(self.problem.x, self.problem.t)
            self.adam.update(self.network.params, gradients)


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
