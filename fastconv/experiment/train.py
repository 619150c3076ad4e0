"""Train into a run folder, so that the run can be stopped, continued and inspected."""

from __future__ import annotations

import dataclasses
import inspect
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from .. import figures, selection
from ..datasets.record import ImageSet, Part, numbered
from ..errors import ArgumentError, BackendUnavailable, DataWarning, DivergenceError
from ..io.weights import load_for
from ..models.ensemble import Ensemble
from ..network.transfer import take_weights
from ..network.views import Views
from ..optimizer import OPTIMIZERS
from ..trainer import Record, Trainer
from ..training.augment import Augmentation
from ..training.averaging import EMA, SWA
from ..training.ranks import Ranks
from ..training.remarks import remarks_on_classes, remarks_on_numbers
from ..training.schedules import make_schedule
from ..training.validation import held_out
from .data import Data, ImageOptions
from .evaluate import Evaluation, draw_mistakes, evaluate, try_to_draw
from .folder import RunFolder, RunResult
from .networks import build_network
from .settings import RunConfig, account, expect_known, set_process

__all__ = ["ALONE", "Outcome", "build", "expect_sound", "prepare", "set_apart", "train_on"]

TRAIN_SAMPLE = 1000
"""Training images whose accuracy is measured at the end of each epoch."""

ALONE = Ranks()
"""A run of one process."""

