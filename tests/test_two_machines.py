"""Training across two machines: network namespaces, joined by a pair of interfaces."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack

import numpy as np
import pytest

from benchmarks.hosts import INTERFACE, Unavailable, call, on_hosts, two_hosts
from fastconv.cli import main as cli
from fastconv.io.arrays import load_arrays

from .conftest import ROOT
from .test_distributed import images, launcher

__all__ = ["images"]  # the fixture

pytestmark = pytest.mark.skipif(
    "FASTCONV_TEST_NETWORK" not in os.environ,
    reason="changes the machine's network, as root: set FASTCONV_TEST_NETWORK",
)


@pytest.fixture
def machines():
    """Start Python on one rank of each; yields how to."""
    with ExitStack() as stack:
        try:
            agent = stack.enter_context(two_hosts())
        except Unavailable as error:
            pytest.skip(f"no network namespaces here: {error}")
        hosts, variables = on_hosts(launcher(), agent)

        def start(*words: str, **more: str) -> subprocess.Popen[str]:
            own = {"PYTHONPATH": str(ROOT), "FASTCONV_NUM_THREADS": "1"}
            return subprocess.Popen(
                [*hosts, sys.executable, "-P", *words],
                env=os.environ | own | variables | more,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )

        yield start


def test_two_machines_train_together_until_one_is_cut_off(machines, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = [*images, "--epochs", "1"]
    together = machines("-m", "fastconv", *words, "--out", "together")
    said = together.communicate(timeout=120)[0]
    assert (together.returncode, said.count("2 ranks on fastconv-a, fastconv-b")) == (0, 1), said
    assert cli.main([*words, "--out", "alone"]) == 0
    ours, theirs = (load_arrays(f"{run}/weights.npz")[0] for run in ("together", "alone"))
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=0, atol=1e-9)

    words = [*images, "--epochs", "100000", "--out", "long"]
    cut_off = machines("-m", "fastconv", *words, FASTCONV_RANK_TIMEOUT="3")
    for line in cut_off.stdout:
        if line.startswith("epoch "):
            break
    call("ip", "-n", "fastconv-b", "link", "set", INTERFACE, "down")
    begun = time.monotonic()
    said = cut_off.communicate(timeout=60)[0]
    assert cut_off.returncode and time.monotonic() - begun < 30
    assert re.search("rank 1 of 2 on fastconv-b: no sign of life for 3 s", said), said
    assert load_arrays("long/checkpoint.npz")[1]["progress"]["history"]
