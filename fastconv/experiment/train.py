"""Train into a run folder, so that the run can be stopped, continued and looked at."""

from __future__ import annotations

import dataclasses
import inspect
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from .. import config as process
from ..datasets import DATASETS
from ..datasets.record import ImageSet
from ..errors import ArgumentError
from ..io import load_params
from ..models import MODELS
from ..models.ensemble import Ensemble
from ..network.transfer import take_weights
from ..network.views import Views
from ..optimizer import OPTIMIZERS
from ..trainer import Record, Trainer
from ..training.augment import Augmentation
from ..training.averaging import EMA, SWA
from ..training.schedules import make_schedule
from . import figures
from .data import ImageOptions, data_name, find, image_facts, load_for_training
from .evaluate import Evaluation, build_network, evaluate, mistakes_drawer, try_to_draw
from .folder import RunConfig, RunFolder, RunResult

__all__ = ["Outcome", "continued_config", "expect_sound", "prepare", "train_on", "train_run"]

TRAIN_SAMPLE = 1000
"""Training images whose accuracy is taken at the end of each epoch."""

TAKEN_BY_DEFAULT = ImageOptions()

COMPUTED_WITH = {
    "backend": "--backend",
    "threads": "--threads",
    "math": "--math",
    "isa": "instruction set",
    "algorithm": "convolution algorithm",
}
"""What may change when a run goes on, though its last bits do, by the fields of a `RunConfig`."""

STOPPING = b"\nstopping after this step; once more to stop at once without saving\n"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    stopped_by : int
        The signal that ended it early, after saving; 0 if none did.
    signal : int
        The signal that came, be it too late to end anything early; 0 if none did.
    epochs : int
        Finished epochs.
    evaluation : Evaluation or None
        On the whole test set, where the run was not ended early.
    seconds : float
        Of the training steps alone, over all epochs.
    images_per_second : float
    config : RunConfig
        With what was found of the images, where they are the user's own.
    diverged : int or None
        The first epoch with a loss that is no finite number; None without one.
    sound : bool
        Whether the weights that it ended with are finite numbers.
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
        elif name in COMPUTED_WITH:
            if value is None or (before is None and name != "math"):
                continue  # one of them is not known
            option = COMPUTED_WITH[name]
            instead = "what it was started with" if before is None else before
            warn(
                f"continuing with {option} {value} instead of {instead}: the weights will not be "
                "those of an uninterrupted run to the last bit"
            )
        # The data are checked by content, so their folder may have moved; views teach nothing.
        elif name not in ("data_dir", "views") and (
            name != "data" or {value, before} & DATASETS.keys()
        ):
            raise ArgumentError(
                f"{option} {value}: the run to resume was started {started}; "
                "leave it out, or start another run"
            )
    return dataclasses.replace(stored, **changed)


def expect_sound(config: RunConfig) -> None:
    """Raise an `ArgumentError` where settings name what there is not, or do not go together."""
    for model in config.members or (config.model,):
        find("model", model, MODELS)
    find("optimizer", config.optimizer, OPTIMIZERS)
    regularisation(config)
    make_schedule(config.schedule, config.lr, 1, config.rise)
    if config.augment is not None:
        Augmentation.parse(config.augment)
    Views.parse(config.views)


def train_run(
    folder: RunFolder,
    config: RunConfig,
    *,
    resume: bool,
    progress: bool,
    say: Callable[[str], None],
    image_options: ImageOptions = TAKEN_BY_DEFAULT,
) -> Outcome:
    """Train as `config` says, from the beginning or from the folder's checkpoint.

    Parameters
    ----------
    folder : RunFolder
        Held (`RunFolder.held`); with `resume` that of the run to continue.
    config : RunConfig
    resume : bool
    progress : bool
        Show a bar on standard error.
    say : callable
        Told, in one line each, how the run goes.
    image_options : ImageOptions
        How images of the user's own are to be taken.

    Returns
    -------
    Outcome
    """
    config, data = prepare(config, image_options, progress=progress, say=say)
    return train_on(data, folder, config, resume=resume, progress=progress, say=say)


def prepare(
    config: RunConfig, image_options: ImageOptions, *, progress: bool, say: Callable[[str], None]
) -> tuple[RunConfig, ImageSet]:
    """Set the process to a run's settings, and load its data.

    Returns the configuration with what was found of the images, and the images.
    """
    process.set_num_threads(config.threads)
    process.set_math_mode(config.math)
    return load_for_training(config, image_options, progress=progress, say=say)


