"""Cycles that a multiply-add of a vector takes in the Cython kernels for ARM, as LLVM estimates.

::

    python -m benchmarks.arm_cycles fastconv/backends/_cython/kernels_baseline.*aarch64*.so

It finds the innermost loop with the most multiply-adds of `product_tiles_2`, in which convolutions
and matrix products spend their time, and asks ``llvm-mca`` how long it takes on some processors.
That is a model of each, with all memory in the first cache: nothing is measured.
"""

from __future__ import annotations

import re
import subprocess
import sys

FUNCTION = "__pyx_fuse_0__pyx_f_8fastconv_8backends_7_cython_7kernels_product_tiles_2"
PROCESSORS = ("cortex-a55", "cortex-a72", "neoverse-n1", "neoverse-v2")
RUNS = 200


def functions(library: str) -> dict[str, list[tuple[int, str]]]:
    """The instructions of each function, with their addresses."""
    command = ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", library]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, list[tuple[int, str]]] = {}
    for line in text.splitlines():
        if name := re.fullmatch(r"[0-9a-f]+ <(.*)>:", line):
            instructions = found.setdefault(name[1], [])
        elif code := re.fullmatch(r"\s*([0-9a-f]+):\t(.*)", line):
            instructions.append((int(code[1], 16), code[2].partition("//")[0].strip()))
    return found


def loops(instructions: list[tuple[int, str]]) -> list[list[str]]:
    """The bodies of innermost loops: from where a jump leads back to, up to that jump."""
    places = {address: i for i, (address, _) in enumerate(instructions)}
    ends = []
    for i, (_, code) in enumerate(instructions):
        if jump := re.fullmatch(r"(?:b|b\.\w+|cbn?z|tbn?z)\s.*?([0-9a-f]+) <.*>", code):
            first = places.get(int(jump[1], 16), i + 1)
            if first <= i:
                ends.append((first, i))
    inner = [(a, b) for a, b in ends if not any(a <= c and d < b for c, d in ends)]
    return [[code for _, code in instructions[a : b + 1]] for a, b in inner]


def cycles(loop: list[str], processor: str) -> float:
    """Cycles of one run of the loop."""
    code = [".L:", *(re.sub(r"[0-9a-f]+ <.*>", ".L", line) for line in loop)]
    command = ["llvm-mca-19", "-mtriple=aarch64", f"-mcpu={processor}", f"-iterations={RUNS}"]
    text = "\n".join(code) + "\n"
    report = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    total = re.search(r"Total Cycles:\s+(\d+)", report)
    assert total is not None, report
    return int(total[1]) / RUNS


def main() -> None:
    (library,) = sys.argv[1:]
    found = functions(library)
    bodies = [body for name in found if FUNCTION in name for body in loops(found[name])]

    def multiply_adds(body: list[str]) -> int:
        return sum(code.startswith("fmla") for code in body)

    body = max(bodies, key=multiply_adds)
    count = multiply_adds(body)
    print(f"{count} multiply-adds in {len(body)} instructions; cycles for each:")
    for processor in PROCESSORS:
        print(f"    {processor:12} {cycles(body, processor) / count:.2f}")


if __name__ == "__main__":
    main()
