"""``fastconv completion``: a script by which a shell completes commands, options and names."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from ..datasets import DATASETS
from ..errors import MissingDependency
from ..experiment.recipes import named_recipes
from ..selection import list_backends
from .options import add_common
from .output import print_json, show

__all__ = ["add_parser", "run"]

FOLDERS = {"FOLDER", "RUN"}
FILES = {
    *("DATA", "FILE", "FILE.json", "IMAGE", "IN", "OUT", "PICTURE", "RECIPE", "RUN_OR_WEIGHTS"),
    *("SCRIPT", "WEIGHTS"),
}
"""What stands for paths in the help."""


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "completion",
        help="print a script that completes commands in your shell",
        description=(
            "Print a script for your shell, which then completes commands, options, names and\n"
            "files. It needs shtab: pip install shtab"
        ),
        epilog=(
            "examples:\n"
            "  fastconv completion bash > fastconv.bash   # which ~/.bashrc may source\n"
            "  fastconv completion zsh > _fastconv        # in a folder of zsh's $fpath\n"
            "  fastconv completion fish > fastconv.fish   # in ~/.config/fish/completions"
        ),
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="whose script to print")
    add_common(parser, backend=False)


def run(options: argparse.Namespace) -> int:
    """Print the script; return the exit status."""
    try:
        import shtab
    except ImportError:
        raise MissingDependency("completion needs shtab: pip install shtab") from None
    parser = import_module(".main", __package__).build_parser()
    paths = {"file": shtab.FILE, "folder": shtab.DIRECTORY}
    names = {
        "--data": _of_names(DATASETS, shtab.FILE),
        "--recipe": _of_names(named_recipes(), shtab.FILE),
        "--backend": _of_names(("auto", *list_backends()), {}),
    }
    _say_what_is_known(parser, paths, names)
    script = shtab.complete(parser, options.shell)
    if options.json:
        print_json({"shell": options.shell, "script": script})
    else:
        show(script)
    return 0


def _say_what_is_known(
    parser: argparse.ArgumentParser, paths: dict[str, Any], names: dict[str, Any]
) -> None:
    """Note on each option that takes a path or a name, in all commands, how shtab completes it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _say_what_is_known(command, paths, names)
        elif action.choices is not None:
            continue
        elif known := [names[option] for option in action.option_strings if option in names]:
            action.complete = known[0]  # type: ignore[attr-defined]
        elif action.metavar in FOLDERS | FILES:
            action.complete = paths["folder" if action.metavar in FOLDERS else "file"]  # type: ignore[attr-defined]


def _of_names(names: Iterable[str], files: Mapping[str, Any]) -> dict[str, Any]:
    """How shtab completes one of some names, or a file as `files` says for each shell."""
    words = " ".join(names)
    function = "_fastconv_" + re.sub(r"\W", "_", words)
    also = {shell: files.get(shell, "") for shell in ("bash", "zsh", "fish")}
    bash = f'{also["bash"]} "$1";' if files else ""
    return {
        "bash": function,
        "zsh": function,
        "fish": f"{words} {also['fish']}".strip(),
        "preamble": {
            "bash": f"{function}() {{ compgen -W '{words}' -- \"$1\"; {bash} }}",
            "zsh": f"{function}() {{ compadd -- {words}; {also['zsh']} }}",
        },
    }
