"""``fastconv show``: draw what a trained network has learned, sees and misreads."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from .. import figures
from ..datasets.record import printable
from ..errors import ArgumentError
from ..experiment.data import Data, prepare_picture
from ..experiment.evaluate import draw_evaluation, evaluate, try_to_draw
from ..experiment.folder import RunFolder
from ..experiment.trained import read_trained
from ..io.atomic import make_folder
from ..progress import shows_progress
from ..selection import use_backend
from .options import RUN_HELP, add_common, add_setting, add_settings, given_fields
from .output import print_json, teller

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "show",
        help="draw what a trained network has learned, sees and misreads",
        description=(
            "Draw the filters of a network's first layer, before and after training; the\n"
            "feature maps of an image; the confusion matrix; and the misread images with their\n"
            "names: into the run folder, or to --out."
        ),
        epilog=(
            "examples:\n"
            "  fastconv show runs/mnist\n"
            "  fastconv show runs/mnist --image three.png\n"
            "  fastconv show deep_convnet_params.pkl --data mnist --out pictures"
        ),
    )
    add = parser.add_argument
    add("run", metavar="RUN_OR_WEIGHTS", help=RUN_HELP)
    add("--image", metavar="IMAGE", help="whose feature maps to draw (default: a test image)")
    add_settings(parser, "model")
    add_setting(parser, "data", help="data set that a weights file was trained on")
    add_settings(parser, "data_dir")
    add("--out", metavar="FOLDER", help="where to put the pictures (default: a run's own folder)")
    add_common(parser, backend=True)


def run(options: argparse.Namespace) -> int:
    """Draw the pictures; return the exit status."""
    say, given = teller(options), given_fields(options)
    config, ensemble, folder = read_trained(options.run, given, tests=True)
    data, place = Data(config.data), folder if options.out is None else RunFolder(options.out)
    if folder is not None and given.get("data", config.data) != config.data:
        raise ArgumentError("--data: a run shows its own data; fastconv evaluate takes others")
    if place is None:
        raise ArgumentError("a weights file has no folder of its own: name one by --out")
    if options.out is not None and place.config_file.exists():
        raise ArgumentError(f"--out {options.out}: a run's folder; its pictures are its own")
    images = data.load_test(
        config.facts,
        data,
        data_dir=given.get("data_dir", config.data_dir),
        seed=config.split_seed,
        strict=False,
        progress=shows_progress(),
        say=say,
    )
    result = evaluate(ensemble, images, config.backend, shows_progress())
    make_folder(place.path)
    drawn = draw_evaluation(result, config.facts, place, say)

    network, first, of = ensemble.members[0], folder, ""
    if len(ensemble.members) > 1:
        first, of = folder and folder.member(1), ", member 1"
        say("filters and feature maps are those of the first member")
    after, before = figures.first_filters(network), first and first.read_initial()
    if after is None:
        say("no filters and feature maps: the network has no convolution")
    else:
        if before is None:
            say("filters before training are not known: only a run of this version keeps them")
        title = f"filters of the first layer: {config.model}{of}"
        if try_to_draw(say, place.filters, figures.filters, after, before, title):
            drawn.append(place.filters)
        name, image = result.names[0], images.test.images[0]
        if options.image is not None:
            name, image = printable(options.image), prepare_picture(options.image, config.facts)
        title = f"feature maps of {name}: {config.model}{of}"
        maps = partial(figures.feature_maps, ink=config.facts.ink)
        with use_backend(config.backend):
            if try_to_draw(say, place.features, maps, network, image, title):
                drawn.append(place.features)
    for path in drawn:
        say(f"drawn: {path}")
    if options.json:
        print_json({"pictures": [str(path) for path in drawn], "test_accuracy": result.accuracy})
    return 0
