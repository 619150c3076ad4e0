"""``fastconv export``: write a trained network as an ONNX model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..datasets.mnist import img_dim
from ..errors import ArgumentError, ShapeError, WeightsError
from ..experiment.exported import as_metadata
from ..experiment.trained import read_trained
from ..io import export_onnx, load_params
from ..models import DeepConvNet
from ..models.deep_convnet import CONV_16, CONV_32, CONV_32_PAD_2, CONV_64
from ..models.ensemble import Ensemble, is_ensemble_file
from ..network import Network
from ..network.views import View
from .options import add_common
from .output import print_json, teller

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "export",
        help="write a trained network or ensemble as an ONNX model",
        description=(
            "Write a trained network as an ONNX model, in float32, for any batch size. An\n"
            "ensemble, or a run with views, becomes one model that answers as fastconv predict\n"
            "does."
        ),
        epilog="example:\n  fastconv export runs/mnist model.onnx",
    )
    add = parser.add_argument
    add(
        "run",
        metavar="RUN_OR_WEIGHTS",
        help="a run folder, an ensemble's file, or DeepConvNet's weights",
    )
    add("target", metavar="MODEL", help="the .onnx file to write")
    add("--softmax", action="store_true", help="end with the softmax: probabilities, not scores")
    add_common(parser, backend=False)


def run(options: argparse.Namespace) -> int:
    """Write the ONNX model; return the exit status."""
    source, target = Path(options.run), Path(options.target)
    network, model, shape, metadata = _trained(source)
    fixed = all(isinstance(length, int) for length in shape)
    input_shape = tuple(shape) if fixed else None
    export_onnx(
        network, target, input_shape=input_shape, softmax=options.softmax, metadata=metadata
    )
    lengths = ", ".join(["N", *map(str, shape)])
    teller(options)(f"{target}: {model}, float32, input ({lengths})")
    if options.json:
        print_json({"output": str(target), "model": model, "input_shape": shape})
    return 0


def _trained(source: Path) -> tuple[Network | Ensemble, str, list[Any], dict[str, str]]:
    """The network, its model's name, the shape of its images, and what is known about them.

    A run folder names its network; weights alone are taken for a DeepConvNet, whose sizes their
    shapes tell, with names for the lengths of its images.
    """
    if source.is_dir() or is_ensemble_file(source):
        config, ensemble, _ = read_trained(str(source), {}, tests=False)
        alone = len(ensemble.members) == 1 and ensemble.views == (View(),)
        network = ensemble.members[0] if alone else ensemble
        model = ", ".join(config.members or (config.model,))
        return network, model, list(config.facts.shape), as_metadata(config.facts)
    if not source.exists():
        raise ArgumentError(f"{source} does not exist: expected a run folder or a weights file")
    params = load_params(source)
    network = _deep_convnet(params, str(source))
    return network, "deepconvnet", [params["W1"].shape[1], "height", "width"], {}


def _deep_convnet(params: dict[str, Any], source: str) -> Network:
    """The DeepConvNet of these weights.

    The shapes give filters, hidden units and classes. No file of weights has strides and pads: the
    defaults are assumed, and images of 28 x 28, and the number of features that reach the first
    affine layer has to agree. Images of other sizes may give the same number, so the model leaves
    the size open.
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
