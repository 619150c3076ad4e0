"""JSON from files, read into records."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest
from msgspec import Meta

from fastconv.errors import DataCorrupt
from fastconv.io.records import (
    Count,
    NotNegative,
    Positive,
    Share,
    json_text,
    read_record,
    record_of,
)


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


@pytest.mark.parametrize(
    ("kind", "low", "high", "beyond"),
    [
        (Count, 0, 9007199254740992, (-1, 9007199254740993, 0.5)),
        (NotNegative, 0, 1.7976931348623157e308, (-5e-324, 10**309, "1")),
        (Positive, 5e-324, 1.7976931348623157e308, (0, -1.0, 10**309)),
        (Share, 0, 1, (-0.001, 1.001, None)),
    ],
)
def test_the_bounds_of_numbers(kind, low, high, beyond):
    assert record_of(low, kind, "r.json") == low
    assert record_of(high, kind, "r.json") == high
    for value in (*beyond, math.inf):
        with pytest.raises(DataCorrupt, match=r"^r\.json: "):
            record_of(value, kind, "r.json")


def test_numbers_that_json_lacks_are_null():
    value = {
        "nan": math.nan,
        "list": [1, (2.5, -math.inf)],
        "numpy": [np.float32(0.5), np.int8(-3), np.float64(math.inf), np.bool_(True)],
        "text": "a\N{SNOWMAN}",
        "none": None,
    }
    expected = {
        "nan": None,
        "list": [1, [2.5, None]],
        "numpy": [0.5, -3, None, True],
        "text": "a\N{SNOWMAN}",
        "none": None,
    }
    assert json.loads(json_text(value), parse_constant=pytest.fail) == expected


def test_a_text_is_indented_where_that_is_asked_for():
    assert json_text({"a": [1]}) == '{"a": [1]}'
    assert json_text({"a": [1]}, indent=2) == '{\n  "a": [\n    1\n  ]\n}'
    with pytest.raises(TypeError):
        json_text(object())


def test_what_is_no_json_is_told_from_what_is_no_record():
    with pytest.raises(DataCorrupt, match=r"^s\.json: not JSON: .*line 1 column 2"):
        read_record("{", Ship, "s.json")
    with pytest.raises(DataCorrupt, match=r"^s\.json: (?!not JSON).*length"):
        read_record('{"masts": 3}', Ship, "s.json")
    with pytest.raises(DataCorrupt, match=r"^s\.json: .*int.*masts"):
        record_of({"masts": "3", "length": 1.0}, Ship, "s.json")


def test_older_files_have_numbers_that_json_lacks():
    assert read_record("[1, NaN, Infinity]", list[float], "s.json")[2] == math.inf
