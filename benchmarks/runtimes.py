"""Whether runtimes that read ONNX compute what fastconv computes: models x runtimes.

::

    pip install '.[runtimes]'
    python benchmarks/runtimes.py
    python benchmarks/runtimes.py --runtime OpenVINO --model average

Each model is exported for images of one size, and each cell is a process of its own, which loads
the model and computes one image: a runtime that crashes spoils no other cell. An output is right
if it differs from fastconv's by at most 1e-4 of the largest number. A model that a runtime does
not take is refused, with the reason. OpenVINO as it is computes in
bfloat16 where the CPU can: that is called rough. The exit status is 1 if anything is wrong.
"""

from __future__ import annotations

if not __package__:  # run as a script
    import processes

    processes.run_module("runtimes")
    raise SystemExit

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.io import export_onnx
from fastconv.layers import (
    AdaptiveAveragePooling,
    Affine,
    AveragePooling,
    BatchNormalization,
    Convolution,
    Dropout,
    Elu,
    Gelu,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
    Relu,
    Sigmoid,
    Silu,
    Subsampling,
    Tanh,
)
from fastconv.models import make_model
from fastconv.models.ensemble import Ensemble
from fastconv.network import Network
from fastconv.network.views import Views

from . import processes

TOLERANCE = 1e-4
SECONDS = 300
"""What a cell may take."""

Shape = tuple[int, ...]


def convolution(**settings: Any) -> Convolution:
    """Six filters of 3 x 3."""
    rng = np.random.default_rng(0)
    channels = 6 // settings.get("groups", 3) if "groups" in settings else 3
    weight, bias = rng.standard_normal((6, channels, 3, 3)), rng.standard_normal(6)
    return Convolution(weight.astype("f4"), bias.astype("f4"), **settings)


def chain(*layers: Any, shape: Shape = (3, 11, 10)) -> tuple[Any, Shape]:
    """A network of these layers."""
    return Network(list(layers), "float32"), shape


def average(stride: int, pad: int, ceil_mode: bool, count_padding: bool) -> tuple[Any, Shape]:
    """Means of windows of 3 x 3."""
    settings = {"ceil_mode": ceil_mode, "count_padding": count_padding}
    return chain(convolution(), AveragePooling(3, 3, stride, pad, **settings))


def ensemble(views: str) -> tuple[Any, Shape]:
    """Two members on some views."""
    members = [make_model("lenet", (1, 28, 28), 10, seed=seed) for seed in (0, 1)]
    return Ensemble(members, Views.parse(views).views), (1, 28, 28)


def model(name: str, shape: Shape = (1, 28, 28)) -> tuple[Any, Shape]:
    """One of fastconv's own networks."""
    return make_model(name, shape, 10, seed=0), shape


def norm() -> BatchNormalization:
    """Statistics for each of 6 * 9 * 8 activations."""
    rng = np.random.default_rng(0)
    gamma, beta, mean = rng.standard_normal((3, 432)).astype("f4")
    variance = rng.uniform(0.5, 2, 432).astype("f4")
    return BatchNormalization(gamma, beta, running_mean=mean, running_var=variance)


def affine(features: int, units: int = 5) -> Affine:
    """A layer of units."""
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((features, units)), rng.standard_normal(units)
    return Affine(weight.astype("f4"), bias.astype("f4"))


