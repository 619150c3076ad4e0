"""Large networks against PyTorch, once on small images: what `against_peers.py` times.

VGG-16 is left out here: its 138 million weights take a minute, whatever the images.
"""

from __future__ import annotations

import pytest

from . import peers, tournament
from .data import new_model_problem
from .processes import environment, told_by

SIZE = 64


@pytest.mark.parametrize(
    ("network", "task"),
    # Not ResNet-50's gradients: its last stage normalises 8 values here, and the float32 gradients
    # of every library, PyTorch too, are off by 3 % from float64's.
    [("googlenet", "inference"), ("googlenet", "training step"), ("resnet50", "inference")],
)
def test_contenders_agree_with_the_reference(network: str, task: str) -> None:
    problem = new_model_problem(network, 2, SIZE, 1)
    names = peers.able(task, model=network)
    result = tournament.hold(names, task, problem, launches=1, turns=1)
    assert result.errors == {}
    assert set(result.seconds) == set(names)


@pytest.mark.parametrize("name", ["fastconv cython", "PyTorch eager channels_last"])
def test_peak_memory_is_more_than_the_library_takes(name: str) -> None:
    if reason := peers.missing(name):
        pytest.skip(reason)
    arguments = ["--network", "googlenet", "--batch", "1", "--image-size", str(SIZE)]
    arguments += ["--threads", "1", "--one", name]
    found = told_by("peak_memory", *arguments, variables=environment(1))
    # Weights, gradients and momentum: 6.6 million numbers each.
    assert found["most"] - found["before"] > 3 * 6_600_000 * 4
