"""What a path names that is trained: a run folder, an ensemble's file, or weights."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from .. import config as process
from .. import selection
from ..errors import ArgumentError, DataNotFound
from ..io.paths import user_path
from ..models.ensemble import Ensemble, is_ensemble_file
from ..network.views import Views
from .data import Data
from .ensemble import load_ensemble
from .evaluate import load_alone
from .folder import RunFolder, noting
from .settings import RunConfig, new_config, set_process

__all__ = ["read_trained"]


def read_trained(
    named: str, given: dict[str, Any], *, tests: bool
) -> tuple[RunConfig, Ensemble, RunFolder | None]:
    """Return its configuration, its networks with their views, its folder if it has one.

    A weights file says neither its model nor its data set: `given`, the fields that the user
    names, does, and for a test has to. Of a run, both are known, and backend and threads are
    chosen anew.

    Raises
    ------
    ArgumentError
        Nothing of this name, or fields that it has no use for.
    DataNotFound, DataCorrupt, UnsafePickle, WeightsError
        As `load_alone` and `load_ensemble` say.
    """
    path = user_path(named)
    if path.is_dir():
        folder = RunFolder(path)
        stored = folder.read_config()
        if stored.members is None:
            config = _as_stored(stored, given)
            with noting(folder.config_file):
                return config, load_alone(config, folder.weights), folder
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
    if "data" in given and Data(given["data"]).own:
        raise ArgumentError(
            f"{path}: weights alone do not say to what size and colours images are to be "
            "brought: name the run's folder"
        )
    if tests and "data" not in given:
        raise ArgumentError("a weights file does not say what it was trained on: name it by --data")
    config = new_config(given)
    set_process(config)
    return config, load_alone(config, path), None


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
    set_process(config)
    return config


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