MODELS: dict[str, Callable[[], tuple[Any, Shape]]] = {
    "convolution": lambda: chain(convolution(pad=1), Relu(), affine(660)),
    "convolution, stride 2, dilation 2": lambda: chain(convolution(stride=2, pad=1, dilation=2)),
    "convolution in groups": lambda: chain(convolution(), convolution(groups=3)),
    "max pooling, pad 1": lambda: chain(convolution(), Pooling(3, 3, 2, 1)),
    "max pooling, ceil mode": lambda: chain(convolution(), Pooling(3, 3, 2, ceil_mode=True)),
    "average pooling": lambda: average(2, 0, False, True),
    "average pooling, pad 1": lambda: average(2, 1, False, True),
    "average pooling, pad 1, padding not counted": lambda: average(2, 1, False, False),
    "average pooling, ceil mode": lambda: average(2, 0, True, True),
    "average pooling, ceil mode, pad 1": lambda: average(2, 1, True, True),
    "average pooling, ceil mode, pad 1, padding not counted": lambda: average(2, 1, True, False),
    "adaptive average pooling": lambda: chain(convolution(), AdaptiveAveragePooling(4, 3)),
    "subsampling, more channels": lambda: chain(convolution(), Subsampling(2, 4)),
    "local response normalization": lambda: chain(convolution(), LocalResponseNormalization(3)),
    "batch normalization of activations": lambda: chain(convolution(), norm(), Relu()),
    "activations": lambda: chain(
        *(affine(6, 9), Tanh(), LeakyRelu(0.3), Elu(1.2), Gelu(), Silu(), Sigmoid(), Dropout(0.3)),
        shape=(6,),
    ),
    "lenet": lambda: model("lenet"),
    "deepconvnet": lambda: model("deepconvnet"),
    "digitnet4": lambda: model("digitnet4"),
    "resnet20": lambda: model("resnet20", (3, 32, 32)),
    "resnet18": lambda: model("resnet18", (3, 64, 64)),
    "vgg11": lambda: model("vgg11", (3, 32, 32)),
    "googlenet": lambda: model("googlenet", (3, 64, 64)),
    "ensemble": lambda: ensemble("none"),
    "ensemble, views shifted and mirrored": lambda: ensemble("shift=1,mirror"),
    "ensemble, views turned": lambda: ensemble("rotate=5"),
}


def onnx_runtime(path: Path, x: np.ndarray) -> np.ndarray:
    """ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]


def open_vino(path: Path, x: np.ndarray, precision: str = "f32") -> np.ndarray:
    """OpenVINO, which computes in bfloat16 where the CPU can, unless it is told otherwise."""
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
    return openvino.Core().compile_model(str(path), "CPU", hints)(x)[0]


def open_vino_as_it_is(path: Path, x: np.ndarray) -> np.ndarray:
    """OpenVINO without a hint of the precision."""
    return open_vino(path, x, "")


def open_cv(path: Path, x: np.ndarray) -> np.ndarray:
    """OpenCV's module dnn."""
    import cv2

    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(x)
    return net.forward()


def mnn(path: Path, x: np.ndarray) -> np.ndarray:
    """MNN, whose command mnnconvert would install a package and report home."""
    import MNN

    converter = import_module("_tools")  # after MNN
    target = str(path.with_suffix(".mnn"))
    converter.mnnconvert(["", "-f", "ONNX", "--modelFile", str(path), "--MNNModel", target])
    (out,) = MNN.nn.load_module_from_file(target, ["input"], []).forward(
        [MNN.expr.const(x, list(x.shape), MNN.expr.NCHW)]
    )
    return np.array(MNN.expr.convert(out, MNN.expr.NCHW).read())


def onnx_to_torch(path: Path, x: np.ndarray) -> np.ndarray:
    """onnx2torch's module, run by PyTorch."""
    import onnx2torch
    import torch

    with torch.no_grad():
        return onnx2torch.convert(str(path)).eval()(torch.from_numpy(x)).numpy()


def ncnn_by_pnnx(path: Path, x: np.ndarray) -> np.ndarray:
    """Ncnn, on what pnnx makes of the model for images of this size."""
    import ncnn
    import pnnx

    shape = ",".join(map(str, x.shape))
    command = [pnnx.EXEC_PATH, path.name, f"inputshape=[{shape}]", "fp16=0"]
    subprocess.run(command, cwd=path.parent, check=True, stdout=subprocess.DEVNULL)
    net = ncnn.Net()
    net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    if net.load_param(str(path.with_suffix(".ncnn.param"))):
        raise RuntimeError("load_param failed")
    net.load_model(str(path.with_suffix(".ncnn.bin")))
    with net.create_extractor() as extractor:
        extractor.input("in0", ncnn.Mat(x[0]).clone())
        failed, out = extractor.extract("out0")
        if failed:
            raise RuntimeError(f"extract failed with {failed}")
        return np.array(out)[None]


def tract_onnx(path: Path, x: np.ndarray) -> np.ndarray:
    """Tract, told the shape of the input."""
    import tract

    loaded = tract.onnx().load(path)
    loaded.set_input_fact(0, ",".join(map(str, (*x.shape, "f32"))))
    return loaded.into_model().into_runnable().run([x])[0].to_numpy()


