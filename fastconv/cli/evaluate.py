"""``fastconv evaluate``: test a trained network on a whole test set."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..datasets.record import ImageSet
from ..errors import ArgumentError
from ..experiment.apart import validation_images
from ..experiment.data import Data
from ..experiment.evaluate import draw_evaluation, evaluate
from ..experiment.folder import RunFolder
from ..experiment.settings import RunConfig
from ..experiment.trained import read_trained
from ..io.atomic import make_folder
from ..models.ensemble import Ensemble
from ..network.views import Views
from ..progress import shows_progress
from .options import (
    RUN_HELP,
    add_algorithms,
    add_common,
    add_setting,
    add_settings,
    given_fields,
)
from .output import (
    count,
    how,
    interval_in_words,
    print_json,
    table_by_class,
    table_by_member,
    teller,
)

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "evaluate",
        help="test a trained network on a whole test set",
        description=(
            "Test a trained network on the whole test set; draw the images that it\n"
            "misreads, and the confusion matrix: into the run folder, or to --out. The\n"
            "pictures in a run folder show the run's own data and views; others need --out."
        ),
        epilog=(
            "examples:\n"
            "  fastconv evaluate runs/mnist\n"
            "  fastconv evaluate deep_convnet_params.pkl --data mnist --out pictures\n"
            "  fastconv evaluate three.npz --views shift=1     # an ensemble"
        ),
    )
    add = parser.add_argument
    add("run", metavar="RUN_OR_WEIGHTS", help=RUN_HELP)
    add_settings(parser, "model")
    add_setting(parser, "data", help="data set, or path as for train (default: the run's own)")
    add_settings(parser, "strict_data", "data_dir", "views")
    add(
        "--on",
        choices=("test", "validation"),
        default="test",
        help="validation: the images that the run has set apart, by which choices are made "
        "(default: test)",
    )
    add("--out", metavar="FOLDER", help="where to put the pictures (default: a run's own folder)")
    add_algorithms(parser)
    add_common(parser, backend=True)


def run(options: argparse.Namespace) -> int:
    """Test a trained network, draw what it got wrong; return the exit status."""
    say, given = teller(options), given_fields(options)
    config, ensemble, folder = read_trained(options.run, given, tests=True)
    data = Data(given.get("data", config.data))
    place = folder if options.out is None else RunFolder(options.out)
    own = options.on == "test" and place is not None and _own_test(place, folder, config, data)
    if options.out is not None and not own and RunFolder(options.out).config_file.exists():
        raise ArgumentError(
            f"--out {options.out}: its pictures and lists are of that run's own data and views; "
            "name another folder"
        )
    progress = shows_progress()
    images = _images(options, given, config, ensemble, progress, say)
    started = time.perf_counter()
    result = evaluate(ensemble, images, config.backend, progress, options.algorithms)
    seconds = time.perf_counter() - started
    speed = result.total / seconds if seconds else 0.0  # a coarse clock, a small set
    say(
        f"{data.name}: {options.on} accuracy {100 * result.accuracy:.2f} % "
        f"({result.correct}/{result.total}), {interval_in_words(result.interval)}, "
        f"{seconds:.2f} s, {speed:,.0f} images/s; "
        f"{config.where}{_asked(ensemble)}"
    )
    say(table_by_class(result.by_class))
    if result.by_member:
        say(table_by_member(result, config.members or ()))
    drawn: list[Path] = []
    if place is None:
        say("no pictures: name a folder for them by --out")
    elif options.out is None and not own:
        say(
            f"no pictures: those in {place.path} are of the run's own data and views; "
            "name a folder for others by --out"
        )
    else:
        make_folder(place.path)
        drawn = draw_evaluation(result, config.facts, place, say)
        for path in drawn:
            say(f"drawn: {path}")
        lists = [place.mistakes_csv, place.mistakes_json]
        if result.by_member:
            lists.append(place.members_csv)
        say(f"misread images, by name: {', '.join(map(str, lists))}")
    if options.json:
        print_json(
            {
                f"{options.on}_accuracy": result.accuracy,
                "correct": result.correct,
                "total": result.total,
                "interval": result.interval,
                "seconds": seconds,
                "images_per_second": speed,
                "confusion": result.confusion.tolist(),
                "by_class": [asdict(each) for each in result.by_class],
                "by_member": [asdict(each) for each in result.by_member],
                "misread_by_members": [asdict(each) for each in result.misread_by_members],
                "mistakes": [asdict(mistake) for mistake in result.mistakes],
                "classes": images.class_names,
                "unreadable": [str(file) for file in images.unreadable],
                "pictures": [str(path) for path in drawn],
                "data": data.text,
            }
            | how(config)
        )
    return 0


def _images(
    options: argparse.Namespace,
    given: dict[str, Any],
    config: RunConfig,
    ensemble: Ensemble,
    progress: bool,
    say: Callable[[str], None],
) -> ImageSet:
    """The images to answer on, where an `ImageSet` has those of its test."""
    if options.on == "validation":
        if said := [name for name in ("data", "strict_data") if getattr(options, name) is not None]:
            raise ArgumentError(
                f"--{said[0].replace('_', '-')}: the images of --on validation are the run's own"
            )
        if "data_dir" in given:
            config = replace(config, data_dir=given["data_dir"])
        return validation_images(ensemble, config, progress=progress, say=say)
    data = Data(given.get("data", config.data))
    own_dir = config.data_dir if data.text == config.data else None
    return data.load_test(
        config.facts,
        Data(config.data),
        data_dir=given.get("data_dir", own_dir),
        seed=config.split_seed,
        strict=bool(options.strict_data),
        progress=progress,
        say=say,
    )


def _own_test(place: RunFolder, folder: RunFolder | None, config: RunConfig, data: Data) -> bool:
    """Whether `place` is the run's folder, and this the same test that the run ended with."""
    if folder is None or place.path.resolve() != folder.path.resolve():
        return False
    own = folder.read_config()
    return (data.text, Views.parse(config.views)) == (own.data, Views.parse(own.views))


def _asked(ensemble: Ensemble) -> str:
    """How many networks answer, on how many views, unless it is one on the image alone."""
    parts = {"member": len(ensemble.members), "view": len(ensemble.views)}
    return "".join(f"; {count(number, what)}" for what, number in parts.items() if number > 1)
