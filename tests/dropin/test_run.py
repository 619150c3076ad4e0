"""`python -m fastconv script.py`: it runs as under Python, and the end says what was done."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from fastconv.__main__ import COMMANDS
from fastconv.cli import main as cli
from fastconv.cli.main import main
from fastconv.dropin import summary

from .conftest import assert_same_print, last_line, plainly, python

TRAIN = "train_convnet.py"


def write(path, text):
    path.write_text(text)
    return path


# ---- where things are ------------------------------------------------------------------


def test_from_another_folder(book, tmp_path):
    """There, os.pardir is not the reader's folder, and plain Python finds no `common`."""
    script = book / "ch05" / "gradient_check.py"
    folder = tmp_path / "elsewhere" / "deeper"
    folder.mkdir(parents=True)
    assert "No module named 'dataset'" in python(script, cwd=folder).stderr
    expected = plainly(script.name, cwd=script.parent)
    done = python("-m", "fastconv", script, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert_same_print(done.stdout, expected, tolerance=1e-8)


def test_common_as_a_namespace_package(book):
    (book / "common" / "__init__.py").unlink()
    (book / "dataset" / "__init__.py").unlink()
    expected = plainly("weight_init_compare.py", cwd=book / "ch06")
    done = python("-m", "fastconv", "weight_init_compare.py", cwd=book / "ch06")
    assert_same_print(done.stdout, expected, tolerance=1e-8)
    assert "common (functions, gradient, layers, optimizer, util)" in last_line(done)
    assert "from your files: common (multi_layer_net)" in last_line(done)


def test_without_any_common(tmp_path):
    script = write(
        tmp_path / "alone.py",
        "from common.layers import *\n"
        "from common.util import im2col as unfold\n"
        "from common.trainer import Trainer, SGD\n"
        "layer = Convolution(np.ones((2, 1, 3, 3)), np.zeros(2), pad=1)\n"
        "print(layer.forward(np.ones((1, 1, 4, 4))).sum())\n"
        "print(unfold is im2col, softmax(np.zeros(2)))\n",
    )
    done = python("-m", "fastconv", script, cwd=tmp_path)
    assert done.stdout == "200.0\nTrue [0.5 0.5]\n"
    assert "served common (layers, trainer, util)" in last_line(done)


def test_parts_of_common_only(book):
    """Modules that the reader has not typed yet come whole from fastconv."""
    expected = plainly("weight_init_compare.py", cwd=book / "ch06")
    for name in ("layers", "functions", "optimizer"):
        (book / "common" / f"{name}.py").unlink()
    done = python("-m", "fastconv", "weight_init_compare.py", cwd=book / "ch06")
    assert_same_print(done.stdout, expected, tolerance=1e-8)


def test_a_path_that_is_appended_late(book):
    """Our part of `common` first, the reader's folder afterwards."""
    script = write(
        book / "ch04" / "late.py",
        "from common.functions import relu\n"
        "import sys, os\n"
        "sys.path.append(os.pardir)\n"
        "from common.multi_layer_net import MultiLayerNet\n"
        "print(MultiLayerNet.__module__, relu.__module__)\n",
    )
    done = python("-m", "fastconv", script.name, cwd=script.parent)
    assert done.stdout == "common.multi_layer_net fastconv.functions\n", done.stderr


# ---- as Python runs a script --------------------------------------------------------------


def test_main_is_as_python_makes_it(tmp_path):
    text = (
        "import sys, __main__\n"
        "assert __main__.__dict__ is globals()\n"
        "print(__name__, __file__, __package__, __spec__, sys.argv, sys.path[0])\n"
        "print(sorted(name for name in globals() if name != '__annotations__'))\n"
    )
    folder = tmp_path / "scripts"
    folder.mkdir()
    write(folder / "show.py", text)
    words = ["scripts/show.py", "--epochs", "3", "--backend", "x", "-m", "--profile"]
    expected = plainly(*words, cwd=tmp_path)
    assert python("-m", "fastconv", *words, cwd=tmp_path).stdout == expected
    assert python("-m", "fastconv", "run", *words, cwd=tmp_path).stdout == expected
    own = python("-m", "fastconv", "--threads", "1", "--profile", *words, cwd=tmp_path)
    assert own.stdout == expected


def test_classes_of_the_script_can_be_pickled(tmp_path):
    text = (
        "import pickle\n"
        "from common.layers import Relu\n"
        "class Own(Relu):\n"
        "    pass\n"
        "print(type(pickle.loads(pickle.dumps(Own()))) is Own, Own.__module__)\n"
    )
    write(tmp_path / "own.py", text)
    done = python("-m", "fastconv", "own.py", cwd=tmp_path)
    assert done.stdout == "True __main__\n", done.stderr


def test_a_module(book):
    expected = plainly("gradient_check.py", cwd=book / "ch05")
    write(book / "ch05" / "__init__.py", "")
    done = python("-m", "fastconv", "-m", "gradient_check", cwd=book / "ch05")
    assert_same_print(done.stdout, expected, tolerance=1e-8)
    write(book / "ch05" / "__main__.py", "import sys; print(__package__, sys.argv[1:])")
    done = python("-m", "fastconv", "-m", "ch05", "one", cwd=book)
    assert done.stdout == "ch05 ['one']\n"
    done = python("-m", "fastconv", "-m", "no_such_module", cwd=book)
    assert done.returncode == 1 and "No module named 'no_such_module'" in done.stderr


@pytest.mark.parametrize(
    "text, status, shown",
    [
        ("raise KeyError('mine')", 1, "KeyError: 'mine'"),
        ("import sys; sys.exit(7)", 7, ""),
        ("import sys; sys.exit('sorry')", 1, "sorry"),
        ("print(1", 1, "SyntaxError"),
        ("import warnings; warnings.warn('own')", 0, "UserWarning: own"),
    ],
)
def test_its_end_is_the_scripts_own(tmp_path, text, status, shown):
    write(tmp_path / "end.py", text)
    done = python("-m", "fastconv", "end.py", cwd=tmp_path)
    assert done.returncode == status
    assert shown in done.stderr
    assert last_line(done).startswith("fastconv: nothing served: no import of common.functions")


def test_interactive_python_has_the_scripts_names(book):
    session = "print('epochs', trainer.epochs, type(network).__module__)\n"
    done = python("-i", "-m", "fastconv", TRAIN, cwd=book / "ch07", stdin=session)
    assert done.returncode == 0, done.stderr
    assert "epochs 2 simple_convnet\n" in done.stdout
    assert "fastconv: served" in last_line(done)


def test_runpy_runs_scripts_under_the_hook(book):
    text = (
        "import fastconv, runpy\n"
        "fastconv.install()\n"
        "names = runpy.run_path('gradient_check.py', run_name='__main__')\n"
        "print(type(names['network'].layers['Affine1']).__module__)\n"
    )
    expected = plainly("gradient_check.py", cwd=book / "ch05")
    write(book / "ch05" / "outer.py", text)
    done = python("outer.py", cwd=book / "ch05")
    assert_same_print(done.stdout, expected + "fastconv.layers.dense\n", tolerance=1e-8)
    assert last_line(done).startswith("fastconv: served common (")


# ---- wrong use ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, message",
    [
        (["run"], "no script is named"),
        (["run", "missing.py"], "missing.py does not exist: expected a script"),
        (["run", "."], ". is a folder"),
        (["run", "--backend", "nonsense", "here.py"], "unknown backend 'nonsense'"),
        (["run", "--dtype", "float16", "here.py"], "invalid choice: 'float16'"),
        (["run", "--threads", "0", "here.py"], "must be between 1 and 65536, got 0"),
        (["run", "--profile=calls.txt", "here.py"], "must end in .json, got calls.txt"),
    ],
)
def test_wrong_use(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "here.py", "raise SystemError")
    finders = list(sys.meta_path)
    assert main(words) == 2
    assert sys.meta_path == finders
    shown = capsys.readouterr()
    assert shown.err.startswith("fastconv run: error: ") and message in shown.err
    assert shown.out == ""


