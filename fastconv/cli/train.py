"""``fastconv train``: train one network, or an ensemble's members."""

from __future__ import annotations

import argparse
import shlex
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from .. import config as process
from ..errors import ArgumentError, WriteFailed
from ..experiment.data import Data
from ..experiment.ensemble import EnsembleOutcome, Member, train_ensemble
from ..experiment.folder import RunFolder, noting
from ..experiment.held import held_anew
from ..experiment.recipes import find_recipe
from ..experiment.settings import (
    SETTINGS,
    RunConfig,
    new_config,
    resumed_config,
    set_process,
)
from ..experiment.train import ALONE, Outcome, expect_sound, prepare, train_on
from ..info import as_table
from ..io.arrays import load_metadata
from ..progress import shows_progress
from ..training.ranks import Ranks
from .options import COMPUTED_BY, add_common, add_settings, given_fields, image_options
from .output import (
    complain,
    count,
    failure,
    interval_in_words,
    print_json,
    table_by_class,
    teller,
    warn,
)

__all__ = ["add_parser", "apply_recipe", "run"]


def add_parser(commands: Any) -> None:
    """The command and its options; those that are not given are None."""
    parser = commands.add_parser(
        "train",
        help="train a network",
        description="Train a network and keep the run in a folder. Ctrl-C saves before it ends.",
        epilog=(
            "examples:\n"
            "  fastconv train\n"
            "  fastconv train --data mnist --epochs 20 --seed 0 --out runs/mnist\n"
            "  fastconv train --recipe mnist-book --seed 1     # see fastconv recipes\n"
            "  fastconv train --members 5 --views shift=1      # an ensemble\n"
            "  fastconv train --epochs 20 --lr 0.004 --schedule one-cycle\n"
            "  fastconv train --data photos --image-size 64   # a folder for each class\n"
            "  fastconv train --optimizer adamw --weight-decay 0.05 --ema 0.999\n"
            "  fastconv train --epochs 50 --validation 0.1 --patience 5\n"
            "  fastconv train --augment rotate=10,shift=2,scale=0.1\n"
            "  fastconv train --init weights.npz --freeze 'W[1-6]'   # convolutions as they are\n"
            "  fastconv train --resume runs/mnist --epochs 30"
        ),
    )
    parser.add_argument(
        "--recipe",
        metavar="RECIPE",
        help="settings from a recipe that fastconv recipes lists, or from "
        "a .toml file; other options take precedence",
    )
    settings = (name for name, each in SETTINGS.items() if not each.found)
    add_settings(parser, *(name for name in settings if name not in COMPUTED_BY))
    parser.add_argument(
        "--out", metavar="FOLDER", help="run folder (default: runs/MODEL-DATA-DATE-TIME)"
    )
    parser.add_argument("--resume", metavar="RUN", help="continue the run in this folder")
    add_common(parser, backend=True)


def run(options: argparse.Namespace) -> int:
    """Train a network or an ensemble, or go on with it; return the exit status."""
    progress = shows_progress()
    say = teller(options, progress)
    if process.launched().size == 1:
        return _lead(options, ALONE, progress=progress, say=say)
    from ..distributed import DataParallel

    ranks = DataParallel(say)
    try:
        ranks.expect_same({f"--{name}": str(value) for name, value in vars(options).items()})
        if not ranks.first:
            _follow(options, ranks)
            return ranks.of_first(lambda: 0)
        status = _lead(options, ranks, progress=progress, say=say)
        return ranks.of_first(lambda: status)
    except (Exception, KeyboardInterrupt) as error:
        ranks.end(*failure(error), traceback.format_exc() if options.debug else "")


def _lead(
    options: argparse.Namespace, ranks: Ranks, *, progress: bool, say: Callable[[str], None]
) -> int:
    """Train as one process, or as the first rank, which decides what and where."""
    config, place = _asked_for(options)
    say(_first_line(config))
    with place as folder:
        return _train(options, config, folder, ranks, progress=progress, say=say)


def _follow(options: argparse.Namespace, ranks: Ranks) -> None:
    """Train as another rank, which leaves files and words to the first."""
    warnings.simplefilter("ignore")
    # Only the first rank calls a function, its own: `_train` has it.
    config, path = ranks.of_first(lambda: (RunConfig(), Path()))
    if options.threads is None and config.members is None:
        config = replace(config, threads=process.get_num_threads())
    quiet: dict[str, Any] = {"progress": False, "say": lambda text: None}
    set_process(config)
    config, data = ranks.shared(lambda: prepare(config, image_options(options), **quiet))
    resume = options.resume is not None
    train: Callable[..., Any] = train_on if config.members is None else train_ensemble
    train(data, RunFolder(path), config, resume=resume, ranks=ranks, **quiet)


