"""Python started in a checkout finds its sources before the fastconv that is installed."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastconv import selection
from fastconv.backends import cython
from fastconv.backends._cython import BUILT_FROM, source_digest

from .conftest import CHECKOUT

KERNELS = Path("fastconv/backends/_cython")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkout without kernels, and a folder of installed packages with a fastconv's."""
    if not (CHECKOUT / KERNELS / "kernels.pyx").is_file():
        pytest.skip("no sources of the kernels here")
    built = selection.list_backends()["cython"]
    if not built:
        pytest.skip(built.reason)
    checkout, installed = (tmp_path_factory.mktemp(name) for name in ("checkout", "installed"))
    compiled = shutil.ignore_patterns("*.so", "*.pyd", "_*.txt", "__pycache__")
    shutil.copytree(CHECKOUT / "fastconv", checkout / "fastconv", ignore=compiled)
    folder = Path(selection.registry().load("cython").describe()["compiled kernels"])
    (installed / KERNELS).mkdir(parents=True)
    for name in folder.iterdir():
        if name.suffix in (".so", ".pyd"):
            (installed / KERNELS / name.name).symlink_to(name)
    return checkout, installed


def started(checkout: Path, installed: Path, code: str) -> str:
    """What Python prints that is started in the checkout; warnings are errors."""
    got = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
        env=os.environ | {"PYTHONPATH": str(installed), "FASTCONV_BACKEND": "auto"},
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    return got.stdout + got.stderr


def test_kernels_of_the_same_sources_are_loaded_where_they_are_installed(places):
    checkout, installed = places
    digest = source_digest(checkout / KERNELS)
    (installed / KERNELS / BUILT_FROM).write_text(f"{digest}\n")
    code = (
        "import fastconv; from fastconv import selection; print(fastconv.__file__);"
        "print(fastconv.get_backend(), selection.registry().load('cython').describe())"
    )
    package, said = started(checkout, installed, code).splitlines()
    assert Path(package) == checkout / "fastconv/__init__.py"
    assert said.startswith("cython {") and str(installed / KERNELS) in said


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        ("0" * 64, "those of the fastconv installed in {installed} are of other sources"),
        (None, "no fastconv is installed beside it"),
    ],
    ids=["other sources", "none installed"],
)
def test_other_kernels_are_not_loaded_and_the_remedy_is_said(
    places, note, reason, monkeypatch, tmp_path
):
    checkout, installed = places
    (tmp_path / KERNELS).mkdir(parents=True)
    (installed / KERNELS / BUILT_FROM).unlink(missing_ok=True)
    if note is not None:
        (installed / KERNELS / BUILT_FROM).write_text(note)
        (tmp_path / KERNELS / BUILT_FROM).write_text("1" * 64)  # one that Python would not find
    # In this process: a fastconv of the tests' own environment would be found otherwise.
    monkeypatch.setattr(cython, "HERE", checkout / KERNELS)
    monkeypatch.setattr(sys, "path", [str(checkout), str(installed), str(tmp_path)])
    said = cython._missing(None, cython._built_elsewhere())
    assert f"{checkout} is a checkout whose kernels are not built, and " in said
    assert reason.format(installed=installed) in said
    assert "Remedy: pip install -e . in the checkout, or start Python elsewhere" in said


def test_the_digest_is_that_of_the_text_of_the_sources(tmp_path):
    assert source_digest(tmp_path) is None
    (tmp_path / "a.pxi").write_bytes(b"x\n")
    (tmp_path / "a.so").write_bytes(b"y")
    first = source_digest(tmp_path)
    (tmp_path / "a.so").write_bytes(b"z")
    (tmp_path / "a.pxi").write_bytes(b"x\r\n")
    assert source_digest(tmp_path) == first
    (tmp_path / "a.pxi").write_bytes(b"z\n")
    assert source_digest(tmp_path) != first
    (tmp_path / "a.pxi").rename(tmp_path / "b.pxi")
    assert source_digest(tmp_path) != first


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What builds the kernels, and only collects what it would build."""
    pytest.importorskip("Cython", reason="setup.py needs it")
    setuptools = pytest.importorskip("setuptools", reason="setup.py needs it")
    if not (CHECKOUT / "setup.py").is_file():
        pytest.skip("no setup.py here")
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setattr("setuptools.setup", lambda **settings: None)
    setup = runpy.run_path("setup.py")
    base = setup["BuildKernels"].__base__
    monkeypatch.setattr(base, "build_extensions", lambda build: None)
    monkeypatch.setattr(base, "build_extension", lambda build, ext: build.built.append(ext.name))
    build = setup["BuildKernels"](setuptools.Distribution())
    build.extensions, build.failures, build.built = setup["extensions"], {}, []
    return build


@pytest.mark.parametrize(
    ("flags", "inplace", "sets", "link"),
    [
        ([], 0, {"baseline", "avx2", "avx512"}, ["-pthread", "-s"]),
        ([], 1, {"baseline", "avx2", "avx512"}, ["-pthread"]),
        (["-U__x86_64__"], 0, {"baseline"}, ["-pthread", "-s"]),
        (["-D__clang__"], 0, {"baseline", "avx2", "avx512"}, ["-pthread", "-s"]),
        (["-no-such-flag"], 0, {"baseline"}, ["-pthread"]),
    ],
    ids=["host", "in place", "another target", "clang", "not to be asked"],
)
def test_the_build_asks_the_compiler_for_its_target(build, flags, inplace, sets, link):
    gcc = shutil.which("gcc")
    if gcc is None or sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("compares with gcc for x86-64 Linux")
    extensions, build.inplace = build.extensions, inplace
    build.ensure_finalized()
    build.compiler, build.extensions = SimpleNamespace(compiler_so=[gcc, *flags]), extensions
    build.inplace = 0  # as setuptools has it while it builds
    build.build_extensions()
    kernels = [each for each in build.extensions if not each.name.endswith(".cpu")]
    assert {each.name.rpartition("kernels_")[2] for each in kernels} == sets
    assert all(each.extra_link_args == link for each in kernels)
    for_gcc = {any("--param" in flag for flag in each.extra_compile_args) for each in kernels}
    assert for_gcc == {"-D__clang__" not in flags}


def test_msvc_is_not_asked_to_compile_the_kernels(build, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("FASTCONV_REQUIRE_EXTENSION", raising=False)
    build.compiler, build.inplace = SimpleNamespace(compiler_type="msvc"), 0
    build.build_extensions()
    monkeypatch.setitem(type(build).build_extension.__globals__, "translated", lambda ext: [])
    for ext in build.extensions:
        build.build_extension(ext)
    build.record(tmp_path / "reason")
    assert build.built == [f"{'.'.join(KERNELS.parts)}.cpu"]
    reason = (tmp_path / "reason").read_text()
    assert reason == (
        "not compiled at installation: kernels_baseline "
        "(MSVC has no vector types like GNU C's; gcc and clang do)\n"
    )
    assert reason.strip() in capsys.readouterr().out
    monkeypatch.setenv("FASTCONV_REQUIRE_EXTENSION", "1")
    errors = pytest.importorskip("setuptools.errors")
    with pytest.raises(errors.CCompilerError, match="MSVC has no vector types"):
        build.build_extension(build.extensions[0])