STOPPING = b"\nstopping after this step; once more to stop at once without saving\n"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    stopped_by : int
        The signal that ended it early, after saving; 0 if none did.
    signal : int
        The signal that came, even if too late to end the run early; 0 if none came.
    epochs : int
        Finished epochs.
    evaluation : Evaluation or None
        On the whole test set, unless the run was ended early.
    seconds : float
        Of the training steps alone, over all epochs.
    images_per_second : float
    config : RunConfig
        With the facts of the images, if they are the user's own.
    diverged : int or None
        The first epoch with a loss that is not finite; None if there is none.
    sound : bool
        Whether the run has not diverged, or validation has kept the best epoch before.
    """

    stopped_by: int
    signal: int
    epochs: int
    evaluation: Evaluation | None
    seconds: float
    images_per_second: float
    config: RunConfig
    diverged: int | None
    sound: bool


def expect_sound(config: RunConfig) -> None:
    """Raise an `ArgumentError` if settings name something unknown, or do not go together.

    A math mode that the backend cannot compute in is a `BackendUnavailable`.
    """
    expect_known(config)
    if config.math == "bf16":  # the one that not all have
        backend = selection.registry().load(config.backend)
        if reason := backend.refuses(config.math):
            raise BackendUnavailable(reason)
    _told_to_trainer(config)
    make_schedule(config.schedule, config.lr, 1, config.rise)


def prepare(
    config: RunConfig, image_options: ImageOptions, *, progress: bool, say: Callable[[str], None]
) -> tuple[RunConfig, ImageSet]:
    """Set the process to a run's settings, and load its data.

    Returns the configuration with the facts of the images, and the images.
    """
    set_process(config)
    facts, images = Data(config.data).load(
        image_options,
        config.image_facts,
        data_dir=config.data_dir,
        seed=config.split_seed,
        progress=progress,
        say=say,
    )
    return dataclasses.replace(config, image_facts=facts), images


def train_on(
    data: ImageSet,
    folder: RunFolder,
    config: RunConfig,
    *,
    resume: bool,
    progress: bool,
    say: Callable[[str], None],
    before: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> Outcome:
    """Train as `config` says, from the beginning or from the folder's checkpoint.

    `config` and `data` are what `prepare` returns. The folder is held (`RunFolder.held`); with
    `resume` it has the run to continue. `progress` shows a bar on standard error, and `say` gets
    lines about the run's progress. `before` is called once the settings are known to be right, and
    before anything is written. Of several `ranks`, which train one network together, the first
    holds the folder, evaluates, and is the one that gets a whole outcome.
    """
    # A run that was stopped in its first steps has no checkpoint: the seed is enough.
    goes_on = ranks.of_first(lambda: resume and folder.checkpoint.exists())

    def after_epoch(trainer: Trainer, record: Record) -> None:
        if ranks.first:
            folder.append_epoch(record)
        if trainer.finite:  # else what the last epoch has saved stays
            _save(folder, trainer)
        if ranks.first:
            say(_epoch_line(record, config.epochs))

    trainer = build(
        data, config, after_epoch, anew=not goes_on, progress=progress, say=say, ranks=ranks
    )
    if goes_on:
        trainer.load_checkpoint(folder.checkpoint)
    trainer.begin()
    before()
    if ranks.first:
        folder.write_config(config)
        folder.write_history(trainer.history)
        if not goes_on:
            folder.write_initial(figures.first_filters(trainer.network))
        folder.result.unlink(missing_ok=True)
        folder.write_unreadable(data.unreadable)
    if words := account(config):
        say(words)
    with _stop_on_signal(trainer, say, ranks.first) as caught:
        trainer.train()
    caught = list(chain(*ranks.gathered(caught)))
    if trainer.finite:
        if trainer.stopped:
            _save(folder, trainer)
        elif ranks.first:  # a killed process may have kept the last checkpoint alone
            _save_weights(folder, trainer)
    return _report(trainer, data, folder, config, caught, ranks, progress=progress, say=say)


def set_apart(data: ImageSet, config: RunConfig) -> tuple[Part, Part | None]:
    """Return the images that a run learns from, and those that watch it, if there are such.

    The latter are the share of the training images that the run was told to set apart, by the
    run's seed or its ``data_seed``, or the data's own part.
    """
    train = data.train
    if config.validation is None:
        return train, data.validation
    chosen = held_out(train.labels, config.validation, config.split_seed)
    names = train.names or numbered("train", range(len(train)))
    left, apart = (
        Part(train.images[rows], train.labels[rows], [names[row] for row in rows.tolist()])
        for rows in (np.flatnonzero(~chosen), np.flatnonzero(chosen))
    )
    return left, apart


def build(
    data: ImageSet,
    config: RunConfig,
    after_epoch: Callable[[Trainer, Record], None],
    *,
    anew: bool,
    say: Callable[[str], None],
    progress: bool = False,
    ranks: Ranks = ALONE,
) -> Trainer:
    """Return the trainer of a run before its first step; with `anew`, with its initial weights.

    `after_epoch` is called as a callback; for the others see `train_on`.
    """
    options = _told_to_trainer(config)
    train, validation = set_apart(data, config)
    if config.patience is not None and validation is None:
        raise ArgumentError("--patience needs --validation: images by which to tell a better epoch")
    network = build_network(config)
    if config.init is not None and anew:
        found = load_for(config.init, network, partly=True)
        say(str(take_weights(network, found, config.init)))
    for remark in _remarks(data, config):
        say(remark)
    if config.freeze is not None:
        say(f"frozen: {', '.join(network.freeze(*config.freeze.split(',')))}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # said above, with the classes' names
        trainer = Trainer(
            network,
            train.images,
            train.labels,
            data.test.images,
            data.test.labels,
            epochs=config.epochs,
            mini_batch_size=config.batch_size,
            optimizer=config.optimizer,
            **options,
            validation=None if validation is None else (validation.images, validation.labels),
            evaluate_sample_num_per_epoch=TRAIN_SAMPLE,
            verbose=False,
            backend=config.backend,
            seed=config.seed,
            augment=None if config.augment is None else Augmentation.parse(config.augment),
            evaluate="end",
            callbacks=[after_epoch],
            progress=progress,
            distributed=ranks,
        )
    trainer.lr_schedule = make_schedule(config.schedule, config.lr, trainer.max_iter, config.rise)
    return trainer


def _report(
    trainer: Trainer,
    data: ImageSet,
    folder: RunFolder,
    config: RunConfig,
    signals: list[int],
    ranks: Ranks,
    *,
    progress: bool,
    say: Callable[[str], None],
) -> Outcome:
    """Test the network, draw the pictures and write the result, unless a signal stopped the run.

    The first rank does; but all of them go back to the last good epoch, where the run has diverged.
    """
    evaluation, kept = None, None
    diverged = trainer.diverged_epoch
    lost = not trainer.stopped and (not trainer.finished or not trainer.finite)
    losses, history = [*trainer.train_loss_list], [*trainer.history]
    if lost:
        diverged = diverged or len(history)
        _go_back(trainer, folder, diverged, ranks)
    # A user who stops a run should not wait for pictures.
    if ranks.first and not trainer.stopped:
        title = f"{type(trainer.network).__name__} on {Data(config.data).name}"
        kept = _kept(trainer, lost)
        try_to_draw(say, folder.curves, figures.curves, losses, history, title, kept)
        for line in _endings(trainer, diverged, lost):
            say(line)
        with trainer.final_weights():
            alone = Ensemble([trainer.network], Views.parse(config.views).views)
            evaluation = evaluate(alone, data, config.backend, progress)
        folder.write_mistakes(evaluation.mistakes)
        try_to_draw(say, folder.mistakes, draw_mistakes, evaluation, config.facts)
    seconds = sum(record["seconds"] for record in trainer.history)
    steps = trainer.history[-1]["iteration"] if trainer.history else 0
    outcome = Outcome(
        stopped_by=signals[0] if trainer.stopped else 0,
        signal=signals[0] if signals else 0,
        epochs=len(trainer.history),
        evaluation=evaluation,
        seconds=seconds,
        images_per_second=steps * config.batch_size / seconds if seconds else 0.0,
        config=config,
        diverged=diverged,
        sound=not lost or config.patience is not None,
    )
    if evaluation is not None:
        folder.write_result(
            RunResult(
                evaluation.accuracy,
                evaluation.correct,
                evaluation.total,
                seconds,
                outcome.epochs,
                outcome.images_per_second,
                diverged,
                kept,
                evaluation.by_class,
            )
        )
    return outcome


def _go_back(trainer: Trainer, folder: RunFolder, diverged: int, ranks: Ranks) -> None:
    """Bring a run that has diverged back to its last checkpoint.

    Raises
    ------
    DivergenceError
        It has none with weights that are finite.
    """
    if ranks.of_first(folder.checkpoint.exists):
        trainer.load_checkpoint(folder.checkpoint)
        if ranks.first:
            folder.write_history(trainer.history)
    if not trainer.finite:
        raise DivergenceError(
            f"the run has diverged in epoch {diverged}: its weights are NaN or infinite, and no "
            "epoch before is kept; a lower --lr is the first thing to try"
        )


def _kept(trainer: Trainer, lost: bool) -> int | None:
    """The epoch whose weights a run ends with, if it is not the last one."""
    if trainer.validation is not None and trainer.validation.best_epoch:
        return trainer.validation.best_epoch
    return len(trainer.history) if lost else None


def _remarks(data: ImageSet, config: RunConfig) -> Iterator[str]:
    """What should be known about the images before training."""
    parts = {"training": data.train, "validation": data.validation, "test": data.test}
    for name, part in parts.items():
        if part is not None:
            yield from remarks_on_numbers(name, part.images)
    if not config.balanced and config.class_weight is None:
        names, remedy = data.class_names, "--balanced, or --class-weight balanced"
        yield from remarks_on_classes(data.train.labels, remedy, lambda k: repr(names[k]))


def _endings(trainer: Trainer, diverged: int | None, lost: bool) -> Iterator[str]:
    """Lines about the weights that a run ends with."""
    if diverged is not None:
        yield (
            f"diverged: a loss of epoch {diverged} is no finite number; "
            "a lower --lr is the first thing to try"
        )
    if kept := _kept(trainer, lost):
        best = trainer.validation is not None and trainer.validation.best_epoch
        yield f"kept: the weights of epoch {kept}, {'best on validation' if best else 'the last'}"


def _save(folder: RunFolder, trainer: Trainer) -> None:
    trainer.save_checkpoint(folder.checkpoint)
    if trainer.ranks.first:
        _save_weights(folder, trainer)


def _save_weights(folder: RunFolder, trainer: Trainer) -> None:
    with trainer.final_weights():
        trainer.network.save_params(folder.weights)


def _epoch_line(record: Record, epochs: int) -> str:
    width = len(str(epochs))
    accuracies = [
        f"{name} {100 * record[f'{name}_accuracy']:6.2f} %"
        for name in ("train", "validation", "test")
        if record[f"{name}_accuracy"] is not None
    ]
    return (
        f"epoch {record['epoch']:{width}}/{epochs}  loss {record['train_loss']:z.4f}  "
        f"accuracy: {', '.join(accuracies)}  "
        f"{record['seconds']:.1f} s, {record['images_per_second']:,.0f} images/s"
    )


def _told_to_trainer(config: RunConfig) -> dict[str, Any]:
    """Return a Trainer's arguments for learning rate, weight decay, averages and validation.

    Raises
    ------
    ArgumentError
        Options that do not go together.
    """
    settings = {"lr": config.lr}
    if config.weight_decay is not None:
        takers = [name for name, make in OPTIMIZERS.items() if _takes_decay(make)]
        if config.optimizer not in takers:
            raise ArgumentError(
                f"--weight-decay: {config.optimizer} has none; {', '.join(takers)} have"
            )
        settings["weight_decay"] = config.weight_decay
    if config.gradients is not None:
        if config.dtype != "float32":
            raise ArgumentError(f"--gradients {config.gradients}: of --dtype float32 alone")
        if config.ranks == 1:
            raise ArgumentError(
                f"--gradients {config.gradients}: several processes send them, under mpiexec; "
                "one process, or one for each member, sends none"
            )
    averaging: EMA | SWA | None = None
    if config.ema is not None:
        averaging = EMA(config.ema)
    elif config.swa is not None:
        if config.swa > config.epochs:
            raise ArgumentError(f"--swa {config.swa}: the run ends with epoch {config.epochs}")
        averaging = SWA(config.swa)
    return {
        "optimizer_param": settings,
        "label_smoothing": config.label_smoothing,
        "class_weight": config.class_weight,
        "clip_norm": config.clip_norm,
        "averaging": averaging,
        "early_stopping": config.patience,
        "balanced": config.balanced,
        "sync_batchnorm": config.sync_batchnorm,
        "gradients": config.gradients,
    }


def _takes_decay(make: type) -> bool:
    return "weight_decay" in inspect.signature(make).parameters


@contextmanager
def _stop_on_signal(
    trainer: Trainer, say: Callable[[str], None], tells: bool
) -> Iterator[list[int]]:
    """Let the first Ctrl-C or SIGTERM finish the step, and the second end the process.

    Yields the list of signals that came. Only the main thread may set what a signal does: in
    another thread, signals stay with the program that called the command.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        say("not in the main thread: Ctrl-C and SIGTERM do what this program does with them")
        yield caught
        return

    def stop(signum: int, frame: Any) -> None:
        caught.append(signum)
        for each in watched:
            signal.signal(each, signal.SIG_DFL)
        # Not print: the signal may have come in the middle of a print.
        with suppress(OSError):
            os.write(2, STOPPING if tells else b"")
        trainer.stop()

    watched = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(each, stop) for each in watched]
    try:
        yield caught
    finally:
        for each, handler in zip(watched, before, strict=True):
            # None: the handler was not set by Python, which cannot set it back.
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
