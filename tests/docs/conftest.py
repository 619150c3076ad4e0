"""What pages and help take for granted is made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastconv import selection
from fastconv.cli import main as cli

from .stage import make_stage


@pytest.fixture(scope="session")
def kept(tmp_path_factory) -> Path:
    """A folder with trained runs, photos, weights and scripts."""
    for package in ("sklearn", "PIL", "matplotlib", "safetensors", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    if not (status := selection.registry().status("cython")):
        pytest.skip(status.reason)  # the pages ask for it by name
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_stage(run, patch)
    return folder


def run(*words: str) -> None:
    assert cli.main(list(words)) == 0
