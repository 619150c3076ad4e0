"""The book's Trainer (chapters 6 and 7), with what long runs need."""

from __future__ import annotations

import inspect
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import randomness
from .config import get_conv_algorithm, get_math_mode, launched
from .errors import ArgumentError, DataWarning, DivergenceWarning, FallbackWarning, ShapeError
from .geometry import as_int
from .layers import SoftmaxWithLoss
from .network.detached import Detached, layers_of
from .network.exclusive import exclusively
from .ops import expect_smoothing, expect_weights
from .optimizer import *  # noqa: F403
from .optimizer import __all__ as _optimizer_names
from .optimizer import make_optimizer
from .progress import ProgressBar
from .selection import active, instruction_set, use_backend
from .training.averaging import EMA, SWA, WeightAverage
from .training.batches import Augment, Batches
from .training.callbacks import Callback
from .training.checkpoint import Checkpoints
from .training.clipping import clip_gradients
from .training.groups import rate_factors
from .training.learned import all_finite, checksum, learned
from .training.ranks import Ranks
from .training.remarks import remarks_on_classes, remarks_on_numbers, remarks_on_scale
from .training.validation import samples, set_apart
from .training.weighting import ClassWeight, sample_weights
from .training.weights import RunWeights

# Scripts say `from common.trainer import *` and expect the optimizers with it.
__all__ = ["Record", "Trainer", *_optimizer_names]

Record = dict[str, Any]
"""One finished epoch; the keys are listed under `Trainer.history`."""


def _takes_weights(gradient: Callable[..., Any]) -> bool:
    return "sample_weight" in inspect.signature(gradient).parameters


