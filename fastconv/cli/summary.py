"""What ``fastconv summary`` does: a network as a table, and as a drawing."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from ..experiment.drawing import draw_network
from ..models import default_image, make_model
from ..network.summary import layer_facts, summary
from .output import print_json, show, teller

__all__ = ["run_summary"]


def run_summary(options: argparse.Namespace) -> int:
    """Print the table of a model's layers, and draw its graph where that is asked for.

    Parameters
    ----------
    options : namespace
        ``model``, ``input``, ``classes``, ``draw``, ``json``.

    Returns
    -------
    int
        The exit status.

    Raises
    ------
    ArgumentError, ShapeError
        Images that are too small for the model.
    MissingDependency
        A drawing without Matplotlib.
    """
    shape = options.input or default_image(options.model)
    network = make_model(options.model, shape, options.classes, seed=0)
    if options.json:
        facts = [dataclasses.asdict(fact) for fact in layer_facts(network, shape)]
        print_json({"model": options.model, "input": shape, "layers": facts})
    else:
        show(summary(network, shape))
    if options.draw is not None:
        size = " x ".join(map(str, shape))
        draw_network(Path(options.draw), network, shape, f"{options.model}, {size}")
        teller(options)(f"drawn: {options.draw}")
    return 0
