"""``fastconv recipes``: the list of recipes, or one of them."""

from __future__ import annotations

import argparse
from typing import Any

from ..experiment.recipes import find_recipe, named_recipes
from ..experiment.settings import SETTINGS
from ..info import as_table
from .options import add_common
from .output import print_json, show

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "recipes",
        help="list or show the recipes of fastconv train --recipe",
        description="List the recipes that come with fastconv, or show one as it is written.",
        epilog="examples:\n  fastconv recipes\n  fastconv recipes mnist-book > mine.toml",
    )
    parser.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="a recipe's name, or a .toml file"
    )
    add_common(parser, backend=False)


def run(options: argparse.Namespace) -> int:
    """List the recipes of the package, or print the one that is named; return the exit status."""
    if options.recipe is not None:
        recipe = find_recipe(options.recipe)
        if options.json:
            facts = {"recipe": recipe.name, "file": str(recipe.path), "about": recipe.about}
            print_json(facts | {"settings": recipe.settings})
        else:
            show(recipe.text.removesuffix("\n"))
        return 0
    rows = []
    for recipe in map(find_recipe, named_recipes()):
        settings = recipe.settings
        members = settings.get("members", 1)
        model = settings.get("model", SETTINGS["model"].new)
        if isinstance(members, tuple):
            model, members = ", ".join(dict.fromkeys(members)), len(members)
        rows.append(
            {
                "recipe": recipe.name,
                "model": model,
                "members": members,
                "data": settings.get("data", SETTINGS["data"].new),
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
