"""What messages tell the user to do has to work as it is said."""

from __future__ import annotations

import ast
import re
import sys
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import fastconv
from fastconv.cli import main as cli
from fastconv.datasets import load_digits
from fastconv.datasets.download import fetch
from fastconv.datasets.idx import IdxFile
from fastconv.datasets.picture import pillow
from fastconv.distributed import DataParallel
from fastconv.errors import ArgumentError, BackendUnavailable, MissingDependency
from fastconv.figures import confusion
from fastconv.io import export_onnx, load_params, save_params
from fastconv.io.onnx_runtime import OnnxModel
from fastconv.models import lenet
from fastconv.progress import ProgressBar

PACKAGE = Path(fastconv.__file__).parent


def said() -> list[str]:
    """All texts of the package that are not docstrings, those in parts put together."""
    texts = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def test_nothing_is_to_be_installed_that_no_index_has():
    """fastconv itself is in none, nor are its extras: packages are named themselves."""
    found = [text for text in said() if "pip install" in text]
    assert len(found) >= 8
    for text in found:
        (what,) = re.findall(r"pip install (?:--upgrade )?([^\s)]+)", text)
        assert re.fullmatch(r"[a-z0-9-]+", what) and what != "fastconv", text


def import_again(name: str) -> None:
    with mock.patch.dict(sys.modules):
        sys.modules.pop(name, None)
        import_module(name)


CALLS = {
    "sklearn": lambda: load_digits(),
    "PIL": pillow,
    "pooch": lambda: fetch(IdxFile("train-images", (1,), ""), ()),
    "tqdm": lambda: ProgressBar(1, 0, show=True),
    "matplotlib": lambda: confusion(np.eye(2, dtype=int), "ab"),
    "safetensors": lambda: save_params("x.safetensors", {"W1": np.zeros(1)}),
    "onnx": lambda: export_onnx(lenet(seed=0), "x.onnx"),
    "onnxruntime": lambda: OnnxModel("x.onnx", 1),
    "starlette": lambda: import_again("fastconv.web.server"),
    "uvicorn": lambda: import_again("fastconv.web.server"),
    "mpi4py": lambda: DataParallel(),
}


@pytest.mark.parametrize("module", CALLS)
def test_a_package_that_is_missing_is_named_as_pip_knows_it(module, monkeypatch, tmp_path):
    pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    for name in list(sys.modules):
        if name.partition(".")[0] == module:
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=r": pip install [a-z0-9-]+$") as caught:
        CALLS[module]()
    (package,) = re.findall(r"pip install ([a-z0-9-]+)$", str(caught.value))
    assert package in [name.lower() for name in packages_distributions()[module]]
    assert list(tmp_path.iterdir()) == []


def test_files_of_pytorch_can_be_read_after_what_is_said_and_not_written(tmp_path):
    with pytest.raises(ArgumentError, match=r"there, write safetensors\.torch\.save_file"):
        load_params(tmp_path / "model.pt")
    with pytest.raises(ArgumentError) as caught:
        save_params(tmp_path / "model.pt", {"W1": np.zeros(1)})
    assert "PyTorch" not in str(caught.value)


def test_a_command_that_is_named_can_be_copied(tmp_path, monkeypatch, capsys):
    """Of an ensemble that is not trained yet, in a folder whose name has a space."""
    monkeypatch.chdir(tmp_path)
    words = ["train", "--members", "2", "--model", "lenet", "--epochs", "1", "--out", "my run"]
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    monkeypatch.setattr("fastconv.experiment.ensemble._gather", lambda *_: pytest.skip("trained"))

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastconv.trainer.Trainer.train", stop)
    assert cli.main(words) == 130
    capsys.readouterr()
    assert cli.main(["evaluate", "my run"]) == 1
    assert "; fastconv train --resume 'my run' goes on" in capsys.readouterr().err


def test_numbas_hint_of_tbb_is_not_passed_on(monkeypatch):
    """Its loader does not find the library of the package that the hint names."""
    numba = pytest.importorskip("numba")
    from fastconv.backends._numba.launch import team

    def fail():
        raise ValueError(
            "No threading layer could be loaded.\nHINT:\nIntel TBB is required, try:\n"
            "$ conda/pip install tbb\n"
        )

    monkeypatch.setattr(numba, "get_num_threads", fail)
    monkeypatch.setattr(numba.config, "THREADING_LAYER", "tbb")
    with pytest.raises(BackendUnavailable) as caught:
        team.open_layer()
    assert str(caught.value) == (
        "numba: threading layer 'tbb' cannot be started: No threading layer could be loaded; "
        "unset NUMBA_THREADING_LAYER, or use one thread"
    )
    assert not [text for text in said() if "nstall" in text and "tbb" in text]
