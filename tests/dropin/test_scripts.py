"""Scripts in the book's style print the same numbers on NumPy and, unchanged, on fastconv."""

from __future__ import annotations

import re

import pytest

from .conftest import assert_same_print, last_line, plainly, python

SCRIPTS = {
    "ch04/train_neuralnet.py": {"common.functions", "common.gradient", "dataset.mnist"},
    "ch05/gradient_check.py": {"common.layers", "common.gradient", "dataset.mnist"},
    "ch06/optimizer_compare.py": {"common.layers", "common.optimizer", "common.util"},
    "ch06/weight_init_compare.py": {"common.layers", "common.optimizer"},
    "ch06/batch_norm_dropout.py": {"common.layers", "common.trainer", "dataset.mnist"},
    "ch07/train_convnet.py": {"common.layers", "common.trainer", "dataset.mnist"},
    "ch08/half_float_network.py": {"common.layers", "common.optimizer"},
    "ch08/misclassified.py": {"common.layers", "common.optimizer", "common.util"},
}
"""The scripts, and some of the modules that fastconv must say it served to each."""


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_script_prints_the_same_numbers(book, script):
    chapter, name = script.split("/")
    expected = plainly(name, cwd=book / chapter)
    assert re.search(r"\d\.\d", expected), "the script prints no numbers to compare"
    done = python("-m", "fastconv", name, cwd=book / chapter)
    assert done.returncode == 0, done.stderr
    # Sums are taken in another order; training lets the last bit's difference grow.
    assert_same_print(done.stdout, expected, tolerance=1e-8)
    line = last_line(done)
    assert line.startswith("fastconv: served ")
    for module in SCRIPTS[script]:
        package, part = module.split(".")
        served = re.search(rf"{package} \(([^)]*)\)", line)
        assert served and part in served[1].split(", "), f"{module} not in: {line}"


def test_the_trainer_evaluates_where_the_original_does(book):
    """Only where a float division leaves nothing: seldom, with batches of 64 of 300."""
    printed = plainly("batch_norm_dropout.py", cwd=book / "ch06")
    assert re.search(r"evaluated 2 times in 79 steps", printed)
    done = python("-m", "fastconv", "batch_norm_dropout.py", cwd=book / "ch06")
    assert "evaluated 2 times in 79 steps" in done.stdout


def test_the_gradient_check_passes(book):
    done = python("-m", "fastconv", "gradient_check.py", cwd=book / "ch05")
    assert re.findall(r"agrees to 1e-6: (\w+)", done.stdout) == ["True"] * 4


def test_the_comparison_sees_a_difference():
    assert_same_print("acc 0.25 of 4", "acc 0.25000000001 of 4", tolerance=1e-9)
    for other in ("acc 0.26 of 4", "acc 0.25 of 5", "accuracy 0.25 of 4"):
        with pytest.raises(AssertionError):
            assert_same_print("acc 0.25 of 4", other, tolerance=1e-9)
