"""``fastconv convert``: a file of weights in another format."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..io import load_params, save_params
from .options import add_common
from .output import count, print_json, teller

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "convert",
        help="convert a file of weights to another format",
        description=(
            "Convert a file of weights: .npz, .safetensors, or the .pkl of the book's networks,\n"
            "from which only arrays of numbers are read. The file names' endings say which."
        ),
        epilog="example:\n  fastconv convert deep_convnet_params.pkl weights.safetensors",
    )
    add = parser.add_argument
    add("source", metavar="IN", help="the file to read")
    add("target", metavar="OUT", help="the file to write, or to replace once the new one is whole")
    add(
        "--allow-pickle",
        action="store_true",
        help="write a .pkl if OUT is one; whoever unpickles a file runs what is in it",
    )
    add_common(parser, backend=False)


def run(options: argparse.Namespace) -> int:
    """Write the arrays in the format that the target's name ends in; return the exit status."""
    target = Path(options.target)
    if target.suffix == ".pkl" and not options.allow_pickle:
        raise ArgumentError(
            f"{target.name}: a pickle is written only on request: add --allow-pickle, "
            "or name the file .npz or .safetensors, which cannot run code"
        )
    params = load_params(Path(options.source))
    save_params(target, params, allow_pickle=options.allow_pickle)
    numbers = sum(array.size for array in params.values())
    dtypes = sorted({str(array.dtype) for array in params.values()})
    teller(options)(
        f"{target}: {count(len(params), 'array')}, {count(numbers, 'number')} ({', '.join(dtypes)})"
    )
    if options.json:
        facts = {"output": str(target), "arrays": len(params), "numbers": numbers}
        print_json(facts | {"dtypes": dtypes})
    return 0
