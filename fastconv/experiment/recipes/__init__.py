"""Recipes: whole training runs as plain TOML files, by name or by path.

A recipe's keys are those of `KEYS`. They mean what the options of ``fastconv train`` of the same
names mean (`fastconv.experiment.settings`); what a recipe leaves out has that command's default. A
relative path starts from the recipe's own folder. Nothing in a recipe runs code.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ArgumentError, DataCorrupt, DataNotFound, suggestion
from ...io.paths import user_path
from ..setting import Setting
from ..settings import SETTINGS

__all__ = ["ABOUT", "KEYS", "Recipe", "find_recipe", "named_recipes"]

LARGEST = 2**63 - 1
"""The largest whole number that TOML requires readers to accept."""

PLACE = Path(__file__).parent

ABOUT = "about"
"""The key that every recipe must have: in one line, what it is for."""

KEYS = {ABOUT: Setting(help="in one line, what the recipe is for", name=ABOUT, kind=str)} | {
    name: each for name, each in SETTINGS.items() if each.in_recipes and not each.found
}
"""The keys that a recipe may have."""


@dataclass(frozen=True)
class Recipe:
    """A recipe as read from its file; see `find_recipe`.

    Attributes
    ----------
    name : str
        The name of a recipe of the package; the path of any other.
    path : Path
    settings : dict
        By key, in the form of the command line's options; without ``about``.
    about : str
    """

    name: str
    path: Path
    settings: dict[str, Any]
    about: str

    @property
    def text(self) -> str:
        """The file, with its comments."""
        return self.path.read_text(encoding="utf-8")

    def beside(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe's settings that still apply beside those that the user gives."""
        settings = {
            key: value
            for key, value in self.settings.items()
            if not {key, KEYS[key].belongs_to, KEYS[key].instead_of} & given.keys()
        }
        if "model" in given and isinstance(settings.get("members"), tuple):
            settings["members"] = len(settings["members"])
        if isinstance(given.get("members"), tuple):
            settings.pop("model", None)
        return settings


def named_recipes() -> dict[str, Path]:
    """Return the files of the package's recipes, by name."""
    return {path.stem: path for path in sorted(PLACE.glob("*.toml"))}


def find_recipe(name: str) -> Recipe:
    """Read a recipe: one of the package, by its name, or a file whose path ends in ``.toml``.

    Raises
    ------
    ArgumentError
        No such name.
    DataNotFound, DataCorrupt
        No such file, or one that is not a recipe; the message names file, key, what was found
        and what was expected.
    """
    if not name.endswith(".toml"):
        named = named_recipes()
        if name not in named:
            raise ArgumentError(
                f"unknown recipe {name!r}; known: {', '.join(named)}, or the path of a .toml file"
                f"{suggestion(name, named)}"
            )
        return _read(name, named[name])
    path = user_path(name).absolute()
    if not path.is_file():
        raise DataNotFound(f"{name}: no such file")
    return _read(str(path), path)


def _read(name: str, path: Path) -> Recipe:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also from numbers of thousands of digits
        raise DataCorrupt(f"{path}: not TOML: {error}") from None
    settings = {}
    for key, value in table.items():
        if key not in KEYS:
            raise DataCorrupt(
                f"{path}: unknown key {key!r}; known: {', '.join(KEYS)}{suggestion(key, KEYS)}"
            )
        if type(value) is int and not -LARGEST <= value <= LARGEST:
            raise DataCorrupt(f"{path}: {key} is a number of more than 64 bits")
        try:
            said = KEYS[key].of_recipe(value, path.parent)
        except ArgumentError as error:
            raise DataCorrupt(f"{path}: {error}") from None
        if said is not None:
            settings[key] = said
    both = [(key, other) for key in settings if (other := KEYS[key].instead_of) in settings]
    if isinstance(settings.get("members"), tuple) and "model" in settings:
        both.append(("model", "members"))
    for one, other in both:
        raise DataCorrupt(f"{path}: {one} and {other} both say the same thing: leave one out")
    if ABOUT not in settings:
        raise DataCorrupt(f"{path}: {ABOUT} is missing: in one line, what the recipe is for")
    return Recipe(name, path, settings, settings.pop(ABOUT))
