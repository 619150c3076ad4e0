"""The images that trained networks were watched on: none of them has learned from these."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ..datasets.record import ImageSet
from ..errors import ArgumentError
from ..models.ensemble import Ensemble
from .data import ImageOptions
from .networks import runs_of
from .settings import RunConfig
from .train import prepare, set_apart

__all__ = ["validation_images"]


def validation_images(
    ensemble: Ensemble, config: RunConfig, *, progress: bool, say: Callable[[str], None]
) -> ImageSet:
    """Return the images that no member has learned from, though they are not the test's.

    They stand where an `ImageSet` has those of its test, so that `evaluate` takes them.

    Raises
    ------
    ArgumentError
        A run has set none apart, or two runs have set others apart.
    DataNotFound, DataCorrupt, MissingDependency
        As `prepare` says.
    """
    runs = runs_of(ensemble) or [config]
    first = runs[0]
    for run in runs[1:]:
        same_split = first.validation is None or run.split_seed == first.split_seed
        if run.validation != first.validation or not same_split:
            raise ArgumentError(
                f"the members' runs have set other images apart: --validation {first.validation} "
                f"by the seed {first.split_seed}, and {run.validation} by {run.split_seed}; one "
                "has learned from what another has not: train them with one --data-seed"
            )
    how = {name: getattr(config, name) for name in ("data_dir", "backend", "threads", "math")}
    run = dataclasses.replace(first, **how)
    prepared, data = prepare(run, ImageOptions(), progress=progress, say=say)
    apart = set_apart(data, prepared)[1]
    if apart is None:
        raise ArgumentError("the run has set no images apart: train it with --validation SHARE")
    return dataclasses.replace(data, test=apart)
