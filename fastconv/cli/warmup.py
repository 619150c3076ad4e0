"""``fastconv warmup``: compile ahead what a network will need."""

from __future__ import annotations

import argparse
from typing import Any

from .. import config as process
from .. import selection
from ..experiment.settings import SETTINGS
from ..experiment.warmup import warm_up
from .options import add_common, add_setting, add_settings, shape_and_classes
from .output import print_json, teller

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "warmup",
        help="compile ahead what a network will need",
        description=(
            "Compile what training and using a network need, and keep it on disk. Only the\n"
            "numba backend has anything to compile; it would do so on first use."
        ),
        epilog="example:\n  fastconv warmup --backend numba",
    )
    for name in ("model", "dtype", "batch_size"):
        add_setting(parser, name, default=SETTINGS[name].of_new_run({}))
    add_settings(parser, "data", "image_size", "grey")
    add_common(parser, backend=True)


def run(options: argparse.Namespace) -> int:
    """Compile, or wait until another process has; return the exit status."""
    backend = selection.resolve(options.backend)
    if options.threads is not None:
        process.set_num_threads(options.threads)
    model, dtype, batch_size = options.model, options.dtype, options.batch_size
    shape, classes = shape_and_classes(options)
    seconds = warm_up(model, backend, dtype, batch_size, shape, classes)
    teller(options)(f"{model} is ready: {backend}, {dtype}, batch {batch_size}; {seconds:.1f} s")
    if options.json:
        print_json({"backend": backend, "model": model, "dtype": dtype, "seconds": seconds})
    return 0
