"""``fastconv predict``: say what image files show, by a trained network."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import config as process
from .. import selection
from ..datasets.folder import list_pictures
from ..datasets.picture import endings
from ..datasets.record import ImageFacts, printable
from ..errors import ArgumentError, DataCorrupt, DataNotFound
from ..experiment.bundled import ABOUT, WEIGHTS
from ..experiment.data import prepare_picture
from ..experiment.exported import read_exported
from ..experiment.folder import RunFolder
from ..experiment.settings import SETTINGS
from ..experiment.trained import read_trained
from ..network.prepared import CHOOSERS
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
            "Say what each image file shows. A network of digits reads one digit from each, dark\n"
            "on light or light on dark, of any size; it is scaled and centred as MNIST's images\n"
            "are. A network that was trained on your own images gets these in the same way. A\n"
            ".onnx file that fastconv export wrote is run by ONNX Runtime. Without a network, the\n"
            "one that comes with fastconv reads digits."
        ),
        epilog=(
            "examples:\n"
            "  fastconv predict digit.png\n"
            "  fastconv predict three.png seven.jpg\n"
            "  fastconv predict runs/mnist three.png seven.jpg\n"
            "  fastconv predict runs/photos new/"
        ),
    )
    add = parser.add_argument
    add("run", metavar="RUN_OR_WEIGHTS", help=f"{RUN_HELP}; or a .onnx; or an IMAGE of a digit")
    add("images", metavar="IMAGE", nargs="*", help="image files, or folders of them")
    add_settings(parser, "views", "model")
    add_algorithms(parser)
    add_common(parser, backend=True)


def run(options: argparse.Namespace) -> int:
    """Let a trained network read pictures; return the exit status."""
    say = teller(options)
    if _shows_images(options.run):
        options.run, options.images = str(WEIGHTS), [options.run, *options.images]
        say(ABOUT)
    elif not options.images:
        raise ArgumentError(f"{options.run}: expected an IMAGE, or some after it")
    read = _exported if Path(options.run).suffix == ".onnx" else _trained
    facts, probabilities_of, account = read(options)
    names = facts.class_names
    predictions: list[dict[str, Any]] = []
    for path in chain.from_iterable(map(_pictures, options.images)):
        try:
            image = prepare_picture(path, facts)
        except (DataCorrupt, DataNotFound) as error:
            complain("predict", one_line(error))
            predictions.append({"file": path, "error": str(error)})
            continue
        shares = probabilities_of(image[None])[0]
        label = names[int(shares.argmax())]
        probabilities = dict(zip(names, shares.tolist(), strict=True))
        predictions.append({"file": path, "label": label, "probabilities": probabilities})
        say(f"{printable(path)}: {label}")
        many = len(names) > MOST_SHARES
        shown = np.argsort(-shares)[:FEW_SHARES] if many else np.arange(len(names))
        say("   " + "".join(f"  {names[i]}: {100 * shares[i]:.2f} %" for i in shown))
    if options.json:
        print_json({"predictions": predictions} | account)
    return 1 if any("error" in prediction for prediction in predictions) else 0


def _shows_images(path: str) -> bool:
    """Whether this is a picture or a folder of them, rather than a network."""
    place = Path(path)
    if place.is_dir():
        return not RunFolder(place).config_file.exists() and bool(list_pictures(place))
    return place.suffix.lower() in endings()


def _pictures(path: str) -> list[str]:
    """The path, or the pictures below it, if it is a folder."""
    if not Path(path).is_dir():
        return [path]
    found = [str(each) for each in list_pictures(Path(path))]
    if not found:
        raise DataNotFound(f"{path}: no pictures in this folder")
    return found


Predictor = tuple[ImageFacts, Callable[[NDArray[Any]], NDArray[Any]], dict[str, Any]]
"""How to read pictures, what gives their probabilities, and what ``--json`` says about it."""


def _trained(options: argparse.Namespace) -> Predictor:
    """A run, an ensemble or weights."""
    config, ensemble, _ = read_trained(options.run, given_fields(options), tests=False)
    shape = (1, *config.facts.shape)
    with selection.use_backend(config.backend):
        ensemble = ensemble.prepare(shape, copy=False, algorithms=options.algorithms)

    def probabilities_of(images: NDArray[Any]) -> NDArray[Any]:
        with selection.use_backend(config.backend):
            return ensemble.probabilities(images)

    return config.facts, probabilities_of, how(config)


def _exported(options: argparse.Namespace) -> Predictor:
    """An ONNX model that ``fastconv export`` wrote; its views are inside."""
    given = given_fields(options)
    ours = [SETTINGS[name].option for name in given if name != "threads"]
    if ours or options.algorithms != CHOOSERS[0]:
        raise ArgumentError(
            f"{', '.join(ours) or '--algorithms'}: for networks that fastconv runs; "
            f"{options.run} is run by ONNX Runtime as it is"
        )
    threads = given.get("threads", process.get_num_threads())
    facts, model = read_exported(options.run, threads)
    return facts, model.probabilities, {"backend": model.runtime, "threads": threads}
