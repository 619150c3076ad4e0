"""``fastconv search``: draw hyper-parameters at random, and train a trial with each."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import config as process
from ..console import in_columns
from ..errors import ArgumentError
from ..experiment.data import Data, ImageOptions
from ..experiment.held import held_anew
from ..experiment.search import Draw, Search, SearchFolder, Trial, best_first, run_trials
from ..experiment.settings import SETTINGS, account, new_config, set_process
from ..experiment.train import ALONE, prepare
from ..progress import shows_progress
from ..training.ranks import Ranks
from .options import COMPUTED_BY, add_common, add_settings, given_fields, image_options
from .output import complain, count, failure, print_json, teller
from .train import apply_recipe
from .types import typed, whole

__all__ = ["add_parser", "run"]

BOOKS = ("lr=1e-6:1e-2", "weight_decay=1e-8:1e-4")
"""What the book's chapter 6 draws, for its plain SGD."""

BOOKS_OPTIMIZER = "sgd"
SHARE = 0.2
TRIALS = 20
MOST_JOBS = 256
SHOWN = 10

NOT_OF_A_TRIAL = ("members", "gradients", "sync_batchnorm", "views")
"""Settings of several processes that train one network, of ensembles and of tests."""


def add_parser(commands: Any) -> None:
    """The command and its options; those that are not given are None."""
    parser = commands.add_parser(
        "search",
        help="search for hyper-parameters, drawn at random",
        description=(
            "Draw hyper-parameters at random, train a network with each, and compare them on\n"
            "images set apart from the training images. Test images are not looked at."
        ),
        epilog=(
            "examples:\n"
            "  fastconv search --trials 3 --epochs 2 --out runs/search\n"
            "  fastconv search --resume runs/search --trials 4\n"
            "  fastconv search --trials 2 --draw lr=1e-4:1e-1 --draw optimizer=adam,momentum"
        ),
    )
    add = parser.add_argument
    add("--trials", type=whole(1), metavar="N", help=f"how many (default: {TRIALS})")
    add(
        "--draw",
        action="append",
        type=typed(Draw.parse, "draw"),
        metavar="NAME=LOW:HIGH",
        help="draw this setting log-uniformly, or one of NAME=A,B,...; repeatable (default: "
        f"{' and '.join(BOOKS)} as in the book, for {BOOKS_OPTIMIZER})",
    )
    jobs = whole(1, MOST_JOBS)
    add("--jobs", type=jobs, metavar="N", help="processes that share the trials (default: 1)")
    add(
        "--recipe",
        metavar="RECIPE",
        help="settings that all trials share, from a recipe; other options take precedence",
    )
    names = (name for name, each in SETTINGS.items() if not each.found)
    add_settings(parser, *(name for name in names if name not in (*COMPUTED_BY, *NOT_OF_A_TRIAL)))
    add("--out", metavar="FOLDER", help="folder (default: runs/search-MODEL-DATA-DATE-TIME)")
    add("--resume", metavar="RUN", help="go on with the search in this folder")
    add_common(parser, backend=True)


def run(options: argparse.Namespace) -> int:
    """Search, or go on with a search; return the exit status."""
    say = teller(options)
    if process.launched().size == 1:
        return _lead(options, ALONE, say)
    if options.jobs is not None:
        raise ArgumentError("--jobs: the launcher has started the processes; leave it out")
    from ..distributed import DataParallel

    ranks = DataParallel(say)
    try:
        ranks.expect_same({f"--{name}": str(value) for name, value in vars(options).items()})
        if ranks.first:
            status = _lead(options, ranks, say)
        else:
            warnings.simplefilter("ignore")
            status = _follow(options, ranks)
        return ranks.of_first(lambda: status)
    except (Exception, KeyboardInterrupt) as error:
        ranks.end(*failure(error), traceback.format_exc() if options.debug else "")


def _lead(options: argparse.Namespace, ranks: Ranks, say: Callable[[str], None]) -> int:
    """Search as one process, or as the first rank."""
    search, place = _asked_for(options, ranks)
    drawn = search.drawn()
    search.expect_sound(drawn)
    with place as folder:
        trials = folder.read_trials(drawn)
        set_process(search.run)
        say(_first_line(search, ranks, options.jobs or 1))
        if words := account(search.run):
            say(words)
        own, data = prepare(search.run, search.images, progress=shows_progress(), say=say)
        if own.validation is None and data.validation is None:
            own = dataclasses.replace(own, validation=SHARE)
        search = dataclasses.replace(search, run=own)
        ended = {trial.number for trial in trials}
        todo = [number for number in range(1, search.trials + 1) if number not in ended]
        search, todo = ranks.of_first(lambda: (search, todo))
        data = ranks.shared(lambda: data)
        folder.write_search(search)
        try:
            for trial in run_trials(
                data,
                search,
                drawn,
                todo,
                jobs=options.jobs or 1,
                ranks=ranks,
            ):
                folder.append(trial)
                trials.append(trial)
                say(_line(trial, len(trials), search))
        except KeyboardInterrupt:
            again = shlex.quote(str(folder.path))
            say(
                f"stopped; {count(len(trials), 'trial')} of {search.trials} kept; continue with: "
                f"fastconv search --resume {again}"
            )
            raise
        folder.write_results(search, trials, say)
    return _report(options, search, folder, trials, say)


