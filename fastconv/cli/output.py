"""What all commands print: lines for people, JSON, errors and warnings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import in_columns, mention, tell
from ..errors import ArgumentError, FastconvError, UnknownBackend
from ..io.records import json_text

if TYPE_CHECKING:  # `fastconv run` starts without it
    from ..experiment.evaluate import Evaluation
    from ..experiment.folder import ClassResult

__all__ = [
    *("INTERRUPTED", "complain", "count", "failure", "how", "one_line", "print_json", "show"),
    *("interval_in_words", "table_by_class", "table_by_member", "teller", "warn"),
]

MOST_CLASSES = 20
"""Most classes that a table lists."""


INTERRUPTED = 130
"""The exit status after Ctrl-C."""


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


def failure(error: BaseException) -> tuple[str, int]:
    """What to say about an error that ends a command, and the exit status."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    status = 2 if isinstance(error, ArgumentError | UnknownBackend) else 1
    return one_line(error) if isinstance(error, Exception) else repr(error), status


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


def table_by_class(results: Sequence[ClassResult]) -> str:
    """Precision and recall of each class; of many classes, those that are read worst."""
    shown = list(results)
    if len(results) > MOST_CLASSES:
        shown = sorted(shown, key=lambda each: each.recall or 0.0)[:MOST_CLASSES]
    rows: list[tuple[str, ...]] = [("class", "images", "precision", "recall")]
    for each in shown:
        shares = _percent(each.precision), _percent(each.recall)
        rows.append((each.label, f"{each.images:,}", *shares))
    more = len(results) - len(shown)
    table = in_columns(rows, right=range(1, 4))
    return table + (f"\nand {more:,} classes with a higher recall" if more else "")


def interval_in_words(interval: tuple[float, float]) -> str:
    """``95 % interval 99.55 - 99.77 %``."""
    low, high = interval
    return f"95 % interval {100 * low:.2f} - {100 * high:.2f} %"


def table_by_member(result: Evaluation, models: Sequence[str]) -> str:
    """What each of several members adds, and what choosing one for each image could reach."""
    head = ("member", "model", "errors", "accuracy", "95 % interval", "errors without it")
    rows: list[tuple[str, ...]] = [head]
    for number, (model, each) in enumerate(zip(models, result.by_member, strict=True), start=1):
        low, high = (f"{100 * share:.2f}" for share in each.interval)
        facts = (f"{100 * each.accuracy:.2f} %", f"{low} - {high} %", f"{each.errors_without}")
        rows.append((str(number), model, f"{each.errors}", *facts))
    return (
        f"{in_columns(rows, right=range(2, 6))}\n"
        f"at least one member misreads {result.misread_by_any} images, all of them "
        f"{result.misread_by_all}: so many errors would be left by the best member for each image"
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def count(number: int, what: str) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
