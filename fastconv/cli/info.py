"""``fastconv info``: show what runs here, and how the layers of a network run."""

from __future__ import annotations

import argparse
from typing import Any

from .. import config as process
from ..errors import ArgumentError
from ..info import as_table, configuration, layer_table, show_config
from ..models import DeepConvNet
from ..network import Network
from .options import add_algorithms, add_common, add_settings, shape_and_classes
from .output import print_json, show
from .types import whole

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "info",
        help="show versions, backends, threads and instruction sets",
        description="Show what runs here: versions, backends and why one is missing, threads.",
        epilog=(
            "examples:\n"
            "  fastconv info --json\n"
            "  fastconv info --layers --batch 8\n"
            "  fastconv info --layers --training"
        ),
    )
    parser.add_argument(
        "--layers",
        action="store_true",
        help="show which layers of DeepConvNet run as one in a prediction, and by which algorithm",
    )
    parser.add_argument(
        "--training", action="store_true", help="with --layers: in a training step instead"
    )
    parser.add_argument("--batch", type=whole(1), metavar="N", default=100, help="images (100)")
    add_settings(parser, "data", "image_size", "grey")
    add_algorithms(parser)
    add_common(parser, backend=True)


def run(options: argparse.Namespace) -> int:
    """Show the configuration, or the layers; return the exit status."""
    process.set_num_threads(options.threads)
    if options.training and not options.layers:
        raise ArgumentError("--training: only with --layers")
    if options.algorithms != "rule" and (options.training or not options.layers):
        raise ArgumentError(
            f"--algorithms {options.algorithms}: only with --layers, and without --training, "
            "whose algorithms the rule chooses"
        )
    if options.layers:
        shape, classes = shape_and_classes(options)
        network = DeepConvNet(shape, output_size=classes, seed=0, backend=options.backend)
        _show_layers(network, (options.batch, *shape), options)
    elif options.json:
        print_json(configuration())
    else:
        show_config()
    return 0


def _show_layers(network: Network, shape: tuple[int, ...], options: argparse.Namespace) -> None:
    """How the layers run on a batch of this shape."""
    if options.training:
        rows: Any = layer_table(network, shape)
        text = as_table(rows)
    else:
        prepared = network.prepare(shape, copy=False, algorithms=options.algorithms)
        description = prepared.description
        rows, text = description.plain(), str(description)
    if options.json:
        print_json(rows)
    else:
        show(text)
