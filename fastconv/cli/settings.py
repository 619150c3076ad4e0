"""What the options of the command line ask for, as the configuration of a run."""

from __future__ import annotations

import argparse
import dataclasses
import secrets
from typing import Any

from .. import config as process
from .. import selection
from ..datasets import DATASETS
from ..errors import ArgumentError
from ..experiment.data import ImageOptions
from ..experiment.folder import LARGEST_SEED, RunConfig
from ..io.paths import user_path
from ..optimizer import OPTIMIZERS
from .output import count

__all__ = ["computed_with", "given_fields", "image_options", "new_config", "where", "with_members"]

OWN_EPOCHS = 20
"""For how long to train on images of a user's own where nobody says."""


def given_fields(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of a `RunConfig` that the user named, brought to the form they are kept in."""
    names = [field.name for field in dataclasses.fields(RunConfig)]
    every = {name: getattr(options, name, None) for name in names}
    given: dict[str, Any] = {name: value for name, value in every.items() if value is not None}
    if (data := given.get("data")) is not None and data not in DATASETS:
        place = user_path(data).absolute()
        if not place.exists():
            raise ArgumentError(
                f"--data {data}: no such file or folder, and no data set; known data sets: "
                f"{', '.join(DATASETS)}"
            )
        given["data"] = str(place)
    for name in given.keys() & {"data_dir", "init"}:
        given[name] = str(user_path(given[name]).absolute())
    if "backend" in given:
        given["backend"] = selection.resolve(given["backend"])
    return given


def with_members(given: dict[str, Any], model: str) -> dict[str, Any]:
    """What the user named, with the models of an ensemble's members: `model` where only counted.

    Raises
    ------
    ArgumentError
        A model besides those of the members.
    """
    members = given.get("members")
    if members is None:
        return given
    if isinstance(members, int):
        return given | {"members": (given.get("model", model),) * members}
    if given.get("model", members[0]) != members[0]:
        raise ArgumentError("--members names models already; leave --model out")
    return given | {"model": members[0]}


def new_config(given: dict[str, Any]) -> RunConfig:
    """What the user named, and the defaults for the rest.

    Raises
    ------
    ArgumentError
        Members of an ensemble whose seeds would be too large, or a model besides theirs.
    """
    given = with_members(given, "deepconvnet")
    largest = LARGEST_SEED - len(given.get("members", (0,))) + 1
    if given.get("seed", 0) > largest:
        raise ArgumentError(
            f"--seed {given['seed']}: each member takes the next one, and the last may be "
            f"{LARGEST_SEED}; expected at most {largest}"
        )
    data, optimizer = given.get("data", "digits"), given.get("optimizer", "adam")
    with_its_settings: Any = OPTIMIZERS[optimizer]()
    defaults: dict[str, Any] = {
        "model": "deepconvnet",
        "data": data,
        "data_dir": None,
        "epochs": DATASETS[data].epochs if data in DATASETS else OWN_EPOCHS,
        "batch_size": 100,
        "optimizer": optimizer,
        "lr": with_its_settings.lr,
        "dtype": "float32",
        "threads": process.get_num_threads(),
        "seed": secrets.randbelow(largest + 1),
        "math": process.get_math_mode(),
    }
    backend = selection.resolve(given.get("backend"))
    return RunConfig(**(defaults | given | {"backend": backend} | computed_with(backend)))


def computed_with(backend: str) -> dict[str, Any]:
    """The fields of a `RunConfig` that no option names: the process decides them."""
    isa, algorithm = selection.instruction_set(backend), process.get_conv_algorithm()
    return {"isa": isa, "algorithm": algorithm}


def image_options(options: argparse.Namespace) -> ImageOptions:
    """How images of the user's own are to be taken, where the sub-command has such options."""
    return ImageOptions(
        size=options.image_size,
        grey=options.grey,
        normalize=getattr(options, "normalize", None),
        test_share=getattr(options, "test_share", None),
        strict=getattr(options, "strict_data", False),
    )


def where(config: RunConfig) -> str:
    """By what a run computes, for people."""
    math = ", math fast" if config.math == "fast" else ""
    return f"{config.backend}, {config.dtype}, {count(config.threads, 'thread')}{math}"
