"""Options that several commands share: the settings of a run, and how to print."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from ..experiment.data import Data, ImageOptions
from ..experiment.settings import SETTINGS, RunConfig
from ..io.records import type_in_words
from ..network.prepared import CHOOSERS
from ..progress import shows_progress
from .types import typed

__all__ = [
    *("COMPUTED_BY", "RUN_HELP", "add_algorithms", "add_common", "add_setting", "add_settings"),
    *("given_fields", "image_options", "shape_and_classes"),
]

COMPUTED_BY = ("backend", "threads", "math")
"""The settings that say where and how to compute."""

RUN_HELP = (
    "a run folder, an ensemble's file, or weights: a .npz, .safetensors or .pkl, or Keras's "
    ".weights.h5 or .keras"
)


def add_settings(parser: Any, *names: str) -> None:
    """Add the options of settings from the table; options that are not given are None."""
    groups: dict[frozenset[str], Any] = {}
    for name in names:
        place, other = parser, SETTINGS[name].instead_of
        if other is not None:
            pair = frozenset((name, other))
            if pair not in groups:
                groups[pair] = parser.add_mutually_exclusive_group()
            place = groups[pair]
        add_setting(place, name)


def add_setting(parser: Any, name: str, **changes: Any) -> None:
    """Add the option of one setting, with `changes` of argparse's arguments."""
    setting = SETTINGS[name]
    how: dict[str, Any] = {"help": setting.help}
    if setting.flag:
        how |= {"action": "store_true", "default": None}
    elif (words := type_in_words(setting.written or setting.kind)) == "true or false":
        how["action"] = argparse.BooleanOptionalAction
    else:
        how["type"] = typed(setting.of_text, words.removeprefix("a "))
        how["metavar"] = setting.metavar
        if setting.choices:
            how["choices"] = setting.choices
    parser.add_argument(setting.option, **(how | changes))


def add_algorithms(parser: Any) -> None:
    """``--algorithms``: what chooses those of a prediction's convolutions."""
    parser.add_argument(
        "--algorithms",
        choices=CHOOSERS,
        default=CHOOSERS[0],
        help="choose how convolutions are computed by a rule (default), or by the times measured "
        "here, which are kept",
    )


def add_common(parser: Any, *, backend: bool) -> None:
    """``--json`` and ``--debug``; with `backend`, also where and how to compute."""
    if backend:
        add_settings(parser, *COMPUTED_BY)
    parser.add_argument(
        "--json", action="store_true", help="end standard output with one JSON object"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def given_fields(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of a `RunConfig` that the user gave, in the form in which a run keeps them."""
    named = {
        field.name: getattr(options, field.name, None) for field in dataclasses.fields(RunConfig)
    }
    given = {name: value for name, value in named.items() if value is not None}
    return {name: SETTINGS[name].settled(value) for name, value in given.items()}


def image_options(options: argparse.Namespace) -> ImageOptions:
    """How to read the user's own images, if the command has such options."""
    names = [field.name for field in dataclasses.fields(ImageOptions)]
    return ImageOptions(**{name: getattr(options, name, None) for name in names})


def shape_and_classes(options: argparse.Namespace) -> tuple[tuple[int, int, int], int]:
    """The shape and number of classes of the images that ``--data`` names."""
    data = Data(given_fields(options).get("data", SETTINGS["data"].new))
    return data.shape(image_options(options), shows_progress())
