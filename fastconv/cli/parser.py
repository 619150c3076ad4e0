"""The parser of the ``fastconv`` command, and the types of values that need nothing else of it."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from ..config import MOST_THREADS
from ..console import mention, plain, write
from ..errors import WriteFailed
from ..geometry import LARGEST

__all__ = ["MATH_HELP", "Parser", "json_name", "module_pair", "threads", "whole"]

MATH_HELP = "fast: convolutions may round more, to about 1e-5 in float32 (default: default)"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and takes no abbreviated options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **settings,
        )

    def error(self, message: str) -> NoReturn:
        """End the process with status 2 and a line that says why."""
        line = f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)"
        self.exit(2, plain(line) + "\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write what argparse prints, of help, version and errors, where that can be."""
        try:
            write(message or "", file)
        except OSError as error:
            if file is not sys.stdout:  # a complaint: the status says it too
                return
            if isinstance(error, WriteFailed):
                mention(f"{self.prog}: error: {error}")
            sys.exit(1)


def whole(least: int, most: int = LARGEST) -> Any:
    """The type of whole numbers in these limits."""

    def whole_number(text: str) -> int:
        """A whole number in the limits."""
        number = int(text)
        if not least <= number <= most:
            limits = f"between {least} and {most}"
            if most == LARGEST and number < least:
                limits = f"at least {least}"
            raise argparse.ArgumentTypeError(f"must be {limits}, got {number}")
        return number

    whole_number.__name__ = "whole number"
    return whole_number


threads = whole(1, MOST_THREADS)


def json_name(text: str) -> str:
    """The name of a ``.json`` file, or nothing."""
    if text and not text.endswith(".json"):
        raise argparse.ArgumentTypeError(f"must end in .json, got {text}")
    return text


def module_pair(text: str) -> tuple[str, str]:
    """Two names of modules, as ``layers=common.layers``."""
    theirs, equals, ours = text.partition("=")
    if not (theirs and equals and ours):
        raise argparse.ArgumentTypeError(f"expected MODULE=COMMON.X, got {text!r}")
    return theirs, ours
