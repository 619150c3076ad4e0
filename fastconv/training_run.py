"""Train into a run folder, so that the run can be stopped, continued and looked at."""

from __future__ import annotations

import dataclasses
import inspect
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from . import config as process
from . import figures
from .averaging import EMA, SWA
from .errors import ArgumentError
from .evaluation import Evaluation, build_network, evaluate, load_data, try_to_draw
from .optimizer import OPTIMIZERS
from .run_folder import RunConfig, RunFolder
from .schedules import make_schedule
from .trainer import Record, Trainer

__all__ = ["Outcome", "continued_config", "train_run"]

TRAIN_SAMPLE = 1000
"""Training images whose accuracy is taken at the end of each epoch."""

STOPPING = b"\nstopping after this step; once more to stop at once without saving\n"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    stopped_by : int
        The signal that ended it early, after saving; 0 if none did.
    epochs : int
        Finished epochs.
    evaluation : Evaluation or None
        On the whole test set, where the run was not ended early.
    seconds : float
        Of the training steps alone, over all epochs.
    images_per_second : float
    """

    stopped_by: int
    epochs: int
    evaluation: Evaluation | None
    seconds: float
    images_per_second: float


def continued_config(
    stored: RunConfig, given: dict[str, Any], warn: Callable[[str], None]
) -> RunConfig:
    """Return the configuration with which to continue a run.

    Parameters
    ----------
    stored : RunConfig
        What the run was started with.
    given : dict
        Fields that the user names now.
    warn : callable
        Told where the end will not be, bit for bit, that of an uninterrupted run.

    Raises
    ------
    ArgumentError
        A field that would make it another run.
    """
    changed = {name: value for name, value in given.items() if value != getattr(stored, name)}
    for name, value in changed.items():
        before, option = getattr(stored, name), "--" + name.replace("_", "-")
        started = "without" if before is None else f"with {before}"
        if name == "epochs":
            if value < before:
                raise ArgumentError(
                    f"{option} {value}: the run was started for {before}; it can only be raised"
                )
            if stored.schedule != "constant":
                warn(
                    f"the {stored.schedule} schedule of {before} epochs is stretched over {value}: "
                    "the learning rate goes on where the longer one would be"
                )
        elif name in ("backend", "threads"):
            warn(
                f"continuing with {option} {value} instead of {before}: the weights will not be "
                "those of an uninterrupted run to the last bit"
            )
        # The data are checked by content, so their folder may have moved.
        elif name != "data_dir":
            raise ArgumentError(
                f"{option} {value}: the run to resume was started {started}; "
                "leave it out, or start another run"
            )
    return dataclasses.replace(stored, **changed)


def train_run(
    folder: RunFolder,
    config: RunConfig,
    *,
    resume: bool,
    progress: bool,
    say: Callable[[str], None],
) -> Outcome:
    """Train as `config` says, from the beginning or from the folder's checkpoint.

    Parameters
    ----------
    folder : RunFolder
        New or empty, or with `resume` that of the run to continue.
    config : RunConfig
    resume : bool
    progress : bool
        Show a bar on standard error.
    say : callable
        Told, in one line each, how the run goes.

    Returns
    -------
    Outcome
    """
    if not resume:
        folder.expect_new()
    options = regularisation(config)
    dataset, ((x_train, t_train), (x_test, t_test)) = load_data(config.data, config.data_dir)
    process.set_num_threads(config.threads)

    def after_epoch(trainer: Trainer, record: Record) -> None:
        folder.append_epoch(record)
        _save(folder, trainer)
        say(_epoch_line(record, config.epochs))

    trainer = Trainer(
        build_network(config),
        x_train,
        t_train,
        x_test,
        t_test,
        epochs=config.epochs,
        mini_batch_size=config.batch_size,
        optimizer=config.optimizer,
        **options,
        evaluate_sample_num_per_epoch=TRAIN_SAMPLE,
        verbose=False,
        backend=config.backend,
        seed=config.seed,
        evaluate="end",
        callbacks=[after_epoch],
        progress=progress,
    )
    trainer.lr_schedule = make_schedule(config.schedule, config.lr, trainer.max_iter)
    if resume:
        # A run that was stopped in its first steps has no checkpoint: its seed is enough.
        if folder.checkpoint.exists():
            trainer.load_checkpoint(folder.checkpoint)
        folder.write_config(config)
    else:
        folder.create(config)
    folder.write_history(trainer.history)
    if words := _regularisation_line(config):
        say(words)

    with _stop_on_signal(trainer) as caught:
        trainer.train()
    stopped_by = caught[0] if trainer.stopped else 0
    _save(folder, trainer)
    evaluation = None
    if trainer.finished and trainer.validation is not None and trainer.validation.best_epoch:
        say(f"kept: the weights of epoch {trainer.validation.best_epoch}, best on validation")
    if not stopped_by:  # who stops a run is not to wait for pictures of it
        title = f"{type(trainer.network).__name__} on {config.data}"
        curves = (trainer.train_loss_list, trainer.history, title)
        try_to_draw(say, figures.draw_curves, folder.curves, *curves)
        names = dataset.label_names
        evaluation = evaluate(trainer.network, x_test, t_test, len(names))
        answers = (x_test, evaluation.labels, evaluation.answers, names)
        try_to_draw(say, figures.draw_mistakes, folder.mistakes, *answers)
    seconds = sum(record["seconds"] for record in trainer.history)
    steps = trainer.history[-1]["iteration"] if trainer.history else 0
    speed = steps * config.batch_size / seconds if seconds else 0.0
    return Outcome(stopped_by, len(trainer.history), evaluation, seconds, speed)


def _save(folder: RunFolder, trainer: Trainer) -> None:
    trainer.save_checkpoint(folder.checkpoint)
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
        f"epoch {record['epoch']:{width}}/{epochs}  loss {record['train_loss']:.4f}  "
        f"accuracy: {', '.join(accuracies)}  "
        f"{record['seconds']:.1f} s, {record['images_per_second']:,.0f} images/s"
    )


def regularisation(config: RunConfig) -> dict[str, Any]:
    """Return what a Trainer is told of learning rate, weight decay, averages and validation.

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
    if config.patience is not None and config.validation is None:
        raise ArgumentError("--patience needs --validation: images by which to tell a better epoch")
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
        "clip_norm": config.clip_norm,
        "averaging": averaging,
        "validation": config.validation,
        "early_stopping": config.patience,
    }


