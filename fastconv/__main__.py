"""``fastconv`` and ``python -m fastconv``, which is ``fastconv run`` where it names no command."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from .cli import COMMANDS

__all__ = ["main"]

INTERRUPTED = 130


def main() -> int:
    """Run the command with the arguments of the process; return the exit status."""
    return _run(sys.argv[1:])


def _main_or_script() -> int:
    arguments = sys.argv[1:]
    if arguments and arguments[0] not in {*COMMANDS, "-h", "--help", "--version"}:
        arguments.insert(0, "run")
    return _run(arguments)


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["run"]:
        with _ended_by_an_interrupt():
            from .cli import run as cli_run
        return cli_run.main(arguments)
    with _ended_by_an_interrupt():
        from .cli import main as cli
    return cli.main(arguments)


@contextmanager
def _ended_by_an_interrupt() -> Iterator[None]:
    """Ctrl-C ends the process inside the block, where there is nothing to save.

    Otherwise it would show a traceback from the middle of some module's import.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as by nohup
        yield
        return
    with suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        with suppress(ValueError):
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, b"fastconv: error: interrupted\n")
    os._exit(INTERRUPTED)


# `python -i` goes on after a script that ended well, so a success must not call `sys.exit`.
if __name__ == "__main__" and (status := _main_or_script()):
    sys.exit(status)
