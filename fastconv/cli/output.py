"""What all commands print: lines for people, JSON, errors and warnings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..console import mention, tell
from ..errors import FastconvError
from ..io.records import json_text

__all__ = [
    *("complain", "count", "how", "one_line", "print_json", "show", "teller"),
    "warn",
]


def one_line(error: Exception) -> str:
    """An error's message with its notes; a fault of fastconv's own is called that."""
    notes = [*getattr(error, "__notes__", ())]
    if isinstance(error, OSError) and _current_folder_is_gone():
        notes.append("the current folder has been removed; change to another")
    text = " ".join(f"{error}{''.join(f' ({note})' for note in notes)}".split())
    if isinstance(error, FastconvError | OSError):
        return text
    if isinstance(error, MemoryError):
        return f"not enough memory: {text}"
    return f"{type(error).__name__}: {text} (a fault of fastconv's; --debug shows where)"


def _current_folder_is_gone() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def complain(command: str, text: str) -> None:
    """Print an error of a command."""
    mention(f"fastconv {command}: error: {text}")


def warn(message: Warning | str, *place: Any, **more: Any) -> None:
    """Replace `warnings.showwarning`, whose lines are for programmers."""
    text = " ".join(str(message).split()).removeprefix("fastconv: ")
    mention(f"fastconv: warning: {text}")


def teller(options: argparse.Namespace, progress: bool = False) -> Callable[[str], None]:
    """A function that prints a line for people, on stderr if stdout is to end with JSON."""
    say = mention if options.json else show
    if progress:
        from tqdm import tqdm

        def above_the_bar(text: str) -> None:
            with tqdm.external_write_mode(file=sys.stderr):
                say(text)

        return above_the_bar
    return say


def show(text: str) -> None:
    """Print a command's result."""
    tell(text, sys.stdout)


def print_json(facts: Any) -> None:
    """Print what ``--json`` asks for, in one line."""
    show(json_text(facts))


def how(config: Any) -> dict[str, Any]:
    """What ``--json`` says about the network that answered, from its `RunConfig`."""
    names = ("model", "members", "views", "backend", "dtype", "threads", "math")
    return {name: getattr(config, name) for name in names}


def count(number: int, what: str) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
