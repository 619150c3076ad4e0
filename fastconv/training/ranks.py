"""What a Trainer asks of the processes that train one network together: here, of one alone.

`fastconv.distributed.DataParallel` answers for several. A process is called a rank, as in MPI, and
so is its number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError

__all__ = ["Gradients", "Loss", "Ranks"]

T = TypeVar("T")
Loss = TypeVar("Loss", bound=float | None)

Gradients = Mapping[str, NDArray[Any]]


class Ranks:
    """One process, which does everything itself.

    Every rank calls every method, in the same order.

    Attributes
    ----------
    rank, size : int
        The process's number, from 0, and how many there are.
    """

    rank = 0
    size = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and talks to people."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return which samples of a batch of so many are this rank's."""
        return slice(0, count)

    def begin(
        self, network: Any, settings: Callable[[], Mapping[str, str]], synchronized: bool
    ) -> None:
        """Make sure that all ranks have the same settings, and give them the same weights."""

    def introduce(self) -> None:
        """Say how many ranks there are and where, once."""

    def expect_same(self, facts: Mapping[str, str]) -> None:
        """Make sure that all ranks have the same facts, and the same versions."""

    @contextmanager
    def computing(
        self,
        network: Any,
        count: int,
        weights: NDArray[np.floating[Any]] | None,
        synchronized: bool,
        unsent: Any = None,
    ) -> Iterator[None]:
        """Inside the block, layers draw for the whole batch of `count`, of which they see a share.

        If `synchronized`, they also normalise by it. `weights` are those of the share's samples,
        if they have any. With `unsent`, gradients are sent in 16 bits.
        """
        yield

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside the block, a run is on its way: a rank must not leave alone."""
        yield

    def averaged(
        self,
        network: Any,
        grads: Gradients,
        loss: Loss,
        count: int,
    ) -> tuple[Gradients, Loss]:
        """Return gradients and loss of a whole batch of `count`, from each rank's for its share.

        They are what was computed inside the last `computing`, and may be changed in place. The
        running statistics on the network become the averages of the ranks', too.
        """
        return grads, loss

    def unsent(self, params: Gradients) -> Any:
        """Return what is kept back of gradients in 16 bits, with ``state`` and ``load_state``.

        Raises
        ------
        ArgumentError
            There is one process alone, which sends nothing; or gradients are not float32.
        """
        raise ArgumentError(
            "Trainer: gradients='bfloat16' is how several processes send them; one sends none"
        )

    def stacked(self, array: NDArray[Any]) -> NDArray[Any] | None:
        """Return the arrays of all ranks, along a new first axis, on the first one."""
        return array[None]

    def compare(self, when: str, arrays: Mapping[str, NDArray[Any]], generator: Any) -> None:
        """Make sure that all ranks have these arrays, and a generator in this state."""

    def accuracy(self, network: Any, x: NDArray[Any], t: NDArray[Any]) -> float:
        """Return ``network.accuracy(x, t)``, of which each rank computes a part."""
        return float(network.accuracy(x, t))

    def blocks(self, count: int, size: int) -> range:
        """Return where this rank's blocks begin, of `count` samples in blocks of `size`."""
        return range(0, count, size)

    def total(self, *numbers: float) -> tuple[float, ...]:
        """Return the sum of each number over all ranks; the same on all of them."""
        return numbers

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on a rank."""
        return flag

    def gathered(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order."""
        return [value]

    def shared(self, function: Callable[[], T]) -> T:
        """Return what the function returns on the first rank of this machine, for reading alone.

        Its arrays are in memory once.
        """
        return function()

    def of_first(self, function: Callable[[], T]) -> T:
        """Return what the function returns on the first rank, or raise what it raises there."""
        return function()
