"""``fastconv predict``: say what image files show, by a trained network."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from .. import selection
from ..datasets.record import printable
from ..errors import DataCorrupt, DataNotFound
from ..experiment.data import prepare_picture
from ..experiment.trained import read_trained
from .options import RUN_HELP, add_algorithms, add_common, add_settings, given_fields
from .output import complain, how, one_line, print_json, teller

__all__ = ["add_parser", "run"]

MOST_SHARES = 10
"""Most classes whose probabilities a line lists; the likeliest come first."""
FEW_SHARES = 5


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "predict",
        help="say what image files show",
        description=(
            "Say what each image file shows. A network of digits reads one digit from a PNG or\n"
            "JPEG file: dark on light or light on dark, of any size; it is scaled and centred\n"
            "as MNIST's images are. A network that was trained on your own images gets these\n"
            "in the same way."
        ),
        epilog=(
            "examples:\n"
            "  fastconv predict runs/mnist three.png seven.jpg\n"
            "  fastconv predict runs/photos new/*.jpg"
        ),
    )
    add = parser.add_argument
    add("run", metavar="RUN_OR_WEIGHTS", help=RUN_HELP)
    add("images", metavar="IMAGE", nargs="+", help="image files")
    add_settings(parser, "views", "model")
    add_algorithms(parser)
    add_common(parser, backend=True)


def run(options: argparse.Namespace) -> int:
    """Let a trained network read pictures; return the exit status."""
    say = teller(options)
    config, ensemble, _ = read_trained(options.run, given_fields(options), tests=False)
    facts = config.facts
    names = facts.class_names
    predictions: list[dict[str, Any]] = []
    with selection.use_backend(config.backend):
        shape = (1, *facts.shape)
        ensemble = ensemble.prepare(shape, copy=False, algorithms=options.algorithms)
    for path in options.images:
        try:
            image = prepare_picture(path, facts)
        except (DataCorrupt, DataNotFound) as error:
            complain("predict", one_line(error))
            predictions.append({"file": path, "error": str(error)})
            continue
        with selection.use_backend(config.backend):
            shares = ensemble.probabilities(image[None])[0]
        label = names[int(shares.argmax())]
        probabilities = dict(zip(names, shares.tolist(), strict=True))
        predictions.append({"file": path, "label": label, "probabilities": probabilities})
        say(f"{printable(path)}: {label}")
        many = len(names) > MOST_SHARES
        shown = np.argsort(-shares)[:FEW_SHARES] if many else np.arange(len(names))
        say("   " + "".join(f"  {names[i]}: {100 * shares[i]:.2f} %" for i in shown))
    if options.json:
        print_json({"predictions": predictions} | how(config))
    return 1 if any("error" in prediction for prediction in predictions) else 0
