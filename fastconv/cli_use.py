"""What ``fastconv evaluate`` and ``fastconv predict`` do: trained networks put to use."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import config as process
from . import selection
from .cli_config import given_fields, new_config, where
from .cli_output import complain, one_line, print_json, shows_progress, teller
from .datasets import DATASETS
from .errors import ArgumentError, DataCorrupt, DataNotFound
from .evaluation import draw_evaluation, evaluate, load_network
from .functions import softmax
from .run_data import data_name, image_facts, load_for_test, prepare_picture
from .run_folder import RunConfig, RunFolder

__all__ = ["run_evaluate", "run_predict"]

MOST_SHARES = 10
"""Classes whose shares a line lists; of more, the likeliest."""
FEW_SHARES = 5


def _trained(options: argparse.Namespace) -> tuple[RunConfig, Path, RunFolder | None]:
    """Configuration and weights file of what was named, and its run folder if it is one.

    A weights file says neither its model nor its data set: the options do. Of a run, both
    are known, and backend and threads are chosen anew.
    """
    given = given_fields(options)
    path = Path(options.run).expanduser()
    folder = None
    now: dict[str, Any] = {
        "backend": selection.resolve(None),
        "threads": process.get_num_threads(),
    }
    if path.is_dir():
        if "model" in given:
            raise ArgumentError("--model is for weights files; a run knows its own")
        folder = RunFolder(path)
        stored = folder.read_config()
        # What it is tested on is not what it was trained on: the run's data stay its own.
        how = {name: value for name, value in given.items() if name not in ("data", "data_dir")}
        config = dataclasses.replace(stored, **(now | how))
        weights = folder.weights
    elif path.exists():
        if given.get("data", "digits") not in DATASETS:
            raise ArgumentError(
                f"{path}: weights alone do not say to what size and colours images are to be "
                "brought: name the run's folder"
            )
        config = new_config(now | given)
        weights = path
    else:
        raise ArgumentError(f"{path} does not exist: expected a run folder or a weights file")
    process.set_num_threads(config.threads)
    return config, weights, folder


def run_evaluate(options: argparse.Namespace) -> int:
    """Test a trained network, draw what it got wrong; return the exit status."""
    say = teller(options)
    config, weights, folder = _trained(options)
    if folder is None and options.data is None:
        raise ArgumentError("a weights file does not say what it was trained on: name it by --data")
    network = load_network(config, weights)
    given = given_fields(options)
    data = given.get("data", config.data)
    data_dir = given.get("data_dir", config.data_dir if data == config.data else None)
    images = load_for_test(
        config, data, data_dir, strict=options.strict_data, progress=shows_progress(), say=say
    )
    started = time.perf_counter()
    test = images.test
    result = evaluate(network, test.images, test.labels, len(images.class_names))
    seconds = time.perf_counter() - started
    speed = result.total / seconds
    say(
        f"{data_name(data)}: test accuracy {100 * result.accuracy:.2f} % "
        f"({result.correct}/{result.total}), {seconds:.2f} s, {speed:,.0f} images/s; "
        f"{where(config)}"
    )
    place = RunFolder(options.out) if options.out is not None else folder
    drawn: list[Path] = []
    if place is None:
        say("no pictures: name a folder for them by --out")
    else:
        place.path.mkdir(parents=True, exist_ok=True)
        files = (place.mistakes, place.confusion)
        drawn = draw_evaluation(result, test.images, image_facts(config), *files, say)
        for path in drawn:
            say(f"drawn: {path}")
    if options.json:
        print_json(
            {
                "test_accuracy": result.accuracy,
                "correct": result.correct,
                "total": result.total,
                "seconds": seconds,
                "images_per_second": speed,
                "confusion": result.confusion.tolist(),
                "classes": images.class_names,
                "unreadable": [str(file) for file in images.unreadable],
                "pictures": [str(path) for path in drawn],
                "data": data,
            }
            | {name: getattr(config, name) for name in ("model", *_HOW)}
        )
    return 0


_HOW = ("backend", "dtype", "threads")


def run_predict(options: argparse.Namespace) -> int:
    """Let a trained network read pictures; return the exit status."""
    say = teller(options)
    config, weights, _ = _trained(options)
    network = load_network(config, weights)
    facts = image_facts(config)
    names = facts.class_names
    predictions: list[dict[str, Any]] = []
    for path in options.images:
        try:
            image = prepare_picture(path, facts)
        except (DataCorrupt, DataNotFound) as error:
            complain("predict", one_line(error))
            predictions.append({"file": path, "error": str(error)})
            continue
        shares = softmax(network.predict(image[None])[0].astype(np.float64))
        label = names[int(shares.argmax())]
        probabilities = dict(zip(names, shares.tolist(), strict=True))
        predictions.append({"file": path, "label": label, "probabilities": probabilities})
        say(f"{path}: {label}")
        many = len(names) > MOST_SHARES
        shown = np.argsort(-shares)[:FEW_SHARES] if many else np.arange(len(names))
        say("   " + "".join(f"  {names[i]}: {100 * shares[i]:.2f} %" for i in shown))
    if options.json:
        how = {name: getattr(config, name) for name in ("model", *_HOW)}
        print_json({"predictions": predictions} | how)
    return 1 if any("error" in prediction for prediction in predictions) else 0
