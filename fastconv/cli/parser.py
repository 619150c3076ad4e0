"""The parser of the ``fastconv`` command and of each of its commands."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from ..console import mention, plain, write
from ..errors import WriteFailed, suggestion

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and takes no abbreviated options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings
        )

    def error(self, message: str) -> NoReturn:
        """End the process with status 2 and a line that says why."""
        line = f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)"
        self.exit(2, plain(line) + "\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments; an unknown option is an error of the command that it is given to."""
        known, extra = super().parse_known_args(args, namespace)
        if extra:
            near = suggestion(extra[0].partition("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(extra)}{near}")
        return known, extra

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = suggestion(value, action.choices or ())
            raise argparse.ArgumentError(action, f"{error.message}{near}") from None

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write argparse's help, version and errors, as far as the stream allows."""
        try:
            write(message or "", file)
        except OSError as error:
            if file is not sys.stdout:  # a complaint: the status says it too
                return
            if isinstance(error, WriteFailed):
                mention(f"{self.prog}: error: {error}")
            sys.exit(1)