class Trainer(Checkpoints):
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
        'SGD', 'Momentum', 'Nesterov', 'AdaGrad', 'RMSprop', 'Adam' or 'AdamW', in any case;
        or an object with ``update(params, grads)``.
    optimizer_param : dict, optional
        Settings of the optimizer; by default its own, such as a learning rate of 0.01 for SGD and
        0.001 for Adam.
    evaluate_sample_num_per_epoch : int, optional
        Evaluate on this many samples, the first of each set; None: on all.
    verbose : bool
        Print the lines of the book's Trainer, and with validation others beside them.
    backend : str, optional
        Runs the training on this backend.
    seed : int, optional
        Draw batches and dropout masks from a generator of the Trainer's own: the run can be
        repeated, and does not touch NumPy's global generator. None draws from the global
        generator, as the book does.
    augment : callable, optional
        ``augment(x, rng)`` returns what to train on instead of the samples x, such as
        `fastconv.Augmentation`. `train` calls it a step ahead, in a thread, if the kernels'
        threads leave a CPU free.
    evaluate : 'start' or 'end'
        'start' evaluates at the first step of each epoch, as the book does. 'end' evaluates
        after the last step of each epoch, always on the whole test set;
        `evaluate_sample_num_per_epoch` then counts training samples alone (0: none).
    callbacks : iterable of Callback
        Called as ``callback(trainer, record)`` at the end of each epoch; see
        `fastconv.training.callbacks`, which also has logs.
    lr_schedule : callable, optional
        ``lr_schedule(iteration)``, counted from 0, gives the learning rate of each step.
    progress : bool
        Show a bar on standard error, with images per second and loss.
    reference_loss : bool
        Record the loss of a second forward pass, after the update, as the book does. It costs
        a third of the step. By default the loss of the gradient's own pass is recorded.
    lr_factors : mapping of str to float, optional
        Factors on the learning rate by patterns (`fnmatch`) of parameters' names, such as
        ``{"W1": 0, "W*": 0.1}``; the first pattern that matches decides, 0 freezes.
    label_smoothing : float, optional
        Set on the network's last layer, a `SoftmaxWithLoss`; None leaves it as it is.
    clip_norm : float, optional
        Scale the gradients of each step down to this global norm if theirs is larger.
    averaging : EMA or SWA, optional
        Evaluate averages of the weights, and end with them.
    validation : float or (x, t), optional
        Samples on which ``network.predict`` is evaluated after each epoch: a share of each class
        of the training set, drawn by the seed and not trained on; or separate samples.
    early_stopping : int, optional
        End the run after so many epochs in a row without a better accuracy (or an equal one
        with a lower loss) on the validation samples, with the weights of the best epoch.
    class_weight : 'balanced', dict or sequence, optional
        Weights of the classes in the training loss, a weighted mean: a dict by class, 1 where it
        has none; or one for each class. 'balanced' gives each class the same sum of weights.
    sample_weight : array (N,), optional
        Weights of the training samples, times those of their classes. Validation and test count
        each sample once.
    balanced : bool
        Draw samples of each class equally often, whatever the sizes of the classes.
    distributed : fastconv.distributed.DataParallel, optional
        The processes that train this network together, each of which makes the same Trainer.
        Each computes a share of every batch. Callbacks are called on all of them; the first
        prints, and writes checkpoints. It needs a `seed`.
    sync_batchnorm : bool
        Let batch normalisation take the statistics of the whole batch on several processes, as
        one process does; else each normalises by its share. Costs two messages for each such
        layer and step.
    gradients : 'bfloat16', optional
        Send gradients between several processes in 16 bits, half of the bytes. What rounding
        keeps back is added to the next step's. For networks of float32.

    Attributes
    ----------
    train_loss_list, train_acc_list, test_acc_list : lists of float
    history : list of dict
        For each finished epoch: ``epoch`` (from 1), ``iteration``, ``train_loss`` (mean over
        the epoch), ``train_accuracy``, ``validation_accuracy``, ``validation_loss`` and
        ``test_accuracy`` (None where not evaluated), ``gradient_norm`` (mean before clipping,
        None without), ``learning_rate``, ``seconds`` (of the steps alone) and
        ``images_per_second``.
    current_iter, current_epoch, max_iter : int
    iter_per_epoch : float
    stopped : bool
        Whether `stop` ended the last `train`.
    diverged : bool
        Whether the last step's loss and the weights are NaN or infinite: `train` then stops.
    ranks : Ranks
        The processes that train together. A callback that writes does so where ``ranks.first``.
    validation : Validation or None
        Its ``best_epoch`` is the one whose weights early stopping keeps.

    Raises
    ------
    ArgumentError, ShapeError
        An unknown optimizer, a number out of range, samples and labels of different number, a
        pattern that matches no parameter, early stopping without validation.
    """

    # On the class, since pickles of earlier versions lack them.
    ranks = Ranks()
    sync_batchnorm = False
    gradients: Literal["bfloat16"] | None = None
    _begun = False

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
        callbacks: Iterable[Callback] = (),
        lr_schedule: Callable[[int], float] | None = None,
        progress: bool = False,
        reference_loss: bool = False,
        lr_factors: Mapping[str, float] | None = None,
        label_smoothing: float | None = None,
        clip_norm: float | None = None,
        averaging: EMA | SWA | None = None,
        validation: float | tuple[ArrayLike, ArrayLike] | None = None,
        early_stopping: int | None = None,
        class_weight: ClassWeight | None = None,
        sample_weight: ArrayLike | None = None,
        balanced: bool = False,
        distributed: Ranks | None = None,
        sync_batchnorm: bool = False,
        gradients: Literal["bfloat16"] | None = None,
    ) -> None:
        self.network = network
        if distributed is not None:
            self.ranks = distributed
        elif launched().size > 1 and launched().rank == 0 and "mpi4py" not in sys.modules:
            warnings.warn(
                f"Trainer: a launcher has started {launched().size} processes, and each trains by "
                "itself; distributed=fastconv.distributed.DataParallel() lets them train together",
                FallbackWarning,
                stacklevel=2,
            )
        if self.ranks.size > 1 and seed is None:
            raise ArgumentError("Trainer: distributed needs a seed, by which all ranks draw alike")
        training: tuple[NDArray[Any], ...] = samples("training", x_train, t_train)
        self.x_test, self.t_test = samples("test", x_test, t_test)
        if len(training[0]) == 0:
            raise ShapeError("Trainer: the training set is empty")
        if sample_weight is not None:
            training += (expect_weights("Trainer", sample_weight, len(training[0])),)
        training, self.validation = set_apart(
            network, training, validation, patience=early_stopping, seed=seed
        )
        self.x_train, self.t_train, *own_weights = training
        given = own_weights[0] if own_weights else None
        if balanced and isinstance(class_weight, str):
            raise ArgumentError(
                "Trainer: classes balanced twice, so that small ones would count more than large: "
                "balanced draws them equally often, class_weight evens their weights; choose one"
            )
        weights = sample_weights(self.t_train, class_weight, given)
        if weights is not None and not _takes_weights(network.gradient):
            raise ArgumentError(
                f"Trainer: {type(network).__name__}.gradient takes no sample_weight, which weights "
                "of samples or classes need"
            )
        if evaluate not in ("start", "end"):
            raise ArgumentError(f"Trainer: evaluate must be 'start' or 'end', got {evaluate!r}")
        if epochs < 0:
            raise ArgumentError(f"Trainer: epochs must not be negative, got {epochs}")
        own = getattr(network, "backend", None)
        if backend is not None and own is not None and own != backend:
            raise ArgumentError(f"Trainer: backend={backend!r}, but the network is tied to {own!r}")
        if clip_norm is not None and not 0 < clip_norm < math.inf:
            raise ArgumentError(f"Trainer: clip_norm must be greater than 0, got {clip_norm}")
        self.clip_norm = clip_norm
        self.sync_batchnorm = sync_batchnorm
        if gradients not in (None, "bfloat16"):
            raise ArgumentError(f"Trainer: gradients must be 'bfloat16' or None, got {gradients!r}")
        self.gradients = gradients
        self._unsent = None if gradients is None else self.ranks.unsent(network.params)
        self.epochs = epochs
        self.batch_size = as_int("Trainer", "mini_batch_size", mini_batch_size, 1)
        self.evaluate_sample_num_per_epoch = evaluate_sample_num_per_epoch
        self.verbose = verbose and self.ranks.first
        self.backend = backend
        self.evaluate = evaluate
        self.callbacks = tuple(callbacks)
        self.lr_schedule = lr_schedule
        self.progress = progress and self.ranks.first
        self.reference_loss = reference_loss
        if isinstance(optimizer, str):
            self.optimizer = make_optimizer(optimizer, optimizer_param or {})
        else:
            self.optimizer = optimizer
        if lr_factors is not None:
            if not hasattr(self.optimizer, "lr_factors"):
                raise ArgumentError(f"Trainer: {type(optimizer).__name__} takes no lr_factors")
            names = network.params
            self.optimizer.lr_factors = rate_factors("Trainer: lr_factors", lr_factors, names)
        if label_smoothing is not None:
            expect_smoothing("Trainer", label_smoothing)
            if not hasattr(self._last_layer, "label_smoothing"):
                raise ArgumentError("Trainer: the network's last layer takes no label_smoothing")
            self._last_layer.label_smoothing = label_smoothing

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
        share = self.ranks.share(self.batch_size)
        self._batches = Batches(
            self.x_train,
            self.t_train,
            self.batch_size,
            augment,
            seed,
            weights=weights,
            balanced=balanced,
            share=share,
        )
        self._evaluation: list[float | None] = [None, None]
        self._epoch_seconds = 0.0
        self._epoch_norms: list[float] = []
        self._stop_requested = False
        self._told_second_pass = False
        self._told_divergence = False
        self._detached = Detached()
        average = None if averaging is None else WeightAverage(averaging)
        whole = self._epoch_of(self.max_iter - 1) + 1
        if isinstance(averaging, SWA) and averaging.start_epoch > whole:
            raise ArgumentError(f"Trainer: {averaging} in a run of {whole} epochs averages nothing")
        self._weights = RunWeights(network, average, self.validation)
        if self.ranks.first:
            for remark in self._remarks():
                warnings.warn(f"Trainer: {remark}", DataWarning, stacklevel=2)

    def __repr__(self) -> str:
        steps = f"step {self.current_iter:,} of {self.max_iter:,}"
        samples = f"{len(self.x_train):,} samples"
        return f"{type(self).__name__}({self.network!r}, {samples}, {self.optimizer!r}, {steps})"

    def _remarks(self) -> Iterator[str]:
        """What should be known about the samples before the first step."""
        parts = {"training": self.x_train, "test": self.x_test}
        if self.validation is not None:
            parts["validation"] = self.validation.x
        for name, x in parts.items():
            yield from remarks_on_numbers(name, x)
        yield from remarks_on_scale(self.x_train)
        evened = self._batches.balanced or self._batches.weights is not None
        if isinstance(self._last_layer, SoftmaxWithLoss) and not evened:
            yield from remarks_on_classes(self.t_train, "balanced=True, or class_weight='balanced'")

    # ---- the run ------------------------------------------------------------------

    def train(self) -> None:
        """Run the steps that are left, then print the accuracy on the whole test set.

        The network then has the averaged weights, or those of the best epoch, if the run has
        either. Training that goes on starts from the trained weights. A run whose weights have
        become NaN or infinite stops, with a `DivergenceWarning`.
        """
        self.stopped = self._stop_requested = False
        bar = ProgressBar(self.max_iter, self.current_iter, show=self.progress)
        self.begin()
        with (
            self._surroundings(),
            self._batches.ahead(self.max_iter),
            self.ranks.running(),
            bar,
        ):
            while not (self.finished or self.ranks.any(self._stop_requested or self.diverged)):
                self.train_step()
                bar.advance(self.images_per_second, self.train_loss_list[-1])
            diverged = self.ranks.any(self.diverged)
            self.stopped = not self.finished and not diverged
            if not self.stopped:
                self._weights.finish()
                self._say_what_is_kept()
            if self.verbose and not self.stopped and len(self.x_test) and self.finite:
                test_acc = self.network.accuracy(self.x_test, self.t_test)
                print("=============== Final Test Accuracy ===============")
                print("test acc:" + str(test_acc))

    def train_step(self) -> None:
        """Draw a batch, take its gradient, update; evaluate if an epoch begins or ends."""
        self.begin()
        started = time.perf_counter()
        epoch = self._epoch_of(self.current_iter)
        first_step = epoch != self._epoch_of(self.current_iter - 1)
        if self.lr_schedule is not None:
            self.optimizer.lr = self.lr_schedule(self.current_iter)
        with self._surroundings():
            x_batch, t_batch, *weights = self._batches.take(self.current_iter)
            weighted = {"sample_weight": weights[0]} if weights else {}
            whole = self.batch_size, weights[0] if weights else None
            self._weights.before_step()
            with self.ranks.computing(self.network, *whole, self.sync_batchnorm, self._unsent):
                grads = self.network.gradient(x_batch, t_batch, **weighted)
            loss = None if self.reference_loss else self._loss_of_gradient()
            grads, loss = self.ranks.averaged(self.network, grads, loss, self.batch_size)
            if self.clip_norm is not None:
                grads = self._clipped(grads, self.clip_norm)
            self._update(grads)
            self._weights.after_step()
            if loss is None:
                with self.ranks.computing(self.network, *whole, self.sync_batchnorm):
                    second: float = self.network.loss(x_batch, t_batch, **weighted)
                loss = self.ranks.averaged(self.network, {}, second, self.batch_size)[1]
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
        if not self._told_divergence and not math.isfinite(self.train_loss_list[-1]):
            self._told_divergence = True
            # All ranks are here, since the loss is theirs together.
            self._tell_divergence(epoch + 1, self.ranks.any(not np.isfinite(x_batch).all()))

    def begin(self) -> None:
        """Let the ranks agree on settings, data and weights; `train` does so before its first step.

        Raises
        ------
        ArgumentError
            A rank differs; raised on all.
        """
        if not self._begun:
            self._begun = True
            self.ranks.begin(self.network, self._settings, self.sync_batchnorm)

    def _settings(self) -> dict[str, str]:
        """What has to be the same on all ranks, in words."""
        with self._surroundings():
            backend = active(None).name
        sets: dict[str, tuple[NDArray[Any], ...]] = {
            "training": (self.x_train, self.t_train),
            "test": (self.x_test, self.t_test),
        }
        if self._batches.weights is not None:
            sets["training"] += (self._batches.weights,)
        if self.validation is not None:
            sets["validation"] = self.validation.x, self.validation.t
        plain = bool | int | float | str
        optimizer = {
            name: value for name, value in vars(self.optimizer).items() if isinstance(value, plain)
        }
        words = {
            "backend": backend,
            "instruction set": instruction_set(backend),
            "math mode": get_math_mode(),
            "convolution algorithm": get_conv_algorithm(),
            "network": type(self.network).__name__,
            "optimizer": f"{type(self.optimizer).__name__} {optimizer}",
            "step": self.current_iter,
            **{
                f"{name} samples": f"{len(arrays[0])} of checksum {checksum(*arrays):08x}"
                for name, arrays in sets.items()
            },
            **{name: getattr(self, name) for name in ("epochs", "batch_size", "evaluate")},
            **{name: getattr(self, name) for name in ("clip_norm", "reference_loss", "gradients")},
            "seed": self._generator and self._generator.bit_generator.state["state"]["state"],
            "early_stopping": self.validation and self.validation.patience,
            "averaging": self._weights.average and self._weights.average.rule,
            "label_smoothing": getattr(self._last_layer, "label_smoothing", None),
            "balanced": self._batches.balanced,
            "sync_batchnorm": self.sync_batchnorm,
            "augment": type(self._batches.augment).__name__,
            "lr_schedule": type(self.lr_schedule).__name__,
        }
        return {name: str(value) for name, value in words.items()}

    def _tell_divergence(self, epoch: int, lost_input: bool) -> None:
        """Warn that the run has diverged, after the step, which an error then leaves whole."""
        if not self.ranks.first:
            return
        rate = getattr(self.optimizer, "lr", None)
        cause = "a learning rate that is too large" + ("" if rate is None else f" (it is {rate})")
        if lost_input:
            cause = "input that is NaN or infinite"
        ending = "The weights are finite, and the run goes on"
        if self.diverged:
            ending = "The weights are NaN or infinite and stay so: the run stops"
            if self.last_checkpoint is None:
                ending += ". It has saved no checkpoint before"
            else:
                ending += ". The last checkpoint before is {}, of step {}".format(
                    *self.last_checkpoint
                )
            if self.validation is not None and self.validation.best_epoch:
                ending += f". It ends with the weights of epoch {self.validation.best_epoch}"
        warnings.warn(
            f"Trainer: the run has diverged: the loss of step {self.current_iter}, in epoch "
            f"{epoch}, is {self.train_loss_list[-1]}; the likely cause is {cause}. {ending}",
            DivergenceWarning,
            stacklevel=4,
        )

    def _say_what_is_kept(self) -> None:
        """Print how early stopping has ended, after a verbose run."""
        validation = self.validation
        if not self.verbose or validation is None or not validation.best_epoch:
            return
        if validation.exhausted:
            print(f"early stopping: no better epoch in {validation.patience}")
        print(f"kept: the weights of epoch {validation.best_epoch}, best on validation")

    def _update(self, grads: Mapping[str, Any]) -> None:
        """Let the optimizer take its step, after a check that the last one reached the layers."""
        self._detached.before_update(self.network)
        self.optimizer.update(self.network.params, grads)

    def _clipped(self, grads: Mapping[str, Any], limit: float) -> Mapping[str, Any]:
        """Return the trained parameters' gradients, clipped; record their norm."""
        factors = getattr(self.optimizer, "lr_factors", {})
        trained = {key: grads[key] for key in self.network.params if factors.get(key, 1)}
        clipped, norm = clip_gradients(trained, limit)
        self._epoch_norms.append(norm)
        return clipped

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or early stopping has ended the run."""
        exhausted = self.validation is not None and self.validation.exhausted
        return exhausted or self.current_iter >= self.max_iter

    @property
    def diverged(self) -> bool:
        """Whether the last step's loss and the weights are NaN or infinite."""
        losses = self.train_loss_list
        return bool(losses) and not math.isfinite(losses[-1]) and not self.finite

    @property
    def diverged_epoch(self) -> int | None:
        """The first epoch, from 1, with a loss that is NaN or infinite, or None."""
        if not self.train_loss_list:
            return None
        steps = np.flatnonzero(~np.isfinite(self.train_loss_list))
        return self._epoch_of(int(steps[0])) + 1 if len(steps) else None

    @property
    def finite(self) -> bool:
        """Whether all numbers that the network has learned are finite."""
        return all_finite(learned(self.network))

    def final_weights(self) -> AbstractContextManager[None]:
        """Inside the block the network has the weights with which the run would end now.

        With early stopping those of the best epoch so far, else the averages, else the trained
        ones. Inside, evaluate and save them; do not train.
        """
        return self._weights.final()

    def stop(self) -> None:
        """Let a running `train` return after its current step; calling `train` again goes on."""
        self._stop_requested = True

    def _epoch_of(self, iteration: int) -> int:
        """Return the epoch, from 0, of a step.

        The first k epochs take int(k * iter_per_epoch) steps, like a run of k epochs: a run
        that is continued has the same epochs as one that was longer from the start.
        """
        return ((iteration + 1) * self.batch_size - 1) // max(self.train_size, self.batch_size)

    @property
    def _last_layer(self) -> Any:
        return getattr(self.network, "last_layer", getattr(self.network, "lastLayer", None))

    def _loss_of_gradient(self) -> float | None:
        """Return the loss that the gradient's forward pass left on the network, or None."""
        loss = getattr(self._last_layer, "loss", None)
        if loss is None and not self._told_second_pass and self.ranks.first:
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
        train = self.x_train, self.t_train, train_samples, self.train_acc_list
        with self._weights.evaluated():
            train_acc = self._accuracy(*train)
            test_acc = self._accuracy(self.x_test, self.t_test, test_samples, self.test_acc_list)
        self._evaluation = [train_acc, test_acc]
        if self.verbose and (train_acc is not None or test_acc is not None):
            print(f"=== epoch:{self.current_epoch}, train acc:{train_acc}, test acc:{test_acc} ===")

    def _accuracy(
        self, x: NDArray[Any], t: NDArray[Any], samples: int | None, record: list[float]
    ) -> float | None:
        """Append the accuracy on the first samples to `record`, and return it; None without any."""
        x, t = x[:samples], t[:samples]
        if len(x) == 0:
            return None
        record.append(self.ranks.accuracy(self.network, x, t))
        return record[-1]

    def _finish_epoch(self) -> None:
        epoch = len(self.history) + 1
        self._weights.after_epoch(epoch)
        self.ranks.compare(f"after epoch {epoch}", learned(self.network), self._generator)
        if self.evaluate == "end":
            self._evaluate(None)
        validated: tuple[float | None, float | None] = None, None
        if self.validation is not None:
            with self._weights.evaluated():
                validated = self.validation.measure(self.network, self.ranks)
                self.validation.note(self.network, *validated)
            if self.verbose:
                accuracy, loss = validated
                print(f"validation acc:{accuracy}, validation loss:{loss}")
        train_acc, test_acc = self._evaluation
        self.history.append(
            {
                "epoch": epoch,
                "iteration": self.current_iter,
                "train_loss": float(np.mean(self.train_loss_list[self._finished_steps() :])),
                "train_accuracy": train_acc,
                "validation_accuracy": validated[0],
                "validation_loss": validated[1],
                "test_accuracy": test_acc,
                "gradient_norm": float(np.mean(self._epoch_norms)) if self._epoch_norms else None,
                "learning_rate": getattr(self.optimizer, "lr", None),
                "seconds": self._epoch_seconds,
                "images_per_second": self.images_per_second,
            }
        )
        self._epoch_seconds = 0.0
        self._epoch_norms = []
        self._evaluation = [None, None]
        for callback in self.callbacks:
            callback(self, self.history[-1])

    def _finished_steps(self) -> int:
        """Number of steps in finished epochs."""
        return self.history[-1]["iteration"] if self.history else 0

    @property
    def images_per_second(self) -> float:
        """Speed of the running epoch, or of the last one; training steps alone."""
        if self.history and not self._epoch_seconds:
            return self.history[-1]["images_per_second"]
        steps = len(self.train_loss_list) - self._finished_steps()
        return steps * self.batch_size / self._epoch_seconds if self._epoch_seconds else 0.0

    @contextmanager
    def _surroundings(self) -> Iterator[None]:
        """Inside the block: the run's backend and generator, and its network for itself."""
        chosen = nullcontext() if self.backend is None else use_backend(self.backend)
        with (
            exclusively("Trainer", [self.network, self.optimizer, *layers_of(self.network)]),
            chosen,
            randomness.own_generator(self._generator),
        ):
            yield
