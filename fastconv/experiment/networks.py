"""Make the networks of runs, and read them back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from ..errors import ArgumentError, DataCorrupt, DataNotFound
from ..io.records import record_of
from ..models import make_empty_model, make_model
from ..models.ensemble import Ensemble
from ..network import Network
from ..network.views import Views
from .settings import RunConfig

__all__ = [
    "build_network",
    "expect_networks",
    "load_alone",
    "load_ensemble",
    "load_network",
    "runs_of",
]


def build_network(config: RunConfig) -> Network:
    """Make the network of a run, with its first weights."""
    return _made(config, partial(make_model, seed=config.seed))


def expect_networks(configs: Sequence[RunConfig]) -> None:
    """Raise what `build_network` raises for one of several runs, before any of them begins."""
    for config in {config.model: config for config in configs}.values():
        _made(config, partial(make_empty_model, config.model))


def _made(config: RunConfig, make: Callable[..., Network]) -> Network:
    facts, how = config.facts, {"dtype": config.dtype, "backend": config.backend}
    return make(config.model, facts.shape, len(facts.class_names), **how)


def load_network(config: RunConfig, weights: Path) -> Network:
    """Make the network of a run with the weights of a file (``.npz``, or the book's ``.pkl``).

    Raises
    ------
    DataNotFound, DataCorrupt, UnsafePickle, WeightsError
        No such file, not a file of weights, or weights of another network.
    """
    if not weights.is_file():
        raise DataNotFound(f"{weights}: no weights: the run has not finished an epoch yet")
    network = _made(config, partial(make_empty_model, str(weights)))
    network.load_params(weights)
    return network


def load_alone(config: RunConfig, weights: Path) -> Ensemble:
    """`load_network`, as an ensemble of one with the views of its configuration."""
    return Ensemble([load_network(config, weights)], Views.parse(config.views).views)


def runs_of(ensemble: Ensemble) -> list[RunConfig]:
    """The members' own runs, as an ensemble's file says; empty if it was made in Python."""
    if not ensemble.about:
        return []
    return record_of(ensemble.about, _About, "the ensemble: its runs").runs


@dataclass(frozen=True)
class _About:
    """What an ensemble's file says about its members' runs."""

    runs: Annotated[list[RunConfig], Meta(min_length=1)]
    views: str | None


def load_ensemble(
    path: str | PathLike[str], backend: str | None
) -> tuple[Ensemble, RunConfig | None]:
    """Read an ensemble and the run of its first member, with ``members`` and ``views`` of all.

    The run is None if the file was saved in Python, and does not describe it.

    Raises
    ------
    DataNotFound, DataCorrupt
        No such file, or not one of an ensemble.
    """
    ensemble = Ensemble.load(path, backend)
    if not ensemble.about:
        return ensemble, None
    about = record_of(ensemble.about, _About, f"{path}: its runs")
    try:
        Views.parse(about.views)
    except ArgumentError as error:
        raise DataCorrupt(f"{path}: {error}") from None
    models = tuple(run.model for run in about.runs)
    return ensemble, dataclasses.replace(about.runs[0], members=models, views=about.views)