def _follow(options: argparse.Namespace, ranks: Ranks) -> int:
    """Search as another rank."""
    # Only the first rank calls a function, its own: `_lead` has it.
    search, todo = ranks.of_first(lambda: (Search(run=new_config({})), list[int]()))
    set_process(search.run)

    def load() -> Any:
        return prepare(search.run, search.images, progress=False, say=lambda text: None)[1]

    data = ranks.shared(load)
    for _ in run_trials(data, search, search.drawn(), todo, jobs=1, ranks=ranks):
        pass
    return 0


def _asked_for(
    options: argparse.Namespace, ranks: Ranks
) -> tuple[Search, AbstractContextManager[SearchFolder]]:
    """A new search, or one to go on with, and what holds its folder."""
    if options.resume is not None:
        return _resumed(options)
    if options.recipe is not None:
        apply_recipe(options)
        for name in NOT_OF_A_TRIAL:
            setattr(options, name, None)
    draws = options.draw or [Draw.parse(text) for text in BOOKS]
    given = given_fields(options)
    if not options.draw and options.optimizer is None:
        given["optimizer"] = BOOKS_OPTIMIZER
    names = [draw.name for draw in draws]
    for name in names:
        if names.count(name) > 1:
            raise ArgumentError(f"--draw {name}: twice; expected once")
        if getattr(options, name) is not None and options.recipe is None:
            raise ArgumentError(
                f"--draw {name}: {SETTINGS[name].option} says it too; leave one out"
            )
    given = {name: value for name, value in given.items() if name not in names}
    if options.threads is None:
        given["threads"] = max(1, process.get_num_threads() // (options.jobs or 1))
    # Each trial is trained by one process.
    run = dataclasses.replace(new_config(given), ranks=1)
    search = Search(
        run=run,
        images=image_options(options),
        draw={draw.name: draw.text for draw in draws},
        trials=options.trials or TRIALS,
    )
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"search-{run.model}-{Data(run.data).name}-{stamp}"
    if options.out is None:
        return search, held_anew(Path("runs", name), SearchFolder)
    return search, SearchFolder(options.out).held(new=True)


def _resumed(options: argparse.Namespace) -> tuple[Search, AbstractContextManager[SearchFolder]]:
    """The search in a folder; only the number of trials may grow."""
    own = ("draw", "recipe", "out", *(each.name for each in dataclasses.fields(ImageOptions)))
    given = {*given_fields(options)} | {name for name in own if getattr(options, name) is not None}
    if given:
        first = sorted(given)[0].replace("_", "-")
        raise ArgumentError(
            f"--{first}: a resumed search goes on by its own search.json; leave it out"
        )
    folder = SearchFolder(options.resume)
    search = folder.read_search()
    trials = options.trials or search.trials
    if trials < search.trials:
        raise ArgumentError(
            f"--trials {trials}: the search was started for {search.trials}; it can only be raised"
        )
    return dataclasses.replace(search, trials=trials), folder.held(new=False)


def _first_line(search: Search, ranks: Ranks, jobs: int) -> str:
    """A line that says what is searched, and how."""
    config, shared = search.run, ""
    if max(ranks.size, jobs) > 1:
        shared = f", {ranks.size} ranks" if ranks.size > 1 else f", {jobs} processes"
    draws = ", ".join(f"{name} {text}" for name, text in search.draw.items())
    return (
        f"{count(search.trials, 'trial')} of {config.model} on {Data(config.data).name}: "
        f"{count(config.epochs, 'epoch')}, batch {config.batch_size}, {config.optimizer}, "
        f"seed {config.seed}; {config.where}{shared}; drawn: {draws}"
    )


def _line(trial: Trial, ended: int, search: Search) -> str:
    """How a trial has ended."""
    settings = ", ".join(f"{name} {_shown(value)}" for name, value in trial.settings.items())
    result = trial.error
    if trial.accuracy is not None:
        result = f"validation accuracy {100 * trial.accuracy:.2f} %"
    return f"trial {trial.number} ({ended}/{search.trials})  {settings}  {result}"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _report(
    options: argparse.Namespace,
    search: Search,
    folder: SearchFolder,
    trials: list[Trial],
    say: Callable[[str], None],
) -> int:
    """Print the best trials; return the exit status."""
    ranking = best_first(trials)
    rows: list[tuple[str, ...]] = [("trial", *search.draw, "validation", "epochs", "seconds")]
    for trial in ranking[:SHOWN]:
        accuracy = "" if trial.accuracy is None else f"{100 * trial.accuracy:.2f} %"
        facts = accuracy or (trial.error or ""), str(trial.epochs), f"{trial.seconds:.1f}"
        rows.append((str(trial.number), *map(_shown, trial.settings.values()), *facts))
    say(in_columns(rows, right=range(len(search.draw) + 1)))
    best = ranking[0] if ranking and ranking[0].accuracy is not None else None
    if best is not None:
        say(f"train with the best: fastconv train --recipe {shlex.quote(str(folder.best))}")
    say(f"folder: {folder.path}")
    if options.json:
        told = [asdict(trial) for trial in ranking]
        print_json(search.plain() | {"results": told, "folder": str(folder.path)})
    if best is None:
        complain("search", "no trial has ended well: see the table")
        return 1
    return 0
