"""Ctrl-C before the command has begun: an exit status and one line, wherever it comes."""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest

import fastconv

from ..conftest import CHECKOUT
from .conftest import environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

FINDER = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""
"""Sends this process SIGINT as it begins to import a module."""

MODULES = (
    "numpy",
    "fastconv.layers",
    "fastconv.models.vgg",
    "fastconv.cli.predict",
    "fastconv.cli.main",
)
SCRIPT = "import sys; from fastconv.__main__ import main; sys.exit(main())"


def run(
    tmp_path, module: str, *command: str, at_first: signal.Handlers = signal.SIG_DFL
) -> subprocess.CompletedProcess[str]:
    """Run a command that SIGINT comes to; `at_first` is what its parent lets SIGINT do to it."""
    (tmp_path / "sitecustomize.py").write_text(FINDER.replace("MODULE", repr(module)))
    variables = environment()
    variables["PYTHONPATH"] = f"{tmp_path}:{variables['PYTHONPATH']}"
    words = [sys.executable, "-P", *command]
    return subprocess.run(
        words,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, at_first),
    )


@pytest.mark.parametrize("command", [("-m", "fastconv"), ("-c", SCRIPT)], ids=["-m", "script"])
@pytest.mark.parametrize("module", MODULES)
def test_an_interrupt_while_the_command_imports(tmp_path, module, command):
    done = run(tmp_path, module, *command, "recipes")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "fastconv: error: interrupted\n"


def test_an_interrupt_that_is_ignored_stays_so(tmp_path):
    """As in the background of a shell without job control, or under nohup."""
    words = ("-m", "fastconv", "recipes")
    done = run(tmp_path, "fastconv.layers", *words, at_first=signal.SIG_IGN)
    assert done.returncode == 0, done.stderr
    assert "mnist-book" in done.stdout


def test_an_interrupt_while_options_are_read(fastconv_command, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("fastconv.cli.main.build_parser", interrupted)
    assert fastconv_command("info") == (130, "", "fastconv: error: interrupted\n")


def test_the_script_is_that_entry():
    scripts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["scripts"]
    module, name = scripts["fastconv"].split(":")
    assert getattr(import_module(module), name) is import_module("fastconv.__main__").main


def test_the_package_imports_what_is_named():
    """So that nothing takes long before the command can answer to an interrupt."""
    code = "import sys, fastconv; print('numpy' in sys.modules, len(fastconv.__version__) > 0)\n"
    code += "print(fastconv.layers.Relu.__name__, 'numpy' in sys.modules)\n"
    code += "from fastconv import *; print(Trainer.__module__, DeepConvNet.__name__)"
    words = [sys.executable, "-P", "-c", code]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "False True",
        "Relu True",
        "fastconv.trainer DeepConvNet",
    ]
    assert set(fastconv.__all__) <= set(dir(fastconv))
    for name in fastconv.__all__:
        assert getattr(fastconv, name) is not None
    assert fastconv.models.ensemble.Ensemble.__name__ == "Ensemble"
    with pytest.raises(AttributeError, match="module 'fastconv' has no attribute 'transformers'"):
        _ = fastconv.transformers
