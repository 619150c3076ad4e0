"""``fastconv export``: a trained network as an ONNX model."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from .. import selection
from ..datasets.mnist import img_dim
from ..errors import ArgumentError, ShapeError, WeightsError
from ..experiment.evaluate import load_network
from ..experiment.folder import RunFolder
from ..io import export_onnx, load_params
from ..models import DeepConvNet
from ..models.deep_convnet import CONV_16, CONV_32, CONV_32_PAD_2, CONV_64
from ..models.ensemble import is_ensemble_file
from ..network import Network
from .options import add_common
from .output import print_json, teller

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "export",
        help="write a trained network as an ONNX model",
        description="Write a trained network as an ONNX model, in float32, for any batch size.",
        epilog="example:\n  fastconv export runs/mnist model.onnx",
    )
    add = parser.add_argument
    add("run", metavar="RUN_OR_WEIGHTS", help="a run folder, or a file of DeepConvNet's weights")
    add("target", metavar="MODEL", help="the .onnx file to write")
    add("--softmax", action="store_true", help="end with the softmax: probabilities, not scores")
    add_common(parser, backend=False)


def run(options: argparse.Namespace) -> int:
    """Export the network; return the exit status."""
    facts = export_weights(Path(options.run), Path(options.target), softmax=options.softmax)
    shape = ", ".join(["N", *map(str, facts["input_shape"])])
    teller(options)(f"{facts['output']}: {facts['model']}, float32, input ({shape})")
    if options.json:
        print_json(facts)
    return 0


def export_weights(source: Path, target: Path, *, softmax: bool) -> dict[str, Any]:
    """Write a trained network as an ONNX model.

    Parameters
    ----------
    source : path
        A run folder, which knows its network, or weights of a DeepConvNet, whose sizes
        are read from their shapes.
    target : path
        A ``.onnx`` file.
    softmax : bool
        End with the softmax.

    Returns
    -------
    dict
        What was written, as plain data: ``output``, ``model``, ``input_shape`` with names
        for lengths that are open.

    Raises
    ------
    ArgumentError, DataNotFound, DataCorrupt, UnsafePickle, DTypeError, MissingDependency
        As `load_params` and `export_onnx` say.
    WeightsError
        Weights of another network.
    """
    network: Network
    shape: list[Any]
    fixed: tuple[int, int, int] | None
    if source.is_dir():
        folder = RunFolder(source)
        config = dataclasses.replace(folder.read_config(), backend=selection.resolve(None))
        if config.members is not None:
            raise ArgumentError(
                f"{source}: an ensemble; an ONNX model is of one network: name the folder of one "
                f"member's run, such as {folder.member(1).path}"
            )
        network, model = load_network(config, folder.weights), config.model
        fixed = config.facts.shape
        shape = list(fixed)
    elif not source.exists():
        raise ArgumentError(f"{source} does not exist: expected a run folder or a weights file")
    elif is_ensemble_file(source):
        raise ArgumentError(
            f"{source}: an ensemble; an ONNX model is of one network: name the folder of one "
            "member's run"
        )
    else:
        params = load_params(source)
        network, model = _deep_convnet(params, str(source)), "deepconvnet"
        shape, fixed = [params["W1"].shape[1], "height", "width"], None
    export_onnx(network, target, input_shape=fixed, softmax=softmax)
    return {"output": str(target), "model": model, "input_shape": shape}


def _deep_convnet(params: dict[str, Any], source: str) -> Network:
    """The DeepConvNet of these weights.

    Filters, hidden units and classes are what the shapes say. Strides and pads are in no
    file of weights: they are taken to be the default ones, for images of 28 x 28, and the
    number of features that reach the first affine layer has to agree. Images of other
    sizes may give the same number, and so the model leaves the size open.
    """
    names = [f"{kind}{number}" for number in range(1, 9) for kind in "Wb"]
    axes = {f"W{number}": 4 if number <= 6 else 2 for number in range(1, 9)}
    if sorted(params) != sorted(names) or any(params[name].ndim != axes[name] for name in axes):
        raise WeightsError(
            f"{source}: not the weights of a DeepConvNet (W1 to W6 of convolutions, W7 and W8 of "
            "affine layers, with their biases): build the network in Python and call "
            "fastconv.io.export_onnx(network, path)"
        )
    channels = params["W1"].shape[1]
    shape = (channels, *img_dim[1:])
    defaults = (CONV_16, CONV_16, CONV_32, CONV_32_PAD_2, CONV_64, CONV_64)
    sizes: dict[str, Any] = {}
    for number, default in enumerate(defaults, start=1):
        filters, _, size, _ = params[f"W{number}"].shape
        sizes[f"conv_param_{number}"] = default | {"filter_num": filters, "filter_size": size}
    hidden, classes = params["W8"].shape
    dtype = "float64" if params["W1"].dtype == "float64" else "float32"
    try:
        network = DeepConvNet(
            shape, **sizes, hidden_size=hidden, output_size=classes, dtype=dtype, seed=0
        )
        network.set_params(params, source)
    except (ShapeError, WeightsError) as error:
        raise WeightsError(
            f"{error}; a file of weights does not tell pads, strides and the size of images, and "
            f"with DeepConvNet's own for images of {shape[1]} x {shape[2]} these do not fit: "
            "build the network in Python and call fastconv.io.export_onnx(network, path)"
        ) from error
    return network
