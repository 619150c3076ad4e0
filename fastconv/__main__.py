"""``python -m fastconv``: the ``fastconv`` command, or ``fastconv run`` where it names none."""

import sys

from .cli import COMMANDS, main

arguments = sys.argv[1:]
if arguments and arguments[0] not in {*COMMANDS, "-h", "--help", "--version"}:
    arguments.insert(0, "run")
# `python -i` goes on after a script that ended well, so that one must not exit.
if status := main(arguments):
    sys.exit(status)
