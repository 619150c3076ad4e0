"""What ``fastconv evaluate`` and ``fastconv predict`` do: trained networks put to use."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np

from .. import config as process
from .. import selection
from ..datasets import DATASETS
from ..datasets.record import printable
from ..errors import ArgumentError, DataCorrupt, DataNotFound
from ..experiment.data import data_name, image_facts, load_for_test, prepare_picture
from ..experiment.ensemble import load_ensemble
from ..experiment.evaluate import draw_evaluation, evaluate, load_network
from ..experiment.folder import RunConfig, RunFolder, noting
from ..io.atomic import make_folder
from ..io.paths import user_path
from ..models.ensemble import Ensemble, is_ensemble_file
from ..network.views import Views
from .output import complain, count, one_line, print_json, shows_progress, teller
from .settings import given_fields, new_config, where

__all__ = ["run_evaluate", "run_predict"]

MOST_SHARES = 10
"""Classes whose shares a line lists; of more, the likeliest."""
FEW_SHARES = 5


def _trained(
    options: argparse.Namespace, *, tests: bool
) -> tuple[RunConfig, Ensemble, RunFolder | None]:
    """What was named: its configuration, its networks with their views, its folder if it has one.

    A weights file says neither its model nor its data set: the options do, and for a test have
    to. Of a run, both are known, and backend and threads are chosen anew.
    """
    given = given_fields(options)
    path = user_path(options.run)
    if path.is_dir():
        folder = RunFolder(path)
        stored = folder.read_config()
        if stored.members is None:
            config = _as_stored(stored, given)
            with noting(folder.config_file):
                return config, _alone(config, folder.weights), folder
        if not folder.ensemble.exists():
            again = f"fastconv train --resume {shlex.quote(str(path))}"
            raise DataNotFound(
                f"{folder.ensemble}: no ensemble: not all members are trained yet; {again} goes "
                f"on, and {folder.member(1).path} and the like are members' own runs"
            )
        return *_ensemble(folder.ensemble, given), folder
    if not path.exists():
        raise ArgumentError(
            f"{path} does not exist: expected a run folder, an ensemble or a weights file"
        )
    if is_ensemble_file(path):
        return *_ensemble(path, given), None
    if given.get("data", "digits") not in DATASETS:
        raise ArgumentError(
            f"{path}: weights alone do not say to what size and colours images are to be "
            "brought: name the run's folder"
        )
    if tests and options.data is None:
        raise ArgumentError("a weights file does not say what it was trained on: name it by --data")
    config = new_config(given)
    _set_process(config)
    return config, _alone(config, path), None


def _as_stored(stored: RunConfig, given: dict[str, Any]) -> RunConfig:
    """A run's configuration, with what is chosen anew."""
    if "model" in given:
        raise ArgumentError("--model is for weights files; a run and an ensemble know their own")
    now: dict[str, Any] = {
        "backend": selection.resolve(None),
        "threads": process.get_num_threads(),
        "math": process.get_math_mode() if stored.math is None else stored.math,
    }
    # What it is tested on is not what it was trained on: the run's data stay its own.
    how = {name: value for name, value in given.items() if name not in ("data", "data_dir")}
    config = dataclasses.replace(stored, **(now | how))
    _set_process(config)
    return config


def _set_process(config: RunConfig) -> None:
    process.set_num_threads(config.threads)
    process.set_math_mode(config.math)


def _alone(config: RunConfig, weights: Path) -> Ensemble:
    """One network, in the views of its configuration."""
    return Ensemble([load_network(config, weights)], Views.parse(config.views).views)


def _ensemble(path: Path, given: dict[str, Any]) -> tuple[RunConfig, Ensemble]:
    """An ensemble's file, and the configuration of its first member."""
    backend = given.get("backend", selection.resolve(None))
    ensemble, stored = load_ensemble(path, backend)
    if stored is None:
        raise ArgumentError(
            f"{path}: saved in Python, it does not say what it was trained on; "
            "use fastconv.models.ensemble.Ensemble.load"
        )
    config = _as_stored(stored, given)
    return config, Ensemble(ensemble.members, Views.parse(config.views).views)


def run_evaluate(options: argparse.Namespace) -> int:
    """Test a trained network, draw what it got wrong; return the exit status."""
    say = teller(options)
    config, ensemble, folder = _trained(options, tests=True)
    given = given_fields(options)
    data = given.get("data", config.data)
    data_dir = given.get("data_dir", config.data_dir if data == config.data else None)
    progress = shows_progress()
    images = load_for_test(
        config, data, data_dir, strict=options.strict_data, progress=progress, say=say
    )
    started = time.perf_counter()
    test = images.test
    result = evaluate(ensemble, test.images, test.labels, backend=config.backend, progress=progress)
    seconds = time.perf_counter() - started
    speed = result.total / seconds
    asked = _asked(ensemble)
    say(
        f"{data_name(data)}: test accuracy {100 * result.accuracy:.2f} % "
        f"({result.correct}/{result.total}), {seconds:.2f} s, {speed:,.0f} images/s; "
        f"{where(config)}{asked}"
    )
    drawn: list[Path] = []
    place = folder if options.out is None else RunFolder(options.out)
    if place is None:
        say("no pictures: name a folder for them by --out")
    elif options.out is None and not _own_test(place, config, data):
        say(
            f"no pictures: those in {place.path} are of the run's own data and views; "
            "name a folder for others by --out"
        )
    else:
        make_folder(place.path)
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
            | {name: getattr(config, name) for name in _HOW}
        )
    return 0


def _own_test(folder: RunFolder, config: RunConfig, data: str) -> bool:
    """Whether this is the test that the run in the folder ended with."""
    own = folder.read_config()
    return (data, Views.parse(config.views)) == (own.data, Views.parse(own.views))


_HOW = ("model", "members", "views", "backend", "dtype", "threads", "math")


def _asked(ensemble: Ensemble) -> str:
    """How many answer, on how many views, where it is not one network on the image alone."""
    parts = {"member": len(ensemble.members), "view": len(ensemble.views)}
    return "".join(f"; {count(number, what)}" for what, number in parts.items() if number > 1)


def run_predict(options: argparse.Namespace) -> int:
    """Let a trained network read pictures; return the exit status."""
    say = teller(options)
    config, ensemble, _ = _trained(options, tests=False)
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
        with selection.use_backend(config.backend):
            shares = ensemble.probabilities(image[None])[0]
        label = names[int(shares.argmax())]
        probabilities = dict(zip(names, shares.tolist(), strict=True))
        predictions.append({"file": path, "label": label, "probabilities": probabilities})
        say(f"{printable(path)}: {label}")
        many = len(names) > MOST_SHARES
        shown = np.argsort(-shares)[:FEW_SHARES] if many else np.arange(len(names))
        say("   " + "".join(f"  {names[i]}: {100 * shares[i]:.2f} %" for i in shown))
    if options.json:
        how = {name: getattr(config, name) for name in _HOW}
        print_json({"predictions": predictions} | how)
    return 1 if any("error" in prediction for prediction in predictions) else 0
