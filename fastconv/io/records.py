"""JSON from files, read into checked records: what comes out has the types that it declares.

The one place where fastconv reads JSON. A type is a dataclass, or any other that msgspec
knows; bounds stand beside a field as ``Annotated[int, Meta(ge=1)]``.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from ..errors import DataCorrupt

__all__ = ["read_record", "record_of"]

Record = TypeVar("Record")


def read_record(text: str | bytes, kind: type[Record], source: str) -> Record:
    """Return the record of type `kind` that a JSON text holds.

    Parameters
    ----------
    text : str or bytes
        JSON; NaN and Infinity are taken as numbers, since older files have them.
    kind : type
        What is expected. Fields that it does not have are passed over, so that files of a
        later version can be read.
    source : str
        Where the text stands, for messages.

    Raises
    ------
    DataCorrupt
        The text is no JSON, is nested too deep, or holds something else than `kind`.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataCorrupt(f"{source}: not JSON: {error}") from None
    return record_of(value, kind, source)


def record_of(value: Any, kind: type[Record], source: str) -> Record:
    """Return `value`, plain dicts, lists, texts and numbers, as a record of type `kind`.

    Raises
    ------
    DataCorrupt
        Something is missing, of another type, or out of its bounds.
    """
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise DataCorrupt(f"{source}: {error}") from None
