"""Children of `multiprocessing` compute on fastconv too, however they are started."""

from __future__ import annotations

import multiprocessing

import pytest

from .conftest import last_line, python

SCRIPT = """
import multiprocessing, os, sys
sys.path.append(os.pardir)
import numpy as np
from common.layers import Affine
import fastconv

def work(value):
    layer = Affine(np.full((2, 2), value), np.zeros(2))
    out = layer.forward(np.ones((1, 2)))
    return Affine.__module__, float(out.sum()), str(out.dtype), fastconv.get_backend()

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Pool(2) as pool:
        print(sorted(pool.map(work, [1.0, 2.0])))
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.parametrize("named", [(), ("-m",)], ids=["script", "module"])
def test_children_have_the_hook(book, method, named):
    (book / "ch05" / "parallel.py").write_text(SCRIPT)
    name = "parallel" if named else "parallel.py"
    options = ["--backend", "numpy", "--dtype", "float32", "--threads", "1"]
    done = python("-m", "fastconv", *options, *named, name, method, cwd=book / "ch05")
    assert done.returncode == 0, done.stderr
    expected = [("fastconv.layers.dense", value, "float32", "numpy") for value in (4.0, 8.0)]
    assert done.stdout == f"{expected}\n"
    # Only the parent speaks at the end.
    assert [line[:16] for line in done.stderr.splitlines()] == ["fastconv: served"]
    assert "common (functions, layers, util)" in last_line(done)


def test_children_are_told_what_is_served(book):
    """By name, as the parent was told."""
    (book / "ch05" / "mine.py").write_text("class Affine:\n    pass\n")
    (book / "ch05" / "parallel.py").write_text(
        "import multiprocessing, sys\n"
        "def work(_):\n    import mine\n    return mine.Affine.__module__\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(work, [0]))\n"
    )
    words = ["--map", "mine=common.layers", "parallel.py"]
    done = python("-m", "fastconv", *words, cwd=book / "ch05")
    assert done.stdout == "['fastconv.layers.dense']\n", done.stderr


def test_a_child_by_fork_says_nothing_at_its_end(book):
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has no fork")
    (book / "ch05" / "forks.py").write_text(
        "import os, sys\n"
        "from common.functions import relu\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    sys.exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    done = python("-m", "fastconv", "--threads", "1", "forks.py", cwd=book / "ch05")
    assert done.stderr.count("fastconv:") == 1, done.stderr
