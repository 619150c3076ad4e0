"""``fastconv ensemble``: join trained runs to one file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import selection
from ..errors import ArgumentError
from ..experiment.apart import validation_images
from ..experiment.ensemble import join_runs
from ..experiment.evaluate import evaluate
from ..experiment.members import fitted_weights
from ..experiment.networks import runs_of
from ..info import as_table
from ..models.ensemble import Ensemble
from ..progress import shows_progress
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
    add(
        "--fit-weights",
        action="store_true",
        help="let each member count as the images that the runs have set apart by --validation "
        "show to be best (default: all alike)",
    )
    add_common(parser, backend=False)


def run(options: argparse.Namespace) -> int:
    """Join runs to one file; return the exit status."""
    target = Path(options.out)
    if target.suffix != ".npz":
        raise ArgumentError(f"--out {target}: the name of an ensemble's file must end in .npz")
    ensemble = join_runs(options.runs, options.views, selection.resolve(None))
    say = teller(options)
    if options.fit_weights:
        ensemble = _fitted(ensemble, say)
    ensemble.save(target)
    members, views = count(len(ensemble.members), "member"), count(len(ensemble.views), "view")
    say(f"{target}: {members}, {views}")
    if options.json:
        runs = [
            {"model": run["model"], "seed": run["seed"], "data": run["data"]}
            for run in ensemble.about["runs"]
        ]
        print_json(
            {"output": str(target), "members": runs, "views": options.views}
            | {"weights": ensemble.weights}
        )
    return 0


def _fitted(ensemble: Ensemble, say: Callable[[str], None]) -> Ensemble:
    """The ensemble with weights that fit the images that its members' runs have set apart."""
    if len(ensemble.members) == 1:
        raise ArgumentError("--fit-weights: one network alone has no weight among others")
    config = replace(runs_of(ensemble)[0], backend=selection.resolve(None))
    progress = shows_progress()
    images = validation_images(ensemble, config, progress=progress, say=say)
    alike = evaluate(ensemble, images, config.backend, progress)
    assert alike.members is not None
    weights = fitted_weights(alike.members)
    fitted = Ensemble(ensemble.members, ensemble.views, ensemble.about, weights.tolist())
    after = evaluate(fitted, images, config.backend, progress)
    models = [run.model for run in runs_of(ensemble)]
    rows = [
        {"member": str(number), "model": model, "weight": f"{weight:.3f}"}
        for number, (model, weight) in enumerate(zip(models, weights, strict=True), start=1)
    ]
    say(as_table(rows))
    errors = [result.total - result.correct for result in (alike, after)]
    say(
        f"of {after.total} images set apart, {errors[0]} are misread with members that count "
        f"alike, {errors[1]} with these weights, which were fitted to them"
    )
    return fitted
