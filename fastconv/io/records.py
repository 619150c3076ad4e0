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
from msgspec import Meta

from ..errors import DataCorrupt

__all__ = ["Count", "NotNegative", "Positive", "Share", "json_text", "read_record", "record_of"]

Record = TypeVar("Record")

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""A count; floats hold whole numbers only up to 2**53."""

NotNegative = Annotated[float, Meta(ge=0, le=sys.float_info.max)]
Positive = Annotated[float, Meta(gt=0, le=sys.float_info.max)]
Share = Annotated[float, Meta(ge=0, le=1)]


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
