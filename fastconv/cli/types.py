"""Types of the values that options take. They need nothing that ``fastconv run`` does without."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta

from ..errors import ArgumentError
from ..geometry import LARGEST
from ..io.records import of_text

__all__ = ["typed", "whole"]


def typed(reads: Callable[[str], Any], name: str) -> Callable[[str], Any]:
    """The type of what a function makes of a word; `name` is what argparse calls it.

    argparse shows the message of an error only where it is of its own type.
    """

    def read(text: str) -> Any:
        """What the function makes of the word."""
        try:
            return reads(text)
        except ArgumentError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    read.__name__ = name
    return read


def whole(least: int, most: int = LARGEST) -> Callable[[str], Any]:
    """The type of whole numbers in these limits."""
    kind = Annotated[int, Meta(ge=least, le=most)]
    return typed(lambda text: of_text(text, kind), "whole number")
