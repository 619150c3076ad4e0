"""What the ``fastconv`` command accepts: its options, their types and their help."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

from ._version import __version__
from .augment import Augmentation
from .backends.algorithms import MATH_MODES
from .cli_types import (
    Parser,
    augmentation,
    image_shape,
    image_size,
    json_name,
    number,
    rate,
    share,
    whole,
)
from .datasets import DATASETS
from .models import MODELS
from .optimizer import OPTIMIZERS
from .schedules import SCHEDULES

__all__ = ["build_parser", "profile_without_file"]

MODEL_HELP = f"network: {', '.join(MODELS)} (default: deepconvnet)"

LARGEST_SEED = 2**32 - 1
"""NumPy's RandomState, which draws the first weights, takes no larger one."""


MATH_HELP = "fast: convolutions may round more, to about 1e-5 in float32 (default: default)"


AUGMENT_HELP = f"random changes of each training image: {', '.join(Augmentation.names())}"


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
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_convert(commands)
    _add_export(commands)
    _add_augment(commands)
    _add_summary(commands)
    _add_run(commands)
    _add_warmup(commands)
    _add_info(commands)
    return parser


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a network",
        description="Train a network and keep the run in a folder. Ctrl-C saves before it ends.",
        epilog=(
            "examples:\n"
            "  fastconv train\n"
            "  fastconv train --data mnist --epochs 20 --seed 0 --out runs/mnist\n"
            "  fastconv train --epochs 20 --lr 0.004 --schedule one-cycle\n"
            "  fastconv train --data photos --image-size 64   # a folder for each class\n"
            "  fastconv train --optimizer adamw --weight-decay 0.05 --ema 0.999\n"
            "  fastconv train --epochs 50 --validation 0.1 --patience 5\n"
            "  fastconv train --augment rotate=10,shift=2,scale=0.1\n"
            "  fastconv train --init weights.npz --freeze 'W[1-6]'   # convolutions as they are\n"
            "  fastconv train --resume runs/mnist --epochs 30"
        ),
    )
    epochs = ", ".join(f"{name} {dataset.epochs}" for name, dataset in DATASETS.items())
    epochs += ", your own 20"
    add = train.add_argument
    add("--model", choices=MODELS, metavar="NAME", help=MODEL_HELP)
    _add_data(train)
    add("--data-dir", metavar="FOLDER", help="folder of the data set's files (mnist)")
    add(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="images of your own with mean 0 and deviation 1 by channel (default: do)",
    )
    add("--test-share", type=share, metavar="X", help="of your images, to test on (0.2)")
    add("--strict-data", action="store_true", help="stop at an image that cannot be read")
    add("--epochs", type=whole(1), metavar="N", help=f"epochs (default: {epochs})")
    add("--batch-size", type=whole(1), metavar="N", help="images per step (default: 100)")
    add("--optimizer", type=str.lower, choices=OPTIMIZERS, help="default: adam")
    add("--lr", type=rate, metavar="X", help="learning rate (default: the optimizer's own)")
    add(
        "--schedule",
        choices=SCHEDULES,
        help="how the learning rate goes over the run (default: constant)",
    )
    add("--augment", type=augmentation, metavar="NAME=NUMBER,...", help=AUGMENT_HELP)
    _add_regularisation(train)
    add("--init", metavar="WEIGHTS", help="start from a file's weights, where name and shape agree")
    add("--freeze", metavar="PATTERN,...", help="train no more what these match: W1, features.*")
    add("--dtype", choices=("float32", "float64"), help="default: float32")
    add(
        "--seed",
        type=whole(0, LARGEST_SEED),
        metavar="N",
        help="repeat the run of this seed (default: drawn, and kept in the run's config.json)",
    )
    add("--out", metavar="FOLDER", help="run folder (default: runs/MODEL-DATA-DATE-TIME)")
    add("--resume", metavar="RUN", help="continue the run in this folder")
    _add_common(train, backend=True)


