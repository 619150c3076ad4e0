"""``fastconv summary``: show a network as a table, and draw it."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from .. import figures
from ..datasets.record import expect_size
from ..errors import ArgumentError
from ..experiment.settings import SETTINGS
from ..models import default_image, make_empty_model, make_model
from ..network.summary import layer_facts, summary
from .options import add_algorithms, add_common, add_setting
from .output import print_json, show, teller
from .types import typed, whole

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "summary",
        help="show a model's layers, parameters, work and receptive fields",
        description=(
            "Show a model as a table: shape, parameters, multiply-adds and receptive field of\n"
            "each layer for one image; with --batch, also each step of a prediction; or draw its\n"
            "graph."
        ),
        epilog=(
            "examples:\n"
            "  fastconv summary --model vgg16 --input 3x224x224 --classes 1000\n"
            "  fastconv summary --model resnet20 --input 3x32x32 --batch 8\n"
            "  fastconv summary --model googlenet --input 3x224x224 --draw googlenet.png"
        ),
    )
    add = parser.add_argument
    add_setting(parser, "model", default=SETTINGS["model"].new)
    add(
        "--input",
        type=typed(_image_shape, "shape"),
        metavar="CxHxW",
        help="image (default: 1x28x28; 3x224x224 for models that need more)",
    )
    add("--classes", type=whole(1), default=10, metavar="N", help="classes (10)")
    add(
        "--batch",
        type=whole(1),
        metavar="N",
        help="show also how N images at a time are predicted: kernels, algorithms, memory",
    )
    add_algorithms(parser)
    add("--draw", metavar="PICTURE", help="the .png file to draw the graph to")
    add_common(parser, backend=False)


def _image_shape(text: str) -> tuple[int, int, int]:
    """``3x224x224`` as (3, 224, 224)."""
    try:
        channels, height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        channels = height = width = 0
    if min(channels, height, width) < 1:
        raise ArgumentError(f"must be CxHxW, such as 3x224x224, got {text}")
    expect_size("must be of another size", (channels, height, width))
    return channels, height, width


def run(options: argparse.Namespace) -> int:
    """Print the table of the layers, draw the graph if asked to; return the exit status."""
    shape = options.input or default_image(options.model)
    model = options.model, shape, options.classes
    if options.batch is None:  # of weights, only the shapes are shown
        network = make_empty_model("fastconv summary", *model)
    else:
        network = make_model(*model, seed=0)
    program = None
    if options.algorithms != "rule" and options.batch is None:
        raise ArgumentError(f"--algorithms {options.algorithms}: only with --batch")
    if options.batch is not None:
        batch = (options.batch, *shape)
        prepared = network.prepare(batch, copy=False, algorithms=options.algorithms)
        program = prepared.description
    if options.json:
        facts = [dataclasses.asdict(fact) for fact in layer_facts(network, shape)]
        told = {"model": options.model, "input": shape, "layers": facts}
        print_json(told if program is None else told | {"program": program.plain()})
    else:
        show(summary(network, shape))
        if program is not None:
            show(f"\n{program}")
    if options.draw is not None:
        size = " x ".join(map(str, shape))
        graph = figures.graph(network, shape, f"{options.model}, {size}")
        figures.save(graph, Path(options.draw))
        teller(options)(f"drawn: {options.draw}")
    return 0