def test_an_unknown_command(tmp_path):
    done = python("-m", "fastconv", "trian", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("fastconv run: error: trian does not exist: expected a script")


def test_commands_are_still_commands(tmp_path):
    write(tmp_path / "info", "print('the script')")
    assert "backend numpy" in python("-m", "fastconv", "info", cwd=tmp_path).stdout
    assert python("-m", "fastconv", "./info", cwd=tmp_path).stdout == "the script\n"
    assert "run a script" in python("-m", "fastconv", "--help", cwd=tmp_path).stdout


# ---- options, and what is said at the end ----------------------------------------------------


def test_options_reach_the_kernels(book):
    options = ["--backend", "numpy", "--dtype", "float32", "--threads", "1"]
    expected = plainly(TRAIN, cwd=book / "ch07")
    done = python("-m", "fastconv", *options, TRAIN, cwd=book / "ch07")
    assert "(numpy, float32, float64, 1 thread)" in last_line(done)  # Adam steps in float64
    ours, theirs = done.stdout.splitlines(), expected.splitlines()
    assert ours[0] != theirs[0]  # no longer double precision, but near
    assert_same_print(ours[0], theirs[0], tolerance=1e-4)


def test_the_line_is_one_line_and_says_what_ran_elsewhere(book):
    done = python("-m", "fastconv", "batch_norm_dropout.py", cwd=book / "ch06")
    assert len(done.stderr.splitlines()) == 1
    line = last_line(done)
    modules = "functions, gradient, layers, optimizer, trainer, util"
    assert line.startswith(f"fastconv: served common ({modules}), dataset (mnist); ")
    assert "from your files: common (multi_layer_net, multi_layer_net_extend)" in line
    assert "data from your load_mnist: your dataset folder lacks MNIST's four files" in line
    assert re.search(r"; [\d.]+ s in [\d,]+ kernel calls \(", line)
    assert re.search(r"; [\d.]+ s elsewhere, in Python and NumPy;", line)


def test_profile(book):
    words = ["--profile", "calls.json", TRAIN]
    done = python("-m", "fastconv", *words, cwd=book / "ch07")
    assert done.returncode == 0, done.stderr
    rows = [line.split("  ") for line in done.stderr.splitlines()]
    table = {
        (row[0].strip(), next(w for w in row[1:] if w).strip()) for row in rows if len(row) > 3
    }
    assert ("Convolution 1", "conv2d_forward") in table
    assert ("Affine 2", "affine_backward") in table
    assert ("-", "adam_update") in table
    assert ("elsewhere", "Python, NumPy") in table

    content = json.loads((book / "ch07" / "calls.json").read_text())
    events = content["traceEvents"]
    assert all(event["ph"] == "X" and event["dur"] >= 0 for event in events)
    # 12 steps of two forward passes, 4 evaluations of one or two batches of 100
    forward = [e for e in events if e["name"] == "conv2d_forward"]
    kernels = content["fastconv"]["kernels"]
    summed = next(row for row in kernels if row["kernel"] == "conv2d_forward")
    assert summed["calls"] == len(forward) == 12 * 2 + 2 * 2 + 1
    assert {event["args"]["layer"] for event in forward} == {"Convolution 1"}
    assert summed["seconds"] == pytest.approx(sum(event["dur"] for event in forward) / 1e6)
    # 24x24 places, 8 filters of 5x5: a multiplication and an addition for each weight
    images = 24 * 50 + 5 * 100
    flops = 2 * 24 * 24 * 8 * 25 * images
    assert summed["gflops"] == pytest.approx(flops / summed["seconds"] / 1e9)
    assert content["fastconv"]["kernel_seconds"] == pytest.approx(
        sum(row["seconds"] for row in kernels)
    )


def test_a_profile_by_a_clock_that_stands_still():
    """As a coarse one does during a short script: there are no shares of no time."""
    row = {"layer": "", "kernel": "relu_forward", "backend": "numpy", "dtype": "float32"}
    row |= {"algorithm": None, "calls": 1, "seconds": 0.0, "gflops": None}
    told = {"seconds": 0.0, "kernel_seconds": 0.0, "kernels": [row]}
    kernel, elsewhere = summary.rows(told)
    assert kernel[6:] == ("0.0000", "-", "-")
    assert elsewhere[6:] == ("0.0000", "-", "")


def test_a_profile_that_cannot_be_written(book):
    words = ["--profile", "missing/calls.json", "gradient_check.py"]
    done = python("-m", "fastconv", *words, cwd=book / "ch05")
    assert done.returncode == 0
    assert "fastconv: error: the profile was not written: " in done.stderr


def test_the_hook_is_there_for_the_installed_command(book):
    command = shutil.which("fastconv")
    if command is None:
        pytest.skip("fastconv is not installed here, so there is no command of that name")
    expected = plainly("gradient_check.py", cwd=book / "ch05")
    done = python(command, "run", "gradient_check.py", cwd=book / "ch05")
    assert_same_print(done.stdout, expected, tolerance=1e-8)


def test_all_commands_are_known_without_importing_them():
    (commands,) = cli.build_parser()._subparsers._group_actions
    assert list(commands.choices) == list(COMMANDS)
    assert {path.stem for path in Path(cli.__file__).parent.glob("*.py")} >= set(COMMANDS)


def test_a_script_starts_without_what_training_needs(book):
    """It would take longer than importing NumPy does."""
    script = book / "which.py"
    script.write_text("import sys, common.layers\nprint([m for m in sys.modules if 'fast' in m])")
    done = python("-m", "fastconv", script, cwd=book)
    loaded = done.stdout
    assert "fastconv.cli.run" in loaded and "fastconv.layers" in loaded
    for heavy in ("cli.main", "experiment", "models", "network"):
        assert f"fastconv.{heavy}" not in loaded, heavy
