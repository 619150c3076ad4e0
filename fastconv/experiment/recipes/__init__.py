"""Recipes: whole training runs as plain TOML files, by name or by path.

A recipe's keys are those of `KEYS`, which mean what the options of ``fastconv train`` of the same
names mean; what a recipe leaves out is that command's default. A relative path in one starts from
the recipe's own folder. Nothing in it runs code.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ArgumentError, DataCorrupt, DataNotFound
from ...io.paths import user_path

__all__ = ["ABOUT", "KEYS", "Recipe", "find_recipe", "named_recipes"]

LARGEST = 2**63 - 1
"""The largest whole number that TOML asks readers for."""

PLACE = Path(__file__).parent

ABOUT = "about"
"""The key that every recipe has: in one line, what it is for."""

WORDS: dict[str, tuple[type, ...]] = {
    "a string": (str,),
    "a whole number": (int,),
    "a number": (int, float),
    "true or false": (bool,),
    "a whole number or a list of names": (int, list),
    "a whole number or a string": (int, str),
}

KEYS = {
    ABOUT: "a string",
    "model": "a string",
    "members": "a whole number or a list of names",
    "data": "a string",
    "data_dir": "a string",
    "image_size": "a whole number or a string",
    "grey": "true or false",
    "normalize": "true or false",
    "test_share": "a number",
    "epochs": "a whole number",
    "batch_size": "a whole number",
    "optimizer": "a string",
    "lr": "a number",
    "schedule": "a string",
    "rise": "a number",
    "augment": "a string",
    "weight_decay": "a number",
    "label_smoothing": "a number",
    "clip_norm": "a number",
    "ema": "a number",
    "swa": "a whole number",
    "validation": "a number",
    "patience": "a whole number",
    "init": "a string",
    "freeze": "a string",
    "views": "a string",
    "dtype": "a string",
    "math": "a string",
    "backend": "a string",
    "threads": "a whole number",
    "seed": "a whole number",
}
"""What a recipe may say, and what kind of value each key takes."""


@dataclass(frozen=True)
class Recipe:
    """A recipe as its file says it; see `find_recipe`.

    Attributes
    ----------
    name : str
        Of a recipe of the package, the word that finds it; else its path.
    path : Path
    settings : dict
        By key, values of the kinds that `KEYS` names; without ``about``.
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
            )
        return _read(name, named[name])
    path = user_path(name).absolute()
    if not path.is_file():
        raise DataNotFound(f"{name}: no such file")
    return _read(str(path), path)


def _read(name: str, path: Path) -> Recipe:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of numbers of thousands of digits, too
        raise DataCorrupt(f"{path}: not TOML: {error}") from None
    for key, value in table.items():
        if key not in KEYS:
            raise DataCorrupt(f"{path}: unknown key {key!r}; known: {', '.join(KEYS)}")
        kinds = WORDS[KEYS[key]]
        # A bool is an int to Python, and not to anybody else.
        fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        if not fits or (isinstance(value, list) and not _names(value)):
            raise DataCorrupt(f"{path}: {key} is {_shown(value)}, expected {KEYS[key]}")
        if type(value) is int and not -LARGEST <= value <= LARGEST:
            raise DataCorrupt(f"{path}: {key} is a number of more than 64 bits")
    if ABOUT not in table:
        raise DataCorrupt(f"{path}: {ABOUT} is missing: in one line, what the recipe is for")
    return Recipe(name, path, table, table.pop(ABOUT))


def _shown(value: Any) -> str:
    """A value as messages show it: nothing that TOML can hold is too large for one."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a number of more than 64 bits"
    return repr(value)


def _names(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, str) for value in values)
