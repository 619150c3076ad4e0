"""Networks of `fastconv.models` against peers, once on small images: as `against_peers.py` does.

VGG-16 is left out here: its 138 million weights take a minute, whatever the images.
"""

from __future__ import annotations

import pytest

from fastconv.models import MODELS

from . import peers, tournament
from .data import new_model_problem
from .processes import environment, told_by

SIZE = 64


@pytest.mark.parametrize(
    ("network", "task", "side"),
    # Not ResNet-50's gradients: its last stage normalises 8 values here, and the float32 gradients
    # of every library, PyTorch too, are off by 3 % from float64's.
    [
        ("googlenet", "inference", SIZE),
        ("googlenet", "training step", SIZE),
        ("resnet50", "inference", SIZE),
        ("resnet20", "inference", 32),
        ("lenet", "training step", 28),
    ],
)
def test_contenders_agree_with_the_reference(network: str, task: str, side: int) -> None:
    if network == "resnet50" and peers.missing("PyTorch eager NCHW"):
        pytest.skip("without its twin in PyTorch it shows no more than the others")
    problem = new_model_problem(network, 3, side, 1)  # more than are compared
    names = peers.able(task, model=network)
    if (
        task == "training step"
    ):  # the first layer's gradient is off by its own size in PyTorch's, too
        names = [name for name in names if not peers.CONTENDERS[name].rough]
    result = tournament.hold(names, task, problem, launches=1, turns=1)
    assert result.errors == {}
    assert set(result.seconds) == set(names)


def test_who_has_which_network() -> None:
    def having(model: str, task: str) -> set[str]:
        return {n for n, c in peers.CONTENDERS.items() if task in c.tasks and c.has(model)}

    for model in MODELS.keys() - {"deepconvnet"}:
        training, inference = having(model, "training step"), having(model, "inference")
        assert {"fastconv cython", "fastconv numba, math fast"} <= training < inference
        assert {"ONNX Runtime", "OpenVINO", "fastconv numba, prepared"} <= inference - training
        twins = {n for n in inference if "torch" in n.lower()}
        known = model in ("vgg16", "resnet50", "googlenet")
        ways = {"eager NCHW", "eager channels_last", "autocast bfloat16"}
        assert twins == ({f"PyTorch {way}" for way in ways} if known else set())


@pytest.mark.parametrize("name", ["fastconv cython", "PyTorch eager channels_last"])
def test_peak_memory_is_more_than_the_library_takes(name: str) -> None:
    if reason := peers.missing(name):
        pytest.skip(reason)
    arguments = ["--network", "googlenet", "--batch", "1", "--image-size", str(SIZE)]
    arguments += ["--threads", "1", "--one", name]
    found = told_by("peak_memory", *arguments, variables=environment(1))
    # Weights, gradients and momentum: 6.6 million numbers each.
    assert found["most"] - found["before"] > 3 * 6_600_000 * 4
