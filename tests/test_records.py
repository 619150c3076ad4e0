"""JSON from files, read into records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
from msgspec import Meta

from fastconv.errors import DataCorrupt
from fastconv.io.records import read_record


@dataclass(frozen=True)
class Ship:
    masts: Annotated[int, Meta(ge=1, le=9)]
    length: float
    name: str | None = None


def test_a_record_has_its_declared_types():
    ship = read_record(b'{"masts": 3, "length": 61, "of a later version": []}', Ship, "s.json")
    assert ship == Ship(3, 61.0)
    assert type(ship.length) is float


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "9" * 5_000,
        b"\xff\xfe",
        "[]",
        "null",
        '{"masts": 3}',
        '{"masts": true, "length": 1}',
        '{"masts": 3.5, "length": 1}',
        '{"masts": 0, "length": 1}',
        '{"masts": 1' + "0" * 30 + ', "length": 1}',
        '{"masts": 3, "length": "long"}',
        '{"masts": 3, "length": 1' + "0" * 400 + "}",
        '{"masts": 3, "length": 1, "name": 4}',
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_is_no_such_record_is_refused_by_name(text):
    with pytest.raises(DataCorrupt, match=r"^ship\.json: "):
        read_record(text, Ship, "ship.json")