def _takes_decay(make: type) -> bool:
    return "weight_decay" in inspect.signature(make).parameters


def _regularisation_line(config: RunConfig) -> str:
    """What of it is on, in words."""
    parts = {
        "weight decay {:g}": config.weight_decay,
        "label smoothing {:g}": config.label_smoothing or None,
        "gradients clipped at norm {:g}": config.clip_norm,
        "weights averaged with decay {:g}": config.ema,
        "weights averaged from epoch {} on": config.swa,
        "{:.3g} of the training images for validation": config.validation,
        "patience {}": config.patience,
    }
    return ", ".join(text.format(value) for text, value in parts.items() if value is not None)


@contextmanager
def _stop_on_signal(trainer: Trainer) -> Iterator[list[int]]:
    """Let the first Ctrl-C or SIGTERM finish the step, and the second end the process.

    Yields the list of signals that came.
    """
    caught: list[int] = []

    def stop(signum: int, frame: Any) -> None:
        caught.append(signum)
        for each in watched:
            signal.signal(each, signal.SIG_DFL)
        # Not print: the signal may have come in the middle of one.
        os.write(2, STOPPING)
        trainer.stop()

    watched = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(each, stop) for each in watched]
    try:
        yield caught
    finally:
        for each, handler in zip(watched, before, strict=True):
            signal.signal(each, handler)
