"""Types of the values that options take; imports nothing that ``fastconv run`` does not need."""

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
    """An argparse type from a function that reads a text; `name` is what argparse calls the type.

    argparse shows an error's message only if the error is of its own type.
    """

    def read(text: str) -> Any:
        """The value that the function reads from the text."""
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