def _add_regularisation(train: Any) -> None:
    """Options that keep a network from learning its training images by heart."""
    add, share = train.add_argument, number(0, 1, least_too=False)
    not_negative = number(0, math.inf, least_too=True)
    add(
        "--weight-decay",
        type=not_negative,
        metavar="X",
        help="shrink the weights: sgd, momentum, adamw (default: the optimizer's own)",
    )
    add(
        "--label-smoothing",
        type=number(0, 1, least_too=True),
        metavar="X",
        help="spread this share of each label over all classes (default: 0)",
    )
    add("--clip-norm", type=rate, metavar="X", help="limit the norm of each step's gradients")
    averages = train.add_mutually_exclusive_group()
    averages.add_argument(
        "--ema",
        type=share,
        metavar="DECAY",
        help="test and keep a moving average of the weights, such as 0.999",
    )
    averages.add_argument(
        "--swa",
        type=whole(1),
        metavar="EPOCH",
        help="test and keep the mean of the weights at the ends of epochs, from this one on",
    )
    add(
        "--validation",
        type=share,
        metavar="SHARE",
        help="set this share of the training images apart, and watch the run on them",
    )
    add(
        "--patience",
        type=whole(1),
        metavar="N",
        help="end after N epochs that validation finds no better; keep the best epoch's weights",
    )


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="test a trained network on a whole test set",
        description=(
            "Test a trained network on the whole test set; draw the images that it\n"
            "misreads, and the confusion matrix."
        ),
        epilog=(
            "examples:\n"
            "  fastconv evaluate runs/mnist\n"
            "  fastconv evaluate deep_convnet_params.pkl --data mnist --out pictures"
        ),
    )
    add = evaluate.add_argument
    add("run", metavar="RUN_OR_WEIGHTS", help="a run folder, or a .npz, .safetensors or .pkl")
    add("--model", choices=MODELS, metavar="NAME", help=MODEL_HELP)
    add("--data", metavar="DATA", help="data set, or path as for train (default: the run's own)")
    add("--strict-data", action="store_true", help="stop at an image that cannot be read")
    add("--data-dir", metavar="FOLDER", help="folder of the data set's files (mnist)")
    add("--out", metavar="FOLDER", help="where to put the pictures (default: the run folder)")
    _add_common(evaluate, backend=True)


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
    add("run", metavar="RUN_OR_WEIGHTS", help="a run folder, or a .npz, .safetensors or .pkl")
    add("images", metavar="IMAGE", nargs="+", help="image files")
    add("--model", choices=MODELS, metavar="NAME", help=MODEL_HELP)
    _add_common(predict, backend=True)


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
    _add_common(convert, backend=False)


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
    _add_common(export, backend=False)


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
    _add_common(augment, backend=True)


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
    shape = (1, 28, 28)
    add("--input", type=image_shape, default=shape, metavar="CxHxW", help="image (1x28x28)")
    add("--classes", type=whole(1), default=10, metavar="N", help="classes (10)")
    add("--draw", metavar="PICTURE", help="the .png file to draw the graph to")
    _add_common(table, backend=False)


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run a script of the book's form on fastconv's layers",
        description=(
            "Run a script that imports common.layers, common.trainer, dataset.mnist and so on,\n"
            "unchanged, on fastconv. 'python -m fastconv SCRIPT' is short for it."
        ),
        epilog=(
            "examples:\n"
            "  python -m fastconv train_convnet.py\n"
            "  python -m fastconv --dtype float32 --profile train_convnet.py --epochs 20"
        ),
        usage="fastconv run [options] [-m] SCRIPT [ARGUMENT ...]",
    )
    add = run.add_argument
    add("--backend", metavar="NAME", help="numpy, numba, cython or another (default: auto)")
    add(
        "--dtype",
        choices=("float32", "float64"),
        help="compute in it whatever the script's arrays are (default: what they are)",
    )
    add("--threads", type=whole(1), metavar="N", help="threads (default: one for each CPU)")
    add("--math", choices=MATH_MODES, help=MATH_HELP)
    add(
        "--profile",
        nargs="?",
        type=json_name,
        const="",
        metavar="FILE.json",
        help="show times by layer at the end, and write a trace of the calls to the file",
    )
    add("-m", dest="module", action="store_true", help="SCRIPT is a module's name")
    add("script", metavar="SCRIPT", nargs=argparse.REMAINDER, help="what to run, and its arguments")


def profile_without_file(arguments: Sequence[str]) -> list[str]:
    """The arguments with ``--profile SCRIPT`` as ``--profile= SCRIPT``: a file ends in .json."""
    words = list(arguments)
    if words[:1] != ["run"]:
        return words
    at = 1
    while at < len(words) and words[at].startswith("-"):
        value = words[at + 1] if at + 1 < len(words) else ""
        if words[at] == "--profile" and not value.endswith(".json"):
            words[at] = "--profile="
        elif words[at] in ("--profile", "--backend", "--dtype", "--threads"):
            at += 1
        at += 1
    return words


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
    _add_data(warmup)
    _add_common(warmup, backend=True)


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
    _add_data(info)
    _add_common(info, backend=True)


def _add_data(parser: Any) -> None:
    add = parser.add_argument
    add(
        "--data",
        metavar="DATA",
        help=f"{', '.join(DATASETS)}, or images of your own: a folder with one for each class, "
        "a .csv of paths and labels, an .npz (default: digits)",
    )
    add("--image-size", type=image_size, metavar="H[xW]", help="bring your images to this size")
    add("--grey", action="store_true", default=None, help="read your images without colour")


def _add_common(parser: Any, *, backend: bool) -> None:
    add = parser.add_argument
    if backend:
        add("--backend", metavar="NAME", help="numpy, numba, cython or another (default: auto)")
        add("--threads", type=whole(1), metavar="N", help="threads (default: one for each CPU)")
        add("--math", choices=MATH_MODES, help=MATH_HELP)
    add("--json", action="store_true", help="end standard output with one JSON object")
    add("--debug", action="store_true", help="show the traceback of an error")
