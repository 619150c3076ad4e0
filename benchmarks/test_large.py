"""Large networks against PyTorch, once on small images: what `against_peers.py` times.

VGG-16 is left out here: its 138 million weights take a minute, whatever the images.
"""

from __future__ import annotations

import json
import subprocess

import pytest

from . import peers, tournament
from .launch import command, environment
from .test_peers import _cannot_run

NAMES = [name for name, one in peers.CONTENDERS.items() if "convolution" in one.tasks]
SIZE = 64


def able(names: list[str]) -> list[str]:
    """Those that can run here."""
    return [name for name in names if not _cannot_run(name, False)]


@pytest.mark.parametrize(
    ("network", "task"),
    # Not ResNet-50's gradients: its last stage normalises 8 values here, and the float32 gradients
    # of every library, PyTorch too, are off by 3 % from float64's.
    [("googlenet", "inference"), ("googlenet", "training step"), ("resnet50", "inference")],
)
def test_contenders_agree_with_the_reference(network: str, task: str) -> None:
    problem = peers.new_model_problem(network, 2, SIZE, 1)
    names = able(NAMES)
    result = tournament.hold(names, task, problem, launches=1, turns=1)
    assert result.errors == {}
    assert set(result.seconds) == set(names)


@pytest.mark.parametrize("name", ["fastconv cython", "PyTorch eager channels_last"])
def test_peak_memory_is_more_than_the_library_takes(name: str) -> None:
    if name not in able([name]):
        pytest.skip(f"{name} cannot run here")
    arguments = ["--network", "googlenet", "--batch", "1", "--image-size", str(SIZE)]
    done = subprocess.run(
        command("peak_memory", *arguments, "--threads", "1", "--one", name),
        env=environment(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    # Weights, gradients and momentum: 6.6 million numbers each.
    assert found["most"] - found["before"] > 3 * 6_600_000 * 4
