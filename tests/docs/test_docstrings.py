"""Examples in docstrings: each module's, in a namespace of its own."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.rest import DocTestParser

import fastconv
from fastconv.errors import UnknownBackend

from ..stand_ins import only_cases_of

PACKAGE = Path(fastconv.__file__).resolve().parent
DOCTESTS = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text()]

DRAWINGS = {"models/deep_convnet.py": 1, "experiment/folder.py": 2, "experiment/search.py": 1}
"""How many literal blocks are no code: layers in a row, files in a folder."""


def literal_blocks(path: Path) -> list[str]:
    """The blocks after ``::`` in a module's docstrings."""
    found = []
    for _, _, text in PythonDocStringDocument.extract_docstrings(path.read_text()):
        blocks = re.findall(r"::\n\n((?:[ \t]+.*(?:\n|$)|\n)+)", inspect.cleandoc(text))
        found += map(textwrap.dedent, blocks)
    return found


def is_python(text: str) -> bool:
    try:
        compile(text, "docstring", "exec")
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize("path", DOCTESTS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_doctests(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    only_cases_of("relu_forward", monkeypatch)  # tests/test_testing.py checks backends in full
    for example in Sybil([DocTestParser()]).parse(path):
        example.evaluate()


def test_all_literal_blocks_are_known():
    """One that is neither run below nor named a drawing has to become the one or the other."""
    code, drawings = {}, {}
    for path in PACKAGE.rglob("*.py"):
        name, blocks = str(path.relative_to(PACKAGE)), literal_blocks(path)
        for is_code, counts in ((True, code), (False, drawings)):
            if number := sum(is_python(block) == is_code for block in blocks):
                counts[name] = number
    assert drawings == DRAWINGS
    assert code == {"__init__.py": 1, "testing/__init__.py": 1}


def test_example_of_the_package():
    """What ``help(fastconv)`` shows learns the digits."""
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    [block] = literal_blocks(PACKAGE / "__init__.py")
    names = {}
    np.random.seed(0)
    exec(block, names)
    assert names["network"].accuracy(names["x_test"], names["t_test"]) > 0.7


def test_example_of_the_compliance_suite():
    [block] = literal_blocks(PACKAGE / "testing/__init__.py")
    names = {}
    exec(block, names)
    with pytest.raises(UnknownBackend, match="mine"):
        names["test_my_backend"]()
