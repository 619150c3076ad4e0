"""``fastconv info``: what runs here, and how the layers of a network run."""

from __future__ import annotations

import argparse
from typing import Any

from .. import config as process
from ..info import as_table, configuration, layer_table, show_config
from ..models import DeepConvNet
from .options import add_common, add_settings, shape_and_classes
from .output import print_json, show
from .types import whole

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "info",
        help="show versions, backends, threads and instruction sets",
        description="Show what runs here: versions, backends and why one is missing, threads.",
        epilog="examples:\n  fastconv info --json\n  fastconv info --layers --batch 8",
    )
    parser.add_argument(
        "--layers",
        action="store_true",
        help="show which layers of DeepConvNet run as one, and by which algorithm",
    )
    parser.add_argument("--batch", type=whole(1), metavar="N", default=100, help="images (100)")
    add_settings(parser, "data", "image_size", "grey")
    add_common(parser, backend=True)


def run(options: argparse.Namespace) -> int:
    """Show the configuration, or the layers; return the exit status."""
    process.set_num_threads(options.threads)
    if options.layers:
        shape, classes = shape_and_classes(options)
        network = DeepConvNet(shape, output_size=classes, seed=0, backend=options.backend)
        rows = layer_table(network, (options.batch, *shape))
        if options.json:
            print_json(rows)
        else:
            show(as_table(rows))
    elif options.json:
        print_json(configuration())
    else:
        show_config()
    return 0
