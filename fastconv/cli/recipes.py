"""What ``fastconv recipes`` shows, and what ``fastconv train --recipe`` takes from a recipe."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from ..datasets import DATASETS
from ..errors import ArgumentError, DataCorrupt
from ..experiment.recipes import Recipe, find_recipe, named_recipes
from ..info import as_table
from ..io.paths import user_path
from .options_train import add_train_options
from .output import print_json, show
from .parser import Parser

__all__ = ["apply_recipe", "run_recipes"]

PUTS_ASIDE = {
    "data": ("data_dir", "image_size", "grey", "normalize", "test_share"),
    "schedule": ("rise",),
    "ema": ("swa",),
    "swa": ("ema",),
}
"""What in a recipe has no meaning any more once an option is given beside it."""


class _Checker(Parser):
    """The options of ``train``, for a recipe's values: what is wrong is raised."""

    def error(self, message: str) -> NoReturn:
        """Raise what would end the command."""
        raise ArgumentError(message)


def apply_recipe(options: argparse.Namespace) -> None:
    """Give the options of ``train`` that were not given the values of ``options.recipe``.

    Raises
    ------
    ArgumentError, DataNotFound, DataCorrupt
        As `find_recipe` says, or a value that the option of the key's name does not take.
    """
    recipe = find_recipe(options.recipe)
    settings = _checked(recipe)
    for option, keys in PUTS_ASIDE.items():
        if getattr(options, option) is not None:
            settings = {key: value for key, value in settings.items() if key not in keys}
    if options.model is not None and isinstance(settings.get("members"), tuple):
        settings["members"] = len(settings["members"])
    if isinstance(options.members, tuple):
        settings.pop("model", None)
    for key, value in settings.items():
        if getattr(options, key) is None:
            setattr(options, key, value)
    options.recipe = recipe.name


def _checked(recipe: Recipe) -> dict[str, Any]:
    """The recipe's settings in the form that the options have, by their names."""
    parser = _Checker(add_help=False)
    add_train_options(parser)
    settings = {}
    for key, value in recipe.settings.items():
        option = "--" + key.replace("_", "-")
        if value is True:
            word = option
        elif value is False:
            if key == "grey":  # as if it were not there
                continue
            word = option.replace("--", "--no-", 1)
        else:
            text = ",".join(value) if isinstance(value, list) else str(value)
            word = f"{option}={text}"
        try:
            if key in ("data_dir", "init") or (key == "data" and value not in DATASETS):
                word = f"{option}={recipe.path.parent / user_path(value)}"
            settings[key] = getattr(parser.parse_args([word]), key)
        except ArgumentError as error:
            message = str(error).removeprefix(f"argument {option}: ")
            raise DataCorrupt(f"{recipe.path}: {key}: {message}") from None
    both = [("ema", "swa")]
    if isinstance(settings.get("members"), tuple):
        both.append(("model", "members"))
    for one, other in both:
        if one in settings and other in settings:
            raise DataCorrupt(
                f"{recipe.path}: {one} and {other} both say the same thing: leave one out"
            )
    return settings


def run_recipes(options: argparse.Namespace) -> int:
    """List the recipes of the package, or print the one that is named; return the exit status."""
    if options.recipe is not None:
        recipe = find_recipe(options.recipe)
        settings = _checked(recipe)
        if options.json:
            place = str(recipe.path)
            facts = {"recipe": recipe.name, "file": place, "about": recipe.about}
            print_json(facts | {"settings": settings})
        else:
            show(recipe.text.removesuffix("\n"))
        return 0
    rows = []
    for recipe in map(find_recipe, named_recipes()):
        settings = _checked(recipe)
        members = settings.get("members", 1)
        model = settings.get("model", "deepconvnet")
        if isinstance(members, tuple):
            model, members = ", ".join(dict.fromkeys(members)), len(members)
        rows.append(
            {
                "recipe": recipe.name,
                "model": model,
                "members": members,
                "data": settings.get("data", "digits"),
                "epochs": settings.get("epochs"),
                "about": recipe.about,
            }
        )
    if options.json:
        print_json({"recipes": rows})
    else:
        shown = [{key: "" if row[key] is None else str(row[key]) for key in row} for row in rows]
        show(as_table(shown))
    return 0
