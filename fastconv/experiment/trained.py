"""Load trained networks from a path: a run folder, an ensemble's file, or weights."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from numpy.typing import DTypeLike

from .. import config as process
from .. import selection
from ..errors import ArgumentError, DataNotFound
from ..io.paths import user_path
from ..models import default_image, make_empty_model
from ..models.ensemble import Ensemble, is_ensemble_file
from ..network import PreparedNetwork
from ..network.views import View, Views
from .data import Data
from .folder import RunFolder, noting
from .networks import load_alone, load_ensemble
from .settings import RunConfig, new_config, set_process

__all__ = ["load_prepared", "read_trained"]


def load_prepared(
    path: str | PathLike[str],
    batch_size: int = 1,
    *,
    model: str | None = None,
    input_dim: Sequence[int] | None = None,
    classes: int = 10,
    dtype: DTypeLike = "float32",
    backend: str | None = None,
    algorithms: Literal["rule", "measured"] = "rule",
) -> PreparedNetwork | Ensemble:
    """Load a trained network, ready to predict.

    Parameters
    ----------
    path : path
        A run folder, an ensemble's file, or a file of weights.
    batch_size : int
        The most images that one call will bring.
    model, input_dim, classes, dtype
        For a file of weights, which does not name its network: the arguments of
        `fastconv.models.make_model`. By default, `input_dim` (C, H, W) is that of a digit, or of
        a photograph for models that need larger images.
    backend : str, optional
        None follows the surrounding choice.
    algorithms : {"rule", "measured"}
        As for `Network.prepare`.

    Returns
    -------
    PreparedNetwork or Ensemble
        What `Network.prepare` returns; an ensemble of these if several members answer, or one
        answers on several views of an image. Both have `predict`, `predict_proba` and
        `accuracy`. They take images in the form that the network was trained on.

    Raises
    ------
    ArgumentError
        No such path; weights without a model; or a model for a path that knows its own.
    DataNotFound, DataCorrupt, UnsafePickle, WeightsError
        A run without weights yet, a damaged file, or weights of another network.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.DeepConvNet(seed=0).save_params("digits.npz")
    >>> prepared = fastconv.load_prepared("digits.npz", model="deepconvnet")
    >>> prepared.predict_proba(np.zeros((1, 1, 28, 28))).shape
    (1, 10)
    """
    place = user_path(path)
    own = place.is_dir() or is_ensemble_file(place)
    if own and (model is not None or input_dim is not None):
        raise ArgumentError(
            f"load_prepared: {place} knows its own model: leave out model and input_dim"
        )
    if place.is_dir():
        folder = RunFolder(place)
        stored = folder.read_config()
        if stored.members is None:
            with noting(folder.config_file):
                ensemble = load_alone(stored, folder.weights)
            ensemble.members[0].backend = backend  # not the one that it was trained on
        else:
            ensemble = load_ensemble(_ensemble_file(folder), backend)[0]
    elif own:
        ensemble = load_ensemble(place, backend)[0]
    elif not place.exists():
        raise _nothing(place)
    elif model is None:
        raise ArgumentError(
            f"load_prepared: {place}: weights do not say what network they are of: name it, such "
            "as model='deepconvnet', with input_dim and classes where they are not a digit's"
        )
    else:
        shape = default_image(model) if input_dim is None else tuple(input_dim)
        network = make_empty_model(
            *(str(place), model, shape, classes), dtype=dtype, backend=backend
        )
        network.load_params(place)
        ensemble = Ensemble([network])
    shape = (batch_size, *ensemble.members[0].spec["input_dim"])
    prepared = ensemble.prepare(shape, copy=False, algorithms=algorithms)
    alone = len(prepared.members) == 1 and prepared.views == (View(),)
    return prepared.members[0] if alone else prepared


def _nothing(path: Path) -> ArgumentError:
    return ArgumentError(
        f"{path} does not exist: expected a run folder, an ensemble or a weights file"
    )


def _ensemble_file(folder: RunFolder) -> Path:
    """The file of a run of several members; `DataNotFound` before it is written."""
    if not folder.ensemble.exists():
        again = f"fastconv train --resume {shlex.quote(str(folder.path))}"
        raise DataNotFound(
            f"{folder.ensemble}: no ensemble: not all members are trained yet; {again} goes "
            f"on, and {folder.member(1).path} and the like are members' own runs"
        )
    return folder.ensemble


def read_trained(
    named: str, given: dict[str, Any], *, tests: bool
) -> tuple[RunConfig, Ensemble, RunFolder | None]:
    """Return its configuration, its networks with their views, and its folder if it has one.

    A weights file names neither its model nor its data set: the fields that the user gives do
    (`given`), and must for a test. A run knows both; only backend and threads are chosen anew.

    Raises
    ------
    ArgumentError
        No such path, or fields that do not apply to it.
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
        return *_ensemble(_ensemble_file(folder), given), folder
    if not path.exists():
        raise _nothing(path)
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
    """A run's configuration, with the fields that are chosen anew."""
    if "model" in given:
        raise ArgumentError("--model is for weights files; a run and an ensemble know their own")
    now: dict[str, Any] = {
        "backend": selection.resolve(None),
        "threads": process.get_num_threads(),
        "math": process.get_math_mode() if stored.math is None else stored.math,
    }
    # The data to test on need not be those of the training, which the configuration keeps.
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
    views = Views.parse(config.views).views
    return config, Ensemble(ensemble.members, views, ensemble.about, ensemble.weights)
