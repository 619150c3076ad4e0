"""What a page's commands and code find: small files under the names that the pages use."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import figures
from fastconv.cli import train as cli_train
from fastconv.datasets import DATASETS, load_digits, mnist
from fastconv.datasets.idx import IdxFile
from fastconv.io import save_params, to_torch

from ..conftest import CHECKOUT
from ..dropin.conftest import BOOK, write_digits
from ..picture_files import write
from ..stand_ins import save_no_pixels

EPOCHS = 2
"""Of a run that a command starts: the pages' own take from minutes to hours."""


@dataclass
class Stage:
    """A folder for one page, and what its hidden blocks may ask for.

    Attributes
    ----------
    patch : pytest.MonkeyPatch
        Undone when the page ends.
    """

    patch: pytest.MonkeyPatch

    def small_mnist(self, train: int, test: int) -> None:
        """Let so many of scikit-learn's digits stand for MNIST, in files of MNIST's form."""
        (x_train, t_train), (x_test, t_test) = load_digits(normalize=False, flatten=False)
        order = np.random.default_rng(0).permutation(len(x_train))[:train]
        other = np.random.default_rng(0).permutation(len(x_test))[:test]
        arrays = (x_train[order, 0], t_train[order], x_test[other, 0], t_test[other])
        files = []
        for file, values in zip(mnist.FILES, arrays, strict=True):
            header = bytes([0, 0, 8, values.ndim])
            content = header + np.array(values.shape, ">u4").tobytes() + values.tobytes()
            folder = Path("mnist")
            folder.mkdir(exist_ok=True)
            (folder / file.name).write_bytes(content)
            digest = hashlib.md5(content).hexdigest()
            files.append(IdxFile(file.name, values.shape, digest))
        self.patch.setattr(mnist, "FILES", tuple(files))
        kept = [file.read(Path("mnist").resolve()) for file in files]
        self.patch.setattr(mnist, "_from_cache", lambda *_: kept)

    def torch_module(self, network: Any) -> Any:
        """A stand-in for a module of PyTorch with the same layers, and for PyTorch itself."""
        self.patch.setitem(sys.modules, "torch", SimpleNamespace(from_numpy=np.asarray))
        state = network.state() if getattr(network, "dotted", False) else network.params
        state = to_torch(state, network=network)
        return _Module({name: value.copy() for name, value in state.items()})


@dataclass
class _Module:
    """What is used of a ``torch.nn.Module``."""

    state: dict[str, np.ndarray]

    def state_dict(self) -> dict[str, np.ndarray]:
        return dict(self.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state.keys() == self.state.keys()
        for name, value in state.items():
            assert np.shape(value) == self.state[name].shape, name
        self.state = {name: np.asarray(value) for name, value in state.items()}


def set_the_stage(patch: pytest.MonkeyPatch, kept: Path) -> Stage:
    """Fill the working folder, and keep what commands train small.

    Parameters
    ----------
    kept : Path
        What `make_stage` has made.
    """
    few = _few_digits()
    patch.setitem(DATASETS, "digits", few)
    patch.setattr(cli_train, "new_config", _shortened(cli_train.new_config))
    patch.setattr(figures, "save", save_no_pixels)  # those of `make_stage` are whole
    stage = Stage(patch)
    stage.small_mnist(120, 60)
    shutil.copytree(kept, ".", dirs_exist_ok=True)
    return stage


def make_stage(run: Callable[..., Any], patch: pytest.MonkeyPatch) -> None:
    """Make, in the working folder, the files that the pages take for granted."""
    patch.setitem(DATASETS, "digits", _few_digits())
    for name in ("mnist", "first", "second", "mine"):
        run("train", "--epochs", "1", "--out", f"runs/{name}", "--seed", "0")
    run("ensemble", "runs/first", "runs/second", "--out", "three.npz")
    # A class for each colour, so that something can be learnt.
    rng = np.random.default_rng(0)
    colours = {"cat": (200, 60, 40), "dog": (40, 180, 80), "owl": (60, 60, 210)}
    for folder, number in {"photos": 8, "more-photos": 3}.items():
        for name, colour in colours.items():
            for index in range(number):
                noise = rng.integers(-40, 40, (24, 30, 3))
                pixels = np.clip(noise + colour, 0, 255).astype(np.uint8)
                write(Path(folder, name, f"{index:03}.png"), pixels)
    Path("new").mkdir()
    shutil.copy("photos/cat/000.png", "new-photo.jpg")  # its content says that it is a PNG
    shutil.copy("photos/dog/000.png", "new/one.jpg")
    shutil.copy("photos/owl/000.png", "new/two.jpg")
    run("train", "--data", "photos", "--image-size", "16", "--epochs", "1", "--out", "runs/photos")
    (images, _), _ = _few_digits().load(flatten=False)
    for name in ("digit.png", "three.png", "seven.jpg"):
        write(Path(name), np.rint(images[0, 0] * 255).astype(np.uint8))
    network = fastconv.DeepConvNet(seed=0)
    save_params("deep_convnet_params.pkl", network.params, allow_pickle=True)
    save_params("weights.npz", network.params)
    shutil.copytree(CHECKOUT / "examples", "examples")
    for folder in ("dataset", "examples/dataset"):
        Path(folder).mkdir()
        shutil.copy(BOOK / "dataset" / "mnist.py", folder)
        write_digits(Path(folder))
    shutil.copy("examples/ch08/deep_convnet.py", ".")
    script = Path("examples/ch08/train_deepnet.py").read_text()
    imports = "import common.functions, common.optimizer, common.util\n"
    Path("train_convnet.py").write_text(imports + script)


def _few_digits() -> Any:
    (x_train, t_train), (x_test, t_test) = load_digits(flatten=False)
    split = (x_train[:61], t_train[:61]), (x_test[:41], t_test[:41])
    return replace(DATASETS["digits"], load=lambda flatten: split)


def _shortened(new_config: Callable[..., Any]) -> Callable[..., Any]:
    def shorter(given: dict[str, Any]) -> Any:
        config = new_config(given)
        return replace(config, epochs=min(config.epochs, EPOCHS))

    return shorter
