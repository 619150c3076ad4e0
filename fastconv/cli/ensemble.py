"""What ``fastconv ensemble`` does: runs that are trained, joined to one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import selection
from ..errors import ArgumentError
from ..experiment.ensemble import join_runs
from .output import count, print_json, teller

__all__ = ["run_ensemble"]


def run_ensemble(options: argparse.Namespace) -> int:
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
