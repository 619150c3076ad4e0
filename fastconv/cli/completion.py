"""``fastconv completion``: a script by which a shell completes commands, options and names."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any

from ..errors import MissingDependency
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
    _say_what_are_paths(parser, {"file": shtab.FILE, "folder": shtab.DIRECTORY})
    script = shtab.complete(parser, options.shell)
    if options.json:
        print_json({"shell": options.shell, "script": script})
    else:
        show(script)
    return 0


def _say_what_are_paths(parser: argparse.ArgumentParser, how: dict[str, Any]) -> None:
    """Note on each option that takes a path, in all commands, how shtab completes it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _say_what_are_paths(command, how)
        elif action.metavar in FOLDERS | FILES:
            action.complete = how["folder" if action.metavar in FOLDERS else "file"]  # type: ignore[attr-defined]
