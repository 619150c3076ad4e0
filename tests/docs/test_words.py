"""The words that pages list are those of the code: of kernels, and of the files of a run."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from fastconv.experiment.folder import ClassResult, Mistake, RunFolder, RunResult
from fastconv.training.checkpoint import _Epoch

from ..conftest import CHECKOUT

BACKENDS = CHECKOUT / "fastconv" / "backends"


def words_of(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def test_the_vocabularies_have_the_words_of_the_table():
    numba = "".join(path.read_text() for path in (BACKENDS / "_numba" / "words").glob("*.py"))
    folder = BACKENDS / "_cython"
    files = [*folder.glob("*.pxi"), folder / "simd.h", folder / "team.h"]
    cython = "".join(path.read_text() for path in files)
    table = (CHECKOUT / "docs/kernels.md").read_text().partition("| what | Numba | Cython |")[2]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:] if line.startswith("|")]
    assert len(rows) > 10
    for what, by_numba, by_cython in rows:
        assert words_of(by_numba) and words_of(by_cython), what
        for word in words_of(by_numba):
            assert re.search(rf"^def {word}\(", numba, re.MULTILINE), word
        for word in words_of(by_cython):
            assert re.search(rf"^(cdef )?inline [^=]*?\b{word}\(", cython, re.MULTILINE), word


RUNS = CHECKOUT / "docs/runs.md"


@pytest.mark.parametrize(
    ("title", "record"),
    [("## Fields of `history.jsonl`", _Epoch), ("## Fields of `result.json`", RunResult)],
)
def test_the_fields_of_a_file_are_documented(title, record):
    section = RUNS.read_text().partition(title)[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    documented = [name for row in rows for name in words_of(row[1])]
    assert sorted(documented) == sorted(field.name for field in fields(record))


def test_the_files_of_a_run_are_documented():
    section = RUNS.read_text().partition("## The run folder")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`([\w.]+)`", row[1])}
    folder = RunFolder("run")
    known = {path.name for path in vars(folder).values() if isinstance(path, Path)}
    assert documented == known - {"run", ".lock", "unreadable.txt", "ensemble.npz"}
    (listed,) = (row[2] for row in rows if "mistakes.json" in row[1])
    assert words_of(listed) == [field.name for field in fields(Mistake)]
    assert all(f"`{field.name}`" in RUNS.read_text() for field in fields(ClassResult))
