"""What pyproject.toml cannot say: the Cython kernels, built once for each instruction set.

A machine that cannot compile them still gets a working fastconv, on NumPy and Numba: the reason
is printed and kept beside the kernels, where ``fastconv info`` finds it. With
FASTCONV_REQUIRE_EXTENSION=1 in the environment, such a failure is an error instead.
"""

from __future__ import annotations

import os
import platform
import threading
from pathlib import Path
from subprocess import CalledProcessError

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

PACKAGE = "fastconv.backends._cython"
SOURCE = Path("fastconv/backends/_cython")
REASON_FILE = "_build_reason.txt"

ISA_FLAGS: dict[str, list[str]] = {"baseline": []}
if platform.machine() in ("x86_64", "AMD64"):
    avx2 = ["-mavx2", "-mfma"]
    avx512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
    ISA_FLAGS |= {"avx2": avx2, "avx512": avx2 + avx512}

KERNEL_FLAGS = [
    "-O3",
    "-g0",
    "-fopenmp",
    # sqrt need not set errno, so that loops of it become vectors. No -ffast-math: results count.
    "-fno-math-errno",
    # gcc unrolls 16 iterations at most by default, and would leave a tile of 8 x 2 in memory.
    "--param=max-completely-peeled-insns=2000",
    "--param=max-completely-peel-times=64",
]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
}


class BuildKernels(build_ext):
    """Builds the extensions side by side, and goes on without those that fail."""

    cython_lock = threading.Lock()

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()
        self.failures: dict[str, str] = {}

    def run(self) -> None:
        super().run()
        self.record((SOURCE if self.inplace else Path(self.build_lib, SOURCE)) / REASON_FILE)

    def build_extension(self, ext: Extension) -> None:
        with self.cython_lock:
            ext.sources = cythonize([ext], compiler_directives=DIRECTIVES)[0].sources
        try:
            super().build_extension(ext)
        except (BaseError, CCompilerError, OSError) as error:
            if os.environ.get("FASTCONV_REQUIRE_EXTENSION") == "1":
                raise
            cause = error.args[0] if error.args else error
            if isinstance(cause, CalledProcessError):  # str() would give the whole command
                cause = f"{cause.cmd[0]} failed with exit status {cause.returncode}"
            self.failures[ext.name] = str(cause).replace("\n", " ")

    def copy_extensions_to_source(self) -> None:
        self.extensions = [ext for ext in self.extensions if ext.name not in self.failures]
        super().copy_extensions_to_source()

    def record(self, path: Path) -> None:
        """Write the reasons down where the backend looks for them, or remove old ones."""
        if not self.failures:
            path.unlink(missing_ok=True)
            return
        names = ", ".join(sorted(name.rpartition(".")[2] for name in self.failures))
        reason = f"not compiled at installation: {names} ({min(self.failures.values())})"
        print(f"fastconv: Cython kernels {reason}. The NumPy and Numba backends are not affected.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(reason + "\n", encoding="utf-8")


headers = [str(path) for kind in ("*.h", "*.pxi") for path in SOURCE.glob(kind)]
extensions = [
    Extension(
        f"{PACKAGE}.kernels_{isa}",
        [str(SOURCE / f"kernels_{isa}.pyx")],
        language="c++",
        depends=headers,
        extra_compile_args=KERNEL_FLAGS + flags,
        extra_link_args=["-fopenmp"],
    )
    for isa, flags in ISA_FLAGS.items()
]
extensions.append(Extension(f"{PACKAGE}.cpu", [str(SOURCE / "cpu.pyx")]))

setup(
    ext_modules=extensions,
    cmdclass={"build_ext": BuildKernels},
)
