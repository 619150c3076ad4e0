"""Training across two machines: network namespaces, joined by a pair of interfaces."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from fastconv.cli import main as cli
from fastconv.io.arrays import load_arrays

from .conftest import ROOT
from .test_distributed import images, launcher

__all__ = ["images"]  # the fixture

HOSTS = {"fastconv-a": "10.77.19.1", "fastconv-b": "10.77.19.2"}
INTERFACE = "fastconv0"

pytestmark = pytest.mark.skipif(
    "FASTCONV_TEST_NETWORK" not in os.environ,
    reason="changes the machine's network, as root: set FASTCONV_TEST_NETWORK",
)


def call(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no network namespaces here: {' '.join(words)}: {done.stderr.strip()}")


def inside(host: str) -> str:
    """A shell's words for running what follows on a host, under its name."""
    return f"ip netns exec {host} unshare --uts sh -c 'hostname {host}; exec \"$@\"' -"


def is_up(host: str) -> bool:
    """Whether the host's interface is: that takes a moment."""
    show = ["ip", "-n", host, "link", "show", INTERFACE]
    return "state UP" in subprocess.run(show, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def machines(tmp_path):
    """Start Python on one rank of each; yields how to."""
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("there is no ip, or no unshare: install iproute2 and util-linux")
    first, second = HOSTS
    remote = tmp_path / "instead-of-ssh"
    remote.write_text(
        "#!/bin/bash\nwhile [[ $1 == -* ]]; do shift; done; shift\n"
        f'exec {inside(second)} bash -c "$*"\n'
    )
    remote.chmod(0o755)

    def start(*words: str, **variables: str) -> subprocess.Popen[str]:
        own = {"PYTHONPATH": str(ROOT), "FASTCONV_NUM_THREADS": "1", **variables}
        # Else UCX finds the memory that both have in common.
        own |= {"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": INTERFACE}
        hosts = ["-localhost", HOSTS[first], "-hosts", ",".join(HOSTS.values()), "-n", "2"]
        agent = ["-launcher", "ssh", "-launcher-exec", str(remote)]
        command = [launcher(), *agent, *hosts, sys.executable, "-P", *words]
        return subprocess.Popen(
            ["bash", "-c", f'{inside(first)} "$@"', "-", *command],
            env=os.environ | own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    try:
        for host in HOSTS:
            call("ip", "netns", "add", host)
        peer = ("peer", "name", INTERFACE, "netns", second)
        call("ip", "link", "add", "name", INTERFACE, "netns", first, "type", "veth", *peer)
        for host, address in HOSTS.items():
            call("ip", "-n", host, "addr", "add", f"{address}/24", "dev", INTERFACE)
            for name in ("lo", INTERFACE):
                call("ip", "-n", host, "link", "set", name, "up")
        latest = time.monotonic() + 10
        while not all(map(is_up, HOSTS)):
            assert time.monotonic() < latest, "the interfaces do not come up"
            time.sleep(0.02)
        yield start
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", host], capture_output=True, check=False)


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
