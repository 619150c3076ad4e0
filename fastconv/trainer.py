"""The book's Trainer (its chapter 6 and 7), with what a long run needs besides."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from os import PathLike
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import randomness
from .batches import Augment, Batches
from .errors import (
    ArgumentError,
    FallbackWarning,
    ShapeError,
    StateError,
    WeightsError,
)
from .geometry import as_int
from .io.arrays import load_arrays, save_arrays
from .ops.arrays import as_array
from .optimizer import *  # noqa: F403
from .optimizer import __all__ as _optimizer_names
from .optimizer import make_optimizer
from .progress import ProgressBar
from .selection import use_backend

# Scripts say `from common.trainer import *` and expect the optimizers with it.
__all__ = ["Record", "Trainer", *_optimizer_names]

Record = dict[str, Any]
"""One finished epoch; the keys are listed under `Trainer.history`."""


class Trainer:
    """Train a network by mini-batches.

    Parameters
    ----------
    network : object
        Anything with ``params``, ``gradient(x, t)``, ``loss(x, t)``, ``accuracy(x, t)``.
    x_train, t_train, x_test, t_test : arrays
        Samples (N, ...) and labels (N,) or one-hot (N, classes).
    epochs : int or float
        The run takes ``int(epochs * max(N / mini_batch_size, 1))`` steps.
    mini_batch_size : int
        Samples of one step, drawn with replacement.
    optimizer : str or object
        'SGD', 'Momentum', 'Nesterov', 'AdaGrad', 'RMSprop' or 'Adam', in any case; or an
        object with ``update(params, grads)``.
    optimizer_param : dict, optional
        Settings of the optimizer; ``{'lr': 0.01}`` by default.
    evaluate_sample_num_per_epoch : int, optional
        Evaluate on this many samples, the first of each set; None: on all.
    verbose : bool
        Print the lines of the book's Trainer.
    backend : str, optional
        Runs the training on this backend.
    seed : int, optional
        Draw batches and dropout masks from a generator of the Trainer's own, so that the
        run repeats and NumPy's global generator is left alone. None draws from the latter,
        as the book does.
    augment : callable, optional
        ``augment(x, rng)`` gives what to train on instead of the samples x, such as
        `fastconv.Augmentation`. `train` calls it a step ahead, in a thread, where the kernels'
        threads leave a CPU free.
    evaluate : 'start' or 'end'
        'start' evaluates at the first step of each epoch, as the book does. 'end' evaluates
        after the last step of each epoch, and on the whole test set, whatever
        `evaluate_sample_num_per_epoch` says of the training set (0: leave that out).
    callbacks : iterable of callables
        Called as ``callback(trainer, record)`` at the end of each epoch.
    lr_schedule : callable, optional
        ``lr_schedule(iteration)``, counted from 0, gives the learning rate of each step.
    progress : bool
        Show a bar on standard error, with images per second and loss.
    reference_loss : bool
        Record the loss of the original: of a second forward pass, after the update. It costs
        a third of the step. By default the loss of the gradient's own pass is recorded.

    Attributes
    ----------
    train_loss_list, train_acc_list, test_acc_list : lists of float
    history : list of dict
        For each finished epoch: ``epoch`` (from 1), ``iteration``, ``train_loss`` (mean over
        the epoch), ``train_accuracy`` and ``test_accuracy`` (None where not evaluated),
        ``learning_rate``, ``seconds`` (of the steps alone) and ``images_per_second``.
    current_iter, current_epoch, max_iter : int
    iter_per_epoch : float
    stopped : bool
        Whether `stop` ended the last `train`.

    Raises
    ------
    ArgumentError, ShapeError
        An unknown optimizer, a number out of range, sets of different lengths.
    """

    def __init__(
        self,
        network: Any,
        x_train: ArrayLike,
        t_train: ArrayLike,
        x_test: ArrayLike,
        t_test: ArrayLike,
        epochs: float = 20,
        mini_batch_size: int = 100,
        optimizer: Any = "SGD",
        optimizer_param: dict[str, Any] | None = None,
        evaluate_sample_num_per_epoch: int | None = None,
        verbose: bool = True,
        *,
        backend: str | None = None,
        seed: int | None = None,
        augment: Augment | None = None,
        evaluate: Literal["start", "end"] = "start",
        callbacks: Iterable[Callable[[Trainer, Record], Any]] = (),
        lr_schedule: Callable[[int], float] | None = None,
        progress: bool = False,
        reference_loss: bool = False,
    ) -> None:
        self.network = network
        self.x_train, self.t_train = _pair("training", x_train, t_train)
        self.x_test, self.t_test = _pair("test", x_test, t_test)
        if len(self.x_train) == 0:
            raise ShapeError("Trainer: the training set is empty")
        if evaluate not in ("start", "end"):
            raise ArgumentError(f"Trainer: evaluate must be 'start' or 'end', got {evaluate!r}")
        if epochs < 0:
            raise ArgumentError(f"Trainer: epochs must not be negative, got {epochs}")
        own = getattr(network, "backend", None)
        if backend is not None and own is not None and own != backend:
            raise ArgumentError(f"Trainer: backend={backend!r}, but the network is tied to {own!r}")
        self.epochs = epochs
        self.batch_size = as_int("Trainer", "mini_batch_size", mini_batch_size, 1)
        self.evaluate_sample_num_per_epoch = evaluate_sample_num_per_epoch
        self.verbose = verbose
        self.backend = backend
        self.evaluate = evaluate
        self.callbacks = tuple(callbacks)
        self.lr_schedule = lr_schedule
        self.progress = progress
        self.reference_loss = reference_loss
        if isinstance(optimizer, str):
            settings = {"lr": 0.01} if optimizer_param is None else optimizer_param
            self.optimizer = make_optimizer(optimizer, settings)
        else:
            self.optimizer = optimizer

        self.train_size = len(self.x_train)
        self.iter_per_epoch = max(self.train_size / self.batch_size, 1)
        self.max_iter = int(epochs * self.iter_per_epoch)
        self.current_iter = 0
        self.current_epoch = 0
        self.train_loss_list: list[float] = []
        self.train_acc_list: list[float] = []
        self.test_acc_list: list[float] = []
        self.history: list[Record] = []
        self.stopped = False
        self._generator = None if seed is None else np.random.default_rng(seed)
        self._batches = Batches(self.x_train, self.t_train, self.batch_size, augment, seed)
        self._evaluation: list[float | None] = [None, None]
        self._epoch_seconds = 0.0
        self._stop_requested = False
        self._told_second_pass = False

    # ---- the run ------------------------------------------------------------------

    def train(self) -> None:
        """Run the steps that are left, then print the accuracy on the whole test set."""
        self.stopped = self._stop_requested = False
        bar = ProgressBar(self.max_iter, self.current_iter, show=self.progress)
        with self._surroundings(), self._batches.ahead(self.max_iter), bar:
            while self.current_iter < self.max_iter and not self._stop_requested:
                self.train_step()
                bar.advance(self.images_per_second, self.train_loss_list[-1])
            self.stopped = self.current_iter < self.max_iter
            if self.verbose and not self.stopped and len(self.x_test):
                test_acc = self.network.accuracy(self.x_test, self.t_test)
                print("=============== Final Test Accuracy ===============")
                print("test acc:" + str(test_acc))

    def train_step(self) -> None:
        """Draw a batch, take its gradient, update; evaluate where an epoch begins or ends."""
        started = time.perf_counter()
        epoch = self._epoch_of(self.current_iter)
        first_step = epoch != self._epoch_of(self.current_iter - 1)
        if self.lr_schedule is not None:
            self.optimizer.lr = self.lr_schedule(self.current_iter)
        with self._surroundings():
            x_batch, t_batch = self._batches.take(self.current_iter)
            grads = self.network.gradient(x_batch, t_batch)
            loss = None if self.reference_loss else self._loss_of_gradient()
            self.optimizer.update(self.network.params, grads)
            if loss is None:
                loss = self.network.loss(x_batch, t_batch)
            self.train_loss_list.append(float(loss))
            if self.verbose:
                print("train loss:" + str(loss))
            self._epoch_seconds += time.perf_counter() - started
            if first_step:
                self.current_epoch = epoch + 1
                if self.evaluate == "start":
                    self._evaluate(self.evaluate_sample_num_per_epoch)
            self.current_iter += 1
            if self.current_iter == self.max_iter or self._epoch_of(self.current_iter) != epoch:
                self._finish_epoch()

    def stop(self) -> None:
        """Let a running `train` return after its current step; another `train` goes on."""
        self._stop_requested = True

    def _epoch_of(self, iteration: int) -> int:
        """Epoch, counted from 0, that a step belongs to.

        The first k epochs take int(k * iter_per_epoch) steps, as a run of k epochs does:
        a run that is continued for more epochs has the same ones as a longer run.
        """
        return ((iteration + 1) * self.batch_size - 1) // max(self.train_size, self.batch_size)

    def _loss_of_gradient(self) -> float | None:
        """The loss that the gradient's own forward pass left on the network, if it did."""
        last = getattr(self.network, "last_layer", getattr(self.network, "lastLayer", None))
        loss = getattr(last, "loss", None)
        if loss is None and not self._told_second_pass:
            self._told_second_pass = True
            warnings.warn(
                f"Trainer: {type(self.network).__name__} keeps no last_layer.loss, so the loss "
                "of each step takes a second forward pass",
                FallbackWarning,
                stacklevel=4,
            )
        return loss

    def _evaluate(self, test_samples: int | None) -> None:
        train_samples = self.evaluate_sample_num_per_epoch
        train_acc = self._accuracy(self.x_train, self.t_train, train_samples, self.train_acc_list)
        test_acc = self._accuracy(self.x_test, self.t_test, test_samples, self.test_acc_list)
        self._evaluation = [train_acc, test_acc]
        if self.verbose and (train_acc is not None or test_acc is not None):
            print(f"=== epoch:{self.current_epoch}, train acc:{train_acc}, test acc:{test_acc} ===")

    def _accuracy(
        self, x: NDArray[Any], t: NDArray[Any], samples: int | None, record: list[float]
    ) -> float | None:
        """Accuracy on the first samples, appended to `record`; None where there are none."""
        x, t = x[:samples], t[:samples]
        if len(x) == 0:
            return None
        record.append(float(self.network.accuracy(x, t)))
        return record[-1]

    def _finish_epoch(self) -> None:
        if self.evaluate == "end":
            self._evaluate(None)
        train_acc, test_acc = self._evaluation
        self.history.append(
            {
                "epoch": len(self.history) + 1,
                "iteration": self.current_iter,
                "train_loss": float(np.mean(self.train_loss_list[self._finished_steps() :])),
                "train_accuracy": train_acc,
                "test_accuracy": test_acc,
                "learning_rate": getattr(self.optimizer, "lr", None),
                "seconds": self._epoch_seconds,
                "images_per_second": self.images_per_second,
            }
        )
        self._epoch_seconds = 0.0
        self._evaluation = [None, None]
        for callback in self.callbacks:
            callback(self, self.history[-1])

    def _finished_steps(self) -> int:
        """Steps of the epochs that are in the history."""
        return self.history[-1]["iteration"] if self.history else 0

    @property
    def images_per_second(self) -> float:
        """Speed of the running epoch, or of the last where none runs; training steps alone."""
        if self.history and not self._epoch_seconds:
            return self.history[-1]["images_per_second"]
        steps = len(self.train_loss_list) - self._finished_steps()
        return steps * self.batch_size / self._epoch_seconds if self._epoch_seconds else 0.0

    @contextmanager
    def _surroundings(self) -> Iterator[None]:
        """The backend and the generator that this run asked for."""
        chosen = nullcontext() if self.backend is None else use_backend(self.backend)
        with chosen, randomness.own_generator(self._generator):
            yield

    # ---- checkpoints --------------------------------------------------------------

    def save_checkpoint(self, path: str | PathLike[str]) -> None:
        """Write everything that the rest of the run depends on, atomically.

        Parameters
        ----------
        path : path
            An ``.npz`` file.

        Raises
        ------
        StateError
            The optimizer has no ``state`` to save, or the run draws from NumPy's global
            generator, whose state is not the Trainer's to keep.
        """
        if not hasattr(self.optimizer, "state"):
            raise StateError(
                f"save_checkpoint: {type(self.optimizer).__name__} has no state() to save"
            )
        if self._generator is None:
            raise StateError("save_checkpoint: only a Trainer with a seed can be continued exactly")
        arrays = {f"params/{key}": value for key, value in self.network.params.items()}
        for key, value in self.optimizer.state().items():
            arrays[f"optimizer/{key}"] = value
        progress = {name: getattr(self, name) for name in _PROGRESS}
        save_arrays(
            path,
            arrays,
            {
                "optimizer": type(self.optimizer).__name__,
                "max_iter": self.max_iter,
                "generator": self._generator.bit_generator.state,
                "batch_seed": self._batches.seed,
                "progress": progress,
            },
        )

    def load_checkpoint(self, path: str | PathLike[str]) -> None:
        """Go back to where `save_checkpoint` was called; `train` then continues from there.

        The weights at the end are those of the run that was not interrupted, bit for bit, on
        the same machine with the same backend and number of threads.

        Raises
        ------
        DataNotFound, DataCorrupt
            No such file, or not a checkpoint.
        WeightsError
            The checkpoint of another network or optimizer, or with augmentation if this run
            has none, or the other way round.
        """
        if self._generator is None:
            raise StateError("load_checkpoint: only a Trainer with a seed can be continued exactly")
        arrays, metadata = load_arrays(path)
        if "progress" not in metadata or "generator" not in metadata:
            raise WeightsError(f"{path}: not a checkpoint of a Trainer")
        if metadata["optimizer"] != type(self.optimizer).__name__:
            raise WeightsError(
                f"{path}: a checkpoint of {metadata['optimizer']}, expected "
                f"{type(self.optimizer).__name__}"
            )
        batch_seed = self._batches.same_seed(metadata.get("batch_seed"), str(path))
        # Each of these takes everything or raises; the first try is on a copy, so that a
        # file refused by the second leaves nothing changed.
        copy.copy(self.optimizer).load_state(_under("optimizer/", arrays))
        self.network.set_params(_under("params/", arrays), source=str(path))
        self.optimizer.load_state(_under("optimizer/", arrays))
        self._generator.bit_generator.state = metadata["generator"]
        self._batches.seed = batch_seed
        for name in _PROGRESS:
            setattr(self, name, metadata["progress"][name])


_PROGRESS = (
    "current_iter",
    "current_epoch",
    "train_loss_list",
    "train_acc_list",
    "test_acc_list",
    "history",
    "_epoch_seconds",
    "_evaluation",
)


def _under(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}


def _pair(name: str, x: ArrayLike, t: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    x, t = as_array(x), as_array(t)
    if len(x) != len(t):
        raise ShapeError(f"Trainer: {len(x)} {name} samples but {len(t)} {name} labels")
    return x, t