def _train(
    options: argparse.Namespace,
    config: RunConfig,
    folder: RunFolder,
    ranks: Ranks,
    *,
    progress: bool,
    say: Callable[[str], None],
) -> int:
    train: Callable[..., Outcome | EnsembleOutcome]
    train = partial(train_on if config.members is None else train_ensemble, ranks=ranks)
    try:
        prepared, data = prepare(config, image_options(options), progress=progress, say=say)
        # Now that the data are there, or downloaded, each machine's first rank reads them, for all
        # ranks of the machine: `_follow`.
        ranks.of_first(lambda: (config, folder.path))
        prepared, data = ranks.shared(lambda: (prepared, data))
        resume = options.resume is not None
        outcome = train(data, folder, prepared, resume=resume, progress=progress, say=say)
    except WriteFailed as error:
        error.add_note(_what_is_kept(folder))
        raise
    result = outcome.evaluation
    if result is None:
        again = shlex.quote(str(folder.path))
        say(f"stopped and saved; continue with: fastconv train --resume {again}")
        return 128 + outcome.stopped_by
    accuracy = f"test accuracy {100 * result.accuracy:.2f} % ({result.correct}/{result.total})"
    within = interval_in_words(result.interval)
    after: dict[str, Any]
    facts: dict[str, Any] = {
        "test_accuracy": result.accuracy,
        "correct": result.correct,
        "total": result.total,
        "interval": result.interval,
        "by_class": [asdict(each) for each in result.by_class],
        "seconds": outcome.seconds,
    }
    if isinstance(outcome, EnsembleOutcome):
        say(_table(outcome.members))
        say(
            f"ensemble of {len(outcome.members)}: {accuracy}, {within}, "
            f"{outcome.seconds:.1f} s of training"
        )
        members = [
            {"model": member.model, "seed": member.seed, "run": member.run} | asdict(member.result)
            for member in outcome.members
        ]
        after = {"members": members, "ensemble": str(folder.ensemble)}
    else:
        say(
            f"{accuracy} after {count(outcome.epochs, 'epoch')}, {within}, "
            f"{outcome.seconds:.1f} s of training, {outcome.images_per_second:,.0f} images/s"
        )
        facts["images_per_second"] = outcome.images_per_second
        after = {"epochs": outcome.epochs, "diverged": outcome.diverged}
    say(table_by_class(result.by_class))
    say(f"run folder: {folder.path}")
    if options.json:
        config = outcome.config
        print_json(facts | config.plain() | after | {"run": str(folder.path)})
    if not outcome.sound:
        complain("train", _what_diverged(outcome, folder))
        return 1
    return 0


def _asked_for(options: argparse.Namespace) -> tuple[RunConfig, AbstractContextManager[RunFolder]]:
    """The configuration and folder of a new run, or of one to go on with.

    The returned context manager holds the folder for this run.
    """
    if options.resume is None:
        if options.recipe is not None:
            apply_recipe(options)
        config = new_config(given_fields(options))
        stamp = time.strftime("%Y%m%d-%H%M%S")
        name = f"{config.model}-{Data(config.data).name}-{stamp}"
        expect_sound(config)
        if options.out is None:
            return config, held_anew(Path("runs", name), RunFolder)
        return config, RunFolder(options.out).held(new=True)
    if options.recipe is not None:
        raise ArgumentError("--recipe: a resumed run goes on by its own config.json; leave it out")
    folder = RunFolder(options.resume)
    if options.out is not None and Path(options.out).resolve() != folder.path.resolve():
        raise ArgumentError("--out: a resumed run stays in its folder; leave it out")
    stored = folder.read_config()
    config = resumed_config(stored, given_fields(options), warn)
    with noting(folder.config_file):
        expect_sound(config)
    return config, folder.held(new=False)


def apply_recipe(options: argparse.Namespace) -> None:
    """Give the options that were not given the values of ``options.recipe``."""
    recipe = find_recipe(options.recipe)
    named = {name: getattr(options, name, None) for name in SETTINGS}
    given = {name: value for name, value in named.items() if value is not None}
    vars(options).update(recipe.beside(given), recipe=recipe.name)


def _what_diverged(outcome: Outcome | EnsembleOutcome, folder: RunFolder) -> str:
    """Which run has diverged, and what is kept of it."""
    if isinstance(outcome, EnsembleOutcome):
        lost = [member.run for member in outcome.members if not member.sound]
        return f"members have diverged, and ended before their time: {', '.join(lost)}"
    return (
        f"the run has diverged in epoch {outcome.diverged} and stopped; {folder.checkpoint} keeps "
        f"{count(outcome.epochs, 'epoch')} before"
    )


def _what_is_kept(folder: RunFolder) -> str:
    """What exists of a run whose files could no longer be written, and how to go on with it."""
    again = f"fastconv train --resume {shlex.quote(str(folder.path))}"
    if not folder.config_file.is_file():
        return "nothing of the run is kept"
    checkpoints = list(folder.path.glob("**/checkpoint.npz"))  # of the run, or of its members
    if not checkpoints:
        return f"no epoch of the run is kept; {again} begins it anew"
    last = max(checkpoints, key=lambda path: path.stat().st_mtime_ns)
    epochs = len(load_metadata(last)["progress"]["history"])
    return f"{last} keeps {count(epochs, 'epoch')}; {again} goes on from there"


def _first_line(config: RunConfig) -> str:
    """A line that says what is to be trained, on what, and how."""
    rate = f"{config.lr:g} {config.schedule}".removesuffix(" constant")
    models, seeds = config.model, f"seed {config.seed}"
    if config.members is not None:
        each = Counter(config.members).items()
        models = ", ".join(f"{number} x {model}" for model, number in each)
        seeds = f"seeds {config.seed} to {config.seed + len(config.members) - 1}"
    recipe = "" if config.recipe is None else f"; recipe {config.recipe}"
    return (
        f"{models} on {Data(config.data).name}: {count(config.epochs, 'epoch')}, "
        f"batch {config.batch_size}, {config.optimizer} {rate}, "
        f"{seeds}; {config.where}{recipe}"
    )


def _table(members: list[Member]) -> str:
    """The members and how they ended."""
    rows = [
        {
            "member": str(number),
            "model": member.model,
            "seed": str(member.seed),
            "epochs": str(member.result.epochs),
            "test accuracy": f"{100 * member.result.test_accuracy:.2f} %",
            "seconds": f"{member.result.seconds:.1f}",
        }
        for number, member in enumerate(members, start=1)
    ]
    return as_table(rows)