RUNTIMES: dict[str, tuple[str, Callable[[Path, np.ndarray], np.ndarray]]] = {
    "ONNX Runtime": ("onnxruntime", onnx_runtime),
    "OpenVINO": ("openvino", open_vino),
    "OpenVINO as it is": ("openvino", open_vino_as_it_is),
    "OpenCV": ("opencv-python-headless", open_cv),
    "MNN": ("MNN", mnn),
    "onnx2torch": ("onnx2torch", onnx_to_torch),
    "ncnn": ("ncnn", ncnn_by_pnnx),
    "tract": ("tract", tract_onnx),
}
"""By the name in the table: the distribution, and what computes an image."""


def run_cell(runtime: str, path: Path) -> None:
    """Compute the image that lies beside a model, in this process, and write the output."""
    out = RUNTIMES[runtime][1](path, np.load(path.with_suffix(".npy")))
    np.save(path.with_suffix(".out.npy"), out)


def cell(runtime: str, path: Path, expected: np.ndarray) -> tuple[str, str]:
    """What a runtime makes of a model, in a process of its own: a word for it, and details."""
    out = path.with_suffix(".out.npy")
    out.unlink(missing_ok=True)
    line = processes.command("runtimes", "--cell", runtime, str(path))
    how = {"capture_output": True, "text": True, "errors": "replace", "timeout": SECONDS}
    try:
        done = subprocess.run(line, env=processes.environment(), **how)
    except subprocess.TimeoutExpired:
        return "refused", f"no answer within {SECONDS} s"
    if done.returncode or not out.exists():
        said = [line for line in done.stderr.splitlines() if re.match(r"[\w.]+: ", line)]
        return "refused", said[-1] if said else f"exit status {done.returncode}"
    return verdict(runtime, np.load(out), expected)


def verdict(runtime: str, got: np.ndarray, expected: np.ndarray) -> tuple[str, str]:
    """A word for what a runtime computed, and by how much it is off."""
    if got.size != expected.size:
        return "wrong", f"shape {got.shape}, expected {expected.shape}"
    error = np.abs(got.reshape(expected.shape) - expected).max() / np.abs(expected).max()
    if error <= TOLERANCE:
        return "right", f"{error:.0e}"
    return ("rough" if runtime == "OpenVINO as it is" and error < 0.05 else "wrong"), f"{error:.0e}"


def main() -> None:
    """Fill the table, print it and the reasons."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/runtimes.py",
        description="Exported models in the runtimes that read ONNX.",
        epilog="example: python benchmarks/runtimes.py --runtime OpenCV --model pooling",
    )
    parser.add_argument("--runtime", action="append", help="only those with this in their name")
    parser.add_argument("--model", action="append", help="only those with this in their name")
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        run_cell(options.cell[0], Path(options.cell[1]))
        return

    def chosen(names: Any, parts: list[str] | None) -> list[str]:
        return [name for name in names if not parts or any(part in name for part in parts)]

    runtimes = []
    for name in chosen(RUNTIMES, options.runtime):
        distribution, _ = RUNTIMES[name]
        try:
            print(f"{name}: {distribution} {metadata.version(distribution)}")
            runtimes.append(name)
        except metadata.PackageNotFoundError:
            print(f"{name}: left out, {distribution} is not installed")
    print("\n| model | " + " | ".join(runtimes) + " |")
    print("| --- |" + " --- |" * len(runtimes))
    counts: dict[str, int] = {}
    reasons = []
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(chosen(MODELS, options.model)):
            network, shape = MODELS[name]()
            path = Path(folder, f"m{number}.onnx")
            softmax = isinstance(network, Ensemble)
            export_onnx(network, path, input_shape=shape, softmax=softmax)
            x = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
            np.save(path.with_suffix(".npy"), x)
            expected = network.predict_proba(x) if softmax else network.predict(x)
            row = []
            for runtime in runtimes:
                word, details = cell(runtime, path, np.asarray(expected))
                counts[word] = counts.get(word, 0) + 1
                row.append(f"{word}, {details}" if word in ("rough", "wrong") else word)
                if word == "refused":
                    reasons.append(f"{runtime}, {name}: {details}")
            print(f"| {name} | " + " | ".join(row) + " |", flush=True)
    print("\n" + ", ".join(f"{count} {word}" for word, count in sorted(counts.items())))
    print("\n".join(reasons))
    sys.exit(1 if counts.get("wrong") else 0)


if __name__ == "__main__":
    main()
