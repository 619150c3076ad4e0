"""``fastconv completion``: the script for each shell, and what bash completes by it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from fastconv.models import MODELS


def test_without_shtab_the_package_is_named(fastconv_command, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    status, _, err = fastconv_command("completion", "bash")
    assert status == 1
    assert err.strip().endswith("completion needs shtab: pip install shtab")


def test_an_unknown_shell_is_refused(fastconv_command):
    status, _, err = fastconv_command("completion", "cmd")
    assert status == 2 and "invalid choice: 'cmd'" in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell, fastconv_command):
    pytest.importorskip("shtab")
    status, out, _ = fastconv_command("completion", shell)
    assert status == 0
    for word in ("evaluate", "label-smoothing", "balanced", "resnet110"):
        assert word in out
    said = json.loads(fastconv_command("completion", shell, "--json")[1])
    assert said == {"shell": shell, "script": out[:-1]}
    if program := shutil.which(shell):
        subprocess.run([program, "-n", "-c", out], check=True, timeout=60)


def test_what_bash_completes(fastconv_command, tmp_path, monkeypatch):
    pytest.importorskip("shtab")
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    script = tmp_path / "completion.bash"
    script.write_text(fastconv_command("completion", "bash")[1])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "weights.npz").touch()

    def completed(line: str) -> set[str]:
        words = line.split(" ")
        code = (
            f"source {script}; COMP_WORDS=({' '.join(map(repr, words))}); "
            f"COMP_CWORD={len(words) - 1}; _shtab_fastconv; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        done = subprocess.run(
            [bash, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        return {word.strip() for word in done.stdout.split("\n") if word.strip()}

    assert completed("fastconv ev") == {"evaluate"}
    assert completed("fastconv train --label") == {"--label-smoothing"}
    assert completed("fastconv train --model resnet1") == {
        name for name in MODELS if name.startswith("resnet1")
    }
    assert completed("fastconv train --class-weight ") == {"balanced"}
    assert completed("fastconv train --data ") >= {"kmnist", "runs", "weights.npz"}
    assert completed("fastconv evaluate runs --data cif") == {"cifar10"}
    assert completed("fastconv train --recipe mnist-b") == {"mnist-best", "mnist-book"}
    assert completed("fastconv predict --backend nu") == {"numba", "numpy"}
    assert completed("fastconv train --init we") == {"weights.npz"}
    assert completed("fastconv train --resume ") == {"runs"}
