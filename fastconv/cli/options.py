"""What the ``fastconv`` command accepts: its options, their types and their help."""

from __future__ import annotations

import argparse
from typing import Any

from .._version import __version__
from ..datasets import DATASETS
from ..experiment.folder import LARGEST_SEED
from ..models import MODELS
from .options_common import AUGMENT_HELP, MODEL_HELP, VIEWS_HELP, add_common, add_data
from .options_train import add_train
from .parser import Parser, whole
from .run import add_run
from .types import augmentation, image_shape, views

__all__ = ["build_parser"]

RUN_HELP = "a run folder, an ensemble's file, or weights: a .npz, .safetensors or .pkl"


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the ``fastconv`` command and its sub-commands.

    Options of ``train`` that were not given are None: the defaults of a new run and of
    a resumed one differ.
    """
    parser = Parser(
        prog="fastconv",
        description="The CNN of Deep Learning from Scratch, fast: train it, test it, use it.",
        epilog="example:\n  fastconv train        # DeepConvNet on handwritten digits",
    )
    parser.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_train(commands)
    _add_recipes(commands)
    _add_ensemble(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_convert(commands)
    _add_export(commands)
    _add_augment(commands)
    _add_summary(commands)
    add_run(commands)
    _add_warmup(commands)
    _add_info(commands)
    return parser


def _add_recipes(commands: Any) -> None:
    recipes = commands.add_parser(
        "recipes",
        help="list or show the recipes of fastconv train --recipe",
        description="List the recipes that come with fastconv, or show one as it is written.",
        epilog="examples:\n  fastconv recipes\n  fastconv recipes mnist-book > mine.toml",
    )
    recipes.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="a recipe's name, or a .toml file"
    )
    add_common(recipes, backend=False)


def _add_ensemble(commands: Any) -> None:
    ensemble = commands.add_parser(
        "ensemble",
        help="join trained networks to one that answers on average",
        description=(
            "Join runs that are trained to one file, an ensemble: its answers are the mean of\n"
            "its members' probabilities. fastconv evaluate and predict take it."
        ),
        epilog=(
            "example:\n  fastconv ensemble runs/first runs/second --views shift=1 --out both.npz"
        ),
    )
    add = ensemble.add_argument
    add("runs", metavar="RUN", nargs="+", help="run folders; of an ensemble's, all members")
    add("--out", metavar="FILE", required=True, help="the .npz file to write")
    add("--views", type=views, metavar="NAME=NUMBER,...", help=VIEWS_HELP)
    add_common(ensemble, backend=False)


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="test a trained network on a whole test set",
        description=(
            "Test a trained network on the whole test set; draw the images that it\n"
            "misreads, and the confusion matrix: into the run folder, or to --out. A run's\n"
            "own pictures are of its own data and views; others are only drawn to --out."
        ),
        epilog=(
            "examples:\n"
            "  fastconv evaluate runs/mnist\n"
            "  fastconv evaluate deep_convnet_params.pkl --data mnist --out pictures\n"
            "  fastconv evaluate three.npz --views shift=1     # an ensemble"
        ),
    )
    add = evaluate.add_argument
    add("run", metavar="RUN_OR_WEIGHTS", help=RUN_HELP)
    add("--model", choices=MODELS, metavar="NAME", help=MODEL_HELP)
    add("--data", metavar="DATA", help="data set, or path as for train (default: the run's own)")
    add("--strict-data", action="store_true", help="stop at an image that cannot be read")
    add("--data-dir", metavar="FOLDER", help="folder of the data set's files (mnist)")
    add("--views", type=views, metavar="NAME=NUMBER,...", help=VIEWS_HELP)
    add("--out", metavar="FOLDER", help="where to put the pictures (default: a run's own folder)")
    add_common(evaluate, backend=True)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="say what image files show",
        description=(
            "Say what each image file shows. A network of digits reads one digit from a PNG or\n"
            "JPEG file: dark on light or light on dark, of any size; it is scaled and centred\n"
            "as MNIST's images are. One that was trained on images of your own gets them as it\n"
            "got those."
        ),
        epilog=(
            "examples:\n"
            "  fastconv predict runs/mnist three.png seven.jpg\n"
            "  fastconv predict runs/photos new/*.jpg"
        ),
    )
    add = predict.add_argument
    add("run", metavar="RUN_OR_WEIGHTS", help=RUN_HELP)
    add("images", metavar="IMAGE", nargs="+", help="image files")
    add("--views", type=views, metavar="NAME=NUMBER,...", help=VIEWS_HELP)
    add("--model", choices=MODELS, metavar="NAME", help=MODEL_HELP)
    add_common(predict, backend=True)


def _add_convert(commands: Any) -> None:
    convert = commands.add_parser(
        "convert",
        help="convert a file of weights to another format",
        description=(
            "Convert a file of weights: .npz, .safetensors, or the .pkl of the book's networks,\n"
            "of which nothing but arrays of numbers is read. The names' endings say which."
        ),
        epilog="example:\n  fastconv convert deep_convnet_params.pkl weights.safetensors",
    )
    add = convert.add_argument
    add("source", metavar="IN", help="the file to read")
    add("target", metavar="OUT", help="the file to write, or to replace once the new one is whole")
    add(
        "--allow-pickle",
        action="store_true",
        help="write a .pkl if OUT is one; whoever unpickles a file runs what is in it",
    )
    add_common(convert, backend=False)


def _add_export(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        help="write a trained network as an ONNX model",
        description="Write a trained network as an ONNX model, in float32, for any batch size.",
        epilog="example:\n  fastconv export runs/mnist model.onnx",
    )
    add = export.add_argument
    add("run", metavar="RUN_OR_WEIGHTS", help="a run folder, or a file of DeepConvNet's weights")
    add("target", metavar="MODEL", help="the .onnx file to write")
    add("--softmax", action="store_true", help="end with the softmax: probabilities, not scores")
    add_common(export, backend=False)


def _add_augment(commands: Any) -> None:
    augment = commands.add_parser(
        "augment",
        help="draw images as --augment would change them",
        description="Draw an image of each class, and below it, how an augmentation changes it.",
        epilog=(
            "example:\n  fastconv augment --data mnist --augment rotate=15,elastic=34 samples.png"
        ),
    )
    add = augment.add_argument
    add("picture", metavar="PICTURE", help="the .png file to write")
    add("--augment", type=augmentation, required=True, metavar="NAME=NUMBER,...", help=AUGMENT_HELP)
    add("--data", choices=DATASETS, default="digits", help="data set (default: digits)")
    add("--data-dir", metavar="FOLDER", help="folder of the data set's files (mnist)")
    add("--seed", type=whole(0, LARGEST_SEED), default=0, metavar="N", help="default: 0")
    add_common(augment, backend=True)


def _add_summary(commands: Any) -> None:
    table = commands.add_parser(
        "summary",
        help="show a model's layers, parameters, work and receptive fields",
        description=(
            "Show a model as a table: shape, parameters, multiply-adds and receptive field of\n"
            "each layer for one image; or draw its graph."
        ),
        epilog=(
            "examples:\n"
            "  fastconv summary --model vgg16 --input 3x224x224 --classes 1000\n"
            "  fastconv summary --model googlenet --input 3x224x224 --draw googlenet.png"
        ),
    )
    add = table.add_argument
    add("--model", choices=MODELS, default="deepconvnet", metavar="NAME", help=MODEL_HELP)
    add(
        "--input",
        type=image_shape,
        metavar="CxHxW",
        help="image (default: 1x28x28; 3x224x224 for models that need more)",
    )
    add("--classes", type=whole(1), default=10, metavar="N", help="classes (10)")
    add("--draw", metavar="PICTURE", help="the .png file to draw the graph to")
    add_common(table, backend=False)


def _add_warmup(commands: Any) -> None:
    warmup = commands.add_parser(
        "warmup",
        help="compile ahead what a network will need",
        description=(
            "Compile what training and using a network need, and keep it on disk. Only the\n"
            "numba backend has anything to compile; it would do so on first use."
        ),
        epilog="example:\n  fastconv warmup --backend numba",
    )
    add = warmup.add_argument
    add("--model", choices=MODELS, default="deepconvnet", metavar="NAME", help=MODEL_HELP)
    add("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")
    add("--batch-size", type=whole(1), metavar="N", default=100, help="images per step (100)")
    add_data(warmup)
    add_common(warmup, backend=True)


def _add_info(commands: Any) -> None:
    info = commands.add_parser(
        "info",
        help="show versions, backends, threads and instruction sets",
        description="Show what runs here: versions, backends and why one is missing, threads.",
        epilog="examples:\n  fastconv info --json\n  fastconv info --layers --batch 8",
    )
    info.add_argument(
        "--layers",
        action="store_true",
        help="show which layers of DeepConvNet run as one, and by which algorithm",
    )
    info.add_argument("--batch", type=whole(1), metavar="N", default=100, help="images (100)")
    add_data(info)
    add_common(info, backend=True)
