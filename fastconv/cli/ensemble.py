"""``fastconv ensemble``: join trained runs to one file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import selection
from ..errors import ArgumentError
from ..experiment.ensemble import join_runs
from .options import add_common, add_settings
from .output import count, print_json, teller

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "ensemble",
        help="join trained networks to one that answers on average",
        description=(
            "Join trained runs to one file, an ensemble, whose answers are the mean of its\n"
            "members' probabilities. fastconv evaluate and predict take it."
        ),
        epilog=(
            "example:\n  fastconv ensemble runs/first runs/second --views shift=1 --out both.npz"
        ),
    )
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", help="run folders; an ensemble's adds all its members")
    add("--out", metavar="FILE", required=True, help="the .npz file to write")
    add_settings(parser, "views")
    add_common(parser, backend=False)


def run(options: argparse.Namespace) -> int:
    """Join runs to one file; return the exit status."""
    target = Path(options.out)
    if target.suffix != ".npz":
        raise ArgumentError(f"--out {target}: the name of an ensemble's file must end in .npz")
    ensemble = join_runs(options.runs, options.views, selection.resolve(None))
    ensemble.save(target)
    members, views = count(len(ensemble.members), "member"), count(len(ensemble.views), "view")
    teller(options)(f"{target}: {members}, {views}")
    if options.json:
        runs = [
            {"model": run["model"], "seed": run["seed"], "data": run["data"]}
            for run in ensemble.about["runs"]
        ]
        print_json({"output": str(target), "members": runs, "views": options.views})
    return 0
