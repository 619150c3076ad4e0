"""Text for people, on streams that may be missing, closed, or without half of the characters.

A process without a window has no streams (``pythonw``), a shell closes them (``2>&-``), a notebook
puts others in their place, and a terminal of another code page cannot show every class's name.
"""

from __future__ import annotations

import errno
import os
import sys
import unicodedata
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from html import escape
from typing import Any

from .errors import WriteFailed

__all__ = [
    *(
        "html_table",
        "in_columns",
        "is_terminal",
        "mention",
        "plain",
        "reserve_descriptors",
        "tell",
        "write",
    ),
]

NO_TEXT = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of characters that move the cursor, turn text around, or stand for a lost byte."""


def tell(text: str, stream: Any) -> None:
    """Write lines to a stream; what is no text, or what it cannot show, is escaped.

    Errors are those of `write`.
    """
    write(plain(text) + "\n", stream)


def write(text: str, stream: Any) -> None:
    """Write text to a stream; what it cannot show is escaped.

    Nothing happens where there is no such stream (None), or it is closed.

    Raises
    ------
    BrokenPipeError
        Its reader has gone.
    WriteFailed
        It takes no more, such as on a full disk.
    """
    if stream is None or getattr(stream, "closed", False):
        return
    try:
        stream.write(_shown(text, stream))
        if hasattr(stream, "flush"):
            stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "standard error" if stream is sys.stderr else "standard output"
        number, reason = error.errno or errno.EIO, error.strerror or str(error)
        raise WriteFailed(number, f"not written: {reason}", name) from error


def mention(text: str) -> None:
    """Write lines to standard error, where that can be: there is no other place to complain."""
    with suppress(OSError):
        tell(text, sys.stderr)


def plain(text: str, keep: str = "\n\t") -> str:
    """Escape what a terminal would not show as it is: control characters, undecodable bytes.

    Those in `keep` stay. Spaces of any width, and characters that Python does not know, are shown.
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if character not in keep and unicodedata.category(character) in NO_TEXT
        else character
        for character in text
    )


def _shown(text: str, stream: Any) -> str:
    """The text with escapes for the characters that the stream's encoding lacks."""
    encoding = getattr(stream, "encoding", None)
    if not isinstance(encoding, str):  # a user's own kind of stream takes any text
        return text
    try:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:
        return text.encode("ascii", "backslashreplace").decode()


def in_columns(lines: Sequence[Sequence[str]], right: Container[int] = ()) -> str:
    """Lines of texts as aligned columns; those whose numbers are in `right` are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if place in right else text.ljust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def html_table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A line and a table for a notebook."""
    lines = [
        "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
        for tag, part in (("th", [head]), ("td", rows))
        for row in part
    ]
    table = "".join(f"<tr>{row}</tr>" for row in lines)
    return f"<p>{escape(caption)}</p><table>{table}</table>"


def is_terminal(stream: Any) -> bool:
    """Whether a person watches the stream."""
    try:
        return bool(stream.isatty())
    except (AttributeError, OSError, ValueError):  # None or a stand-in; a closed one
        return False


def reserve_descriptors() -> None:
    """Open those of the descriptors 0 to 2 that are closed, on the null device.

    Otherwise the next file to be opened would get one of them, and what C libraries print on
    standard error would go into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # `os.open` takes the lowest free descriptor, so this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
