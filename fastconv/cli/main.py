"""The ``fastconv`` command: what it is told, whom it calls, and what it prints.

Exit status: 0 done; 1 failed; 2 wrong use; 130 and 143 ended by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from .. import config as process
from .. import selection
from ..console import mention, reserve_descriptors
from ..errors import ArgumentError, UnknownBackend
from ..experiment.data import describe_data
from ..experiment.warmup import warm_up
from ..info import as_table, configuration, layer_table, show_config
from ..models import DeepConvNet
from .augment import run_augment
from .ensemble import run_ensemble
from .options import build_parser
from .output import complain, count, one_line, print_json, show, shows_progress, teller, warn
from .recipes import run_recipes
from .run import INTERRUPTED, profile_without_file, run_script
from .settings import given_fields, image_options
from .summary import run_summary
from .train import run_train
from .use import run_evaluate, run_predict
from .weights import convert_weights, export_weights

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.

    Returns
    -------
    int
        The exit status.
    """
    reserve_descriptors()
    words = profile_without_file(sys.argv[1:] if arguments is None else arguments)
    try:
        options = build_parser().parse_args(words)
    except SystemExit as exit_:  # argparse has said what there is to say
        return int(exit_.code or 0)
    except KeyboardInterrupt:
        mention("fastconv: error: interrupted")
        return INTERRUPTED
    if options.command == "run":
        return run_script(options)  # not inside of what follows: a script's errors are its own
    if getattr(options, "math", None):
        process.set_math_mode(options.math)
    with warnings.catch_warnings():
        warnings.showwarning = warn
        try:
            return COMMANDS[options.command](options)
        except BrokenPipeError:  # who read what is printed has gone
            return 1
        except KeyboardInterrupt:
            complain(options.command, "interrupted")
            return INTERRUPTED
        except Exception as error:
            if options.debug:
                mention(traceback.format_exc().rstrip())
            else:
                complain(options.command, one_line(error))
            return 2 if isinstance(error, ArgumentError | UnknownBackend) else 1


# ---- convert and export -------------------------------------------------------------


def _convert(options: argparse.Namespace) -> int:
    source, target = Path(options.source), Path(options.target)
    facts = convert_weights(source, target, allow_pickle=options.allow_pickle)
    teller(options)(
        f"{facts['output']}: {count(facts['arrays'], 'array')}, "
        f"{count(facts['numbers'], 'number')} ({', '.join(facts['dtypes'])})"
    )
    if options.json:
        print_json(facts)
    return 0


def _export(options: argparse.Namespace) -> int:
    facts = export_weights(Path(options.run), Path(options.target), softmax=options.softmax)
    shape = ", ".join(["N", *map(str, facts["input_shape"])])
    teller(options)(f"{facts['output']}: {facts['model']}, float32, input ({shape})")
    if options.json:
        print_json(facts)
    return 0


# ---- warmup -------------------------------------------------------------------------


def _warmup(options: argparse.Namespace) -> int:
    backend = selection.resolve(options.backend)
    if options.threads is not None:
        process.set_num_threads(options.threads)
    model, dtype, batch_size = options.model, options.dtype, options.batch_size
    shape, classes = _shape_and_classes(options)
    seconds = warm_up(model, backend, dtype, batch_size, shape, classes)
    teller(options)(f"{model} is ready: {backend}, {dtype}, batch {batch_size}; {seconds:.1f} s")
    if options.json:
        print_json({"backend": backend, "model": model, "dtype": dtype, "seconds": seconds})
    return 0


# ---- info ---------------------------------------------------------------------------


def _info(options: argparse.Namespace) -> int:
    process.set_num_threads(options.threads)
    if options.layers:
        shape, classes = _shape_and_classes(options)
        network = DeepConvNet(shape, output_size=classes, seed=0, backend=options.backend)
        rows = layer_table(network, (options.batch, *shape))
        if options.json:
            print_json(rows)
        else:
            show(as_table(rows))
    elif options.json:
        print_json(configuration())
    else:
        show_config()
    return 0


def _shape_and_classes(options: argparse.Namespace) -> tuple[tuple[int, int, int], int]:
    """Of the images that ``--data`` names."""
    data = given_fields(options).get("data", "digits")
    return describe_data(data, image_options(options), shows_progress())


COMMANDS = {
    "train": run_train,
    "recipes": run_recipes,
    "ensemble": run_ensemble,
    "evaluate": run_evaluate,
    "predict": run_predict,
    "convert": _convert,
    "export": _export,
    "augment": lambda options: run_augment(options, teller(options)),
    "summary": run_summary,
    "run": run_script,
    "warmup": _warmup,
    "info": _info,
}