def train_on(
    data: ImageSet,
    folder: RunFolder,
    config: RunConfig,
    *,
    resume: bool,
    progress: bool,
    say: Callable[[str], None],
    before: Callable[[], None] = lambda: None,
) -> Outcome:
    """Do as `train_run`, on data that `prepare` has loaded.

    The folder is held already. `before` is called where nothing can be wrong with the settings
    any more, and nothing is written yet.
    """
    options = regularisation(config)
    if config.validation is None and data.validation is not None:
        options["validation"] = data.validation.images, data.validation.labels
    if config.patience is not None and options["validation"] is None:
        raise ArgumentError("--patience needs --validation: images by which to tell a better epoch")

    def after_epoch(trainer: Trainer, record: Record) -> None:
        folder.append_epoch(record)
        _save(folder, trainer)
        say(_epoch_line(record, config.epochs))

    network = build_network(config)
    if config.init is not None and not (resume and folder.checkpoint.exists()):
        say(str(take_weights(network, load_params(config.init), config.init)))
    if config.freeze is not None:
        say(f"frozen: {', '.join(network.freeze(*config.freeze.split(',')))}")
    trainer = Trainer(
        network,
        data.train.images,
        data.train.labels,
        data.test.images,
        data.test.labels,
        epochs=config.epochs,
        mini_batch_size=config.batch_size,
        optimizer=config.optimizer,
        **options,
        evaluate_sample_num_per_epoch=TRAIN_SAMPLE,
        verbose=False,
        backend=config.backend,
        seed=config.seed,
        augment=None if config.augment is None else Augmentation.parse(config.augment),
        evaluate="end",
        callbacks=[after_epoch],
        progress=progress,
    )
    trainer.lr_schedule = make_schedule(config.schedule, config.lr, trainer.max_iter, config.rise)
    # A run that was stopped in its first steps has no checkpoint: its seed is enough.
    if resume and folder.checkpoint.exists():
        trainer.load_checkpoint(folder.checkpoint)
    before()
    folder.write_config(config)
    folder.write_history(trainer.history)
    folder.result.unlink(missing_ok=True)
    folder.write_unreadable(data.unreadable)
    if words := _regularisation_line(config):
        say(words)

    with _stop_on_signal(trainer, say) as caught:
        trainer.train()
    stopped_by = caught[0] if trainer.stopped else 0
    _save(folder, trainer)
    evaluation = None
    for line in _endings(trainer):
        say(line)
    if not stopped_by:  # who stops a run is not to wait for pictures of it
        title = f"{type(trainer.network).__name__} on {data_name(config.data)}"
        curves = (trainer.train_loss_list, trainer.history, title)
        try_to_draw(say, figures.draw_curves, folder.curves, *curves)
        names, test = data.class_names, data.test
        evaluation = evaluate(
            Ensemble([trainer.network], Views.parse(config.views).views),
            test.images,
            test.labels,
            backend=config.backend,
            progress=progress,
        )
        answers = (test.images, evaluation.labels, evaluation.answers, names)
        try_to_draw(say, mistakes_drawer(image_facts(config)), folder.mistakes, *answers)
    seconds = sum(record["seconds"] for record in trainer.history)
    steps = trainer.history[-1]["iteration"] if trainer.history else 0
    speed = steps * config.batch_size / seconds if seconds else 0.0
    epochs = len(trainer.history)
    diverged = trainer.diverged_epoch
    if evaluation is not None:
        counted = (evaluation.accuracy, evaluation.correct, evaluation.total)
        folder.write_result(RunResult(*counted, seconds, epochs, speed, diverged))
    came = caught[0] if caught else 0
    sound = trainer.finite
    return Outcome(stopped_by, came, epochs, evaluation, seconds, speed, config, diverged, sound)


def _endings(trainer: Trainer) -> Iterator[str]:
    """What there is to say of the weights that a finished run ends with."""
    if not trainer.finished:
        return
    best = trainer.validation.best_epoch if trainer.validation is not None else 0
    if trainer.diverged_epoch is not None:
        yield (
            f"diverged: a loss of epoch {trainer.diverged_epoch} is no finite number; "
            "a lower --lr is the first thing to try"
        )
        if not trainer.finite:
            yield "kept: weights that are NaN or infinite, since no epoch before was to be kept"
            return
    if best:
        yield f"kept: the weights of epoch {best}, best on validation"


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
def _stop_on_signal(trainer: Trainer, say: Callable[[str], None]) -> Iterator[list[int]]:
    """Let the first Ctrl-C or SIGTERM finish the step, and the second end the process.

    Yields the list of signals that came. Only the main thread may say what a signal does: in
    another one they stay with the program that called the command there.
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
        # Not print: the signal may have come in the middle of one.
        with suppress(OSError):
            os.write(2, STOPPING)
        trainer.stop()

    watched = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(each, stop) for each in watched]
    try:
        yield caught
    finally:
        for each, handler in zip(watched, before, strict=True):
            # None: it was not set by Python, and cannot be set back by it.
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
