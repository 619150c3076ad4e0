"""The ``fastconv`` command: read the arguments, call the command, print errors.

Exit status: 0 done; 1 failed; 2 wrong use; 130 and 143 ended by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module

from .. import config as process
from .._version import __version__
from ..console import mention
from . import COMMANDS
from .output import INTERRUPTED, complain, failure, warn
from .parser import Parser
from .run import is_copied, read

__all__ = ["COMMANDS", "MODULES", "build_parser", "main"]

MODULES = {name: import_module(f".{name}", __package__) for name in COMMANDS}
"""The module of each command: ``add_parser(commands)`` adds options, ``run(options)`` runs it."""


ON_RANKS = ("train", "search")
"""Commands that a launcher may start as several processes."""


def build_parser() -> Parser:
    """Make the parser of the ``fastconv`` command, with all its commands."""
    parser = Parser(
        prog="fastconv",
        description="The CNN of Deep Learning from Scratch, fast: train it, test it, use it.",
        epilog="example:\n  fastconv train        # DeepConvNet on handwritten digits",
    )
    parser.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in MODULES.values():
        module.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        The exit status.
    """
    options = read(build_parser, sys.argv[1:] if arguments is None else arguments)
    if isinstance(options, int):
        return options
    command = MODULES[options.command].run
    if options.command == "run":
        return command(options)  # outside the `try` below: a script's errors are its own
    if options.command not in ON_RANKS and is_copied(options.command):
        return 2
    if getattr(options, "math", None):
        process.set_math_mode(options.math)
    with warnings.catch_warnings():
        warnings.showwarning = warn
        try:
            return command(options)
        except BrokenPipeError:  # the reader of the output has gone
            return 1
        except (Exception, KeyboardInterrupt) as error:
            text, status = failure(error)
            if options.debug and status != INTERRUPTED:
                mention(traceback.format_exc().rstrip())
            else:
                complain(options.command, text)
            return status
