"""JSON of files, read into records whose types are checked.

No other module reads or writes JSON. A record is a dataclass, or another type that msgspec knows;
a field declares its bounds as ``Annotated[int, Meta(ge=1)]``.

JSON has no NaN and no infinity. They become null, and a field that may have one is declared as
``float | None``.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from msgspec import Meta, inspect

from ..errors import ArgumentError, DataCorrupt
from ..geometry import LARGEST

__all__ = [
    *("Count", "NotNegative", "Positive", "Share", "Within", "json_text", "of_text", "of_type"),
    *("read_record", "record_of", "type_in_words"),
]

Record = TypeVar("Record")

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""A count; floats hold whole numbers only up to 2**53."""

NotNegative = Annotated[float, Meta(ge=0, le=sys.float_info.max)]
Positive = Annotated[float, Meta(gt=0, le=sys.float_info.max)]
Share = Annotated[float, Meta(ge=0, le=1)]
Within = Annotated[float, Meta(gt=0, lt=1)]

WORDS: dict[type, tuple[Any, str]] = {
    inspect.StrType: (str, "a string"),
    inspect.LiteralType: (str, "a string"),
    inspect.IntType: (int, "a whole number"),
    inspect.FloatType: ((int, float), "a number"),
    inspect.BoolType: (bool, "true or false"),
    inspect.ListType: (list, "a list of names"),
}
"""The types that a single value may have: what Python calls each, and what messages do."""


def json_text(value: Any, indent: int | None = None) -> str:
    """Return plain data as JSON, with null in place of NaN and infinity."""
    return json.dumps(_with_null(value), indent=indent, allow_nan=False)


def _with_null(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _with_null(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_null(each) for each in value]
    return value


def read_record(text: str | bytes, kind: type[Record], source: str) -> Record:
    """Return the record of type `kind` that a JSON text holds.

    Parameters
    ----------
    text : str or bytes
        JSON; NaN and Infinity are read as numbers, since older files have them.
    kind : type
        The expected type. Unknown fields are ignored, so that files of later versions can be
        read.
    source : str
        Where the text is from, for messages.

    Raises
    ------
    DataCorrupt
        The text is not JSON, is nested too deeply, or is not of type `kind`.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataCorrupt(f"{source}: not JSON: {error}") from None
    return record_of(value, kind, source)


def record_of(value: Any, kind: type[Record], source: str) -> Record:
    """Return plain data (dicts, lists, texts, numbers) as a record of type `kind`.

    Raises
    ------
    DataCorrupt
        A field is missing, of another type, or out of its bounds.
    """
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise DataCorrupt(f"{source}: {error}") from None


def type_in_words(kind: Any) -> str:
    """Say what a value of this type is: ``a whole number or a list of names``."""
    return " or ".join(WORDS[type(each)][1] for each in _alternatives(kind))


def of_type(value: Any, kind: Any, shown: str | None = None) -> Any:
    """Return one value as `kind`, a type as a field of a record has it.

    Raises
    ------
    TypeError
        A value of another type; the message is what was expected.
    ArgumentError
        One out of the type's bounds; the message shows `shown` for it.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        for each in _alternatives(kind):
            python = WORDS[type(each)][0]
            # To Python a bool is an int, too; a list may hold something other than names.
            if isinstance(value, python) and not isinstance(value, bool | list):
                got = repr(value) if shown is None else shown
                raise ArgumentError(f"must be {_bounds(each, value)}, got {got}") from None
        raise TypeError(type_in_words(kind)) from None


def of_text(text: str, kind: Any) -> Any:
    """Return the value of one type that a text means, such as a word of a command line.

    Raises
    ------
    ValueError
        Not a number where one is expected; an `ArgumentError` if it is out of bounds.
    """
    [info] = _alternatives(kind)
    reads = {inspect.IntType: int, inspect.FloatType: float}.get(type(info), str)
    return of_type(reads(text), kind, text)


def _alternatives(kind: Any) -> list[Any]:
    """The types that a field may have, except None."""
    info = inspect.type_info(kind)
    each = info.types if isinstance(info, inspect.UnionType) else (info,)
    return [one for one in each if not isinstance(one, inspect.NoneType)]


def _bounds(info: Any, value: Any) -> str:
    """The bounds of a type, as far as this value is out of them."""
    if isinstance(info, inspect.LiteralType):
        return " or ".join(map(str, info.values))
    if isinstance(info, inspect.IntType):
        if info.le == LARGEST and value < info.ge:
            return f"at least {info.ge}"
        return f"between {info.ge} and {info.le}"
    lower = f"greater than {info.gt:g}" if info.ge is None else f"at least {info.ge:g}"
    return lower if info.lt is None else f"{lower} and below {info.lt:g}"
