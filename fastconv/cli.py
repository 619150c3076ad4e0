"""The ``fastconv`` command: what it is told, whom it calls, and what it prints.

Exit status: 0 done; 1 failed; 2 wrong use; 130 and 143 ended by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import secrets
import shlex
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import config as process
from . import dropin, selection
from .cli_augment import run_augment
from .cli_options import LARGEST_SEED, build_parser, profile_without_file
from .cli_weights import convert_weights, export_weights
from .datasets import DATASETS
from .datasets.image_file import frame_digit, read_image
from .dropin.script import prepare
from .errors import ArgumentError, DataCorrupt, DataNotFound, FastconvError, UnknownBackend
from .evaluation import draw_evaluation, evaluate, load_data, load_network
from .functions import softmax
from .info import as_table, configuration, layer_table, show_config
from .models import DeepConvNet
from .optimizer import OPTIMIZERS
from .run_folder import RunConfig, RunFolder
from .training_run import continued_config, train_run
from .warmup import warm_up

__all__ = ["main"]

INTERRUPTED = 130


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
    words = profile_without_file(sys.argv[1:] if arguments is None else arguments)
    try:
        options = build_parser().parse_args(words)
    except SystemExit as exit_:  # argparse has said what there is to say
        return int(exit_.code or 0)
    if getattr(options, "math", None):
        process.set_math_mode(options.math)
    if options.command == "run":
        return _run(options)  # not inside of what follows: a script's errors are its own
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        try:
            status = COMMANDS[options.command](options)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            # The reader has gone; nor can the interpreter's last flush reach it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except KeyboardInterrupt:
            _complain(options.command, "interrupted")
            return INTERRUPTED
        except Exception as error:
            if options.debug:
                traceback.print_exc()
            else:
                _complain(options.command, _one_line(error))
            return 2 if isinstance(error, ArgumentError | UnknownBackend) else 1


def _one_line(error: Exception) -> str:
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    text = " ".join(f"{error}{notes}".split())
    if isinstance(error, FastconvError | OSError):
        return text
    return f"{type(error).__name__}: {text} (a fault of fastconv's; --debug shows where)"


def _complain(command: str, text: str) -> None:
    print(f"fastconv {command}: error: {text}", file=sys.stderr)


def _warn(message: Warning | str, *place: Any, **more: Any) -> None:
    """Stand in for `warnings.showwarning`, whose lines are for programmers."""
    text = " ".join(str(message).split()).removeprefix("fastconv: ")
    print(f"fastconv: warning: {text}", file=sys.stderr)


def _teller(options: argparse.Namespace, progress: bool = False) -> Callable[[str], None]:
    """How to print a line for people: on stderr where stdout is to end with JSON."""
    stream = sys.stderr if options.json else sys.stdout
    if progress:
        from tqdm import tqdm

        return lambda text: tqdm.write(text, file=stream)
    return lambda text: print(text, file=stream, flush=True)


# ---- train --------------------------------------------------------------------------


def _train(options: argparse.Namespace) -> int:
    progress = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
    say = _teller(options, progress)
    given = _given(options)
    if options.resume is None:
        config = _new_config(given)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder = RunFolder(options.out or Path("runs", f"{config.model}-{config.data}-{stamp}"))
    else:
        folder = RunFolder(options.resume)
        if options.out is not None and Path(options.out).resolve() != folder.path.resolve():
            raise ArgumentError("--out: a resumed run stays in its folder; leave it out")
        config = continued_config(folder.read_config(), given, _warn)
        selection.resolve(config.backend)
    rate = f"{config.lr:g} {config.schedule}".removesuffix(" constant")
    say(
        f"{config.model} on {config.data}: {_count(config.epochs, 'epoch')}, "
        f"batch {config.batch_size}, {config.optimizer} {rate}, "
        f"seed {config.seed}; {_where(config)}"
    )
    outcome = train_run(
        folder, config, resume=options.resume is not None, progress=progress, say=say
    )
    result = outcome.evaluation
    if result is None:
        again = shlex.quote(str(folder.path))
        say(f"stopped and saved; continue with: fastconv train --resume {again}")
        return 128 + outcome.stopped_by
    say(
        f"test accuracy {100 * result.accuracy:.2f} % ({result.correct}/{result.total}) after "
        f"{_count(outcome.epochs, 'epoch')}, {outcome.seconds:.1f} s of training, "
        f"{outcome.images_per_second:,.0f} images/s"
    )
    say(f"run folder: {folder.path}")
    if options.json:
        _print_json(
            {
                "test_accuracy": result.accuracy,
                "correct": result.correct,
                "total": result.total,
                "seconds": outcome.seconds,
                "images_per_second": outcome.images_per_second,
            }
            | dataclasses.asdict(config)
            | {"epochs": outcome.epochs, "run": str(folder.path)}
        )
    return 0


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of a `RunConfig` that the user named, brought to the form they are kept in."""
    names = [field.name for field in dataclasses.fields(RunConfig)]
    every = {name: getattr(options, name, None) for name in names}
    given: dict[str, Any] = {name: value for name, value in every.items() if value is not None}
    if "data_dir" in given:
        given["data_dir"] = str(Path(given["data_dir"]).expanduser().absolute())
    if "backend" in given:
        given["backend"] = selection.resolve(given["backend"])
    return given


def _new_config(given: dict[str, Any]) -> RunConfig:
    """What the user named, and the defaults for the rest."""
    data, optimizer = given.get("data", "digits"), given.get("optimizer", "adam")
    with_its_settings: Any = OPTIMIZERS[optimizer]()
    defaults: dict[str, Any] = {
        "model": "deepconvnet",
        "data": data,
        "data_dir": None,
        "epochs": DATASETS[data].epochs,
        "batch_size": 100,
        "optimizer": optimizer,
        "lr": with_its_settings.lr,
        "dtype": "float32",
        "threads": process.get_num_threads(),
        "seed": secrets.randbelow(LARGEST_SEED + 1),
    }
    if "backend" not in given:
        defaults["backend"] = selection.resolve(None)
    return RunConfig(**(defaults | given))


def _where(config: RunConfig) -> str:
    return f"{config.backend}, {config.dtype}, {_count(config.threads, 'thread')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


# ---- evaluate and predict -----------------------------------------------------------


def _trained(options: argparse.Namespace) -> tuple[RunConfig, Path, RunFolder | None]:
    """Configuration and weights file of what was named, and its run folder if it is one.

    A weights file says neither its model nor its data set: the options do. Of a run, both
    are known, and backend and threads are chosen anew.
    """
    given = _given(options)
    path = Path(options.run).expanduser()
    folder = None
    now: dict[str, Any] = {
        "backend": selection.resolve(None),
        "threads": process.get_num_threads(),
    }
    if path.is_dir():
        if "model" in given:
            raise ArgumentError("--model is for weights files; a run knows its own")
        folder = RunFolder(path)
        stored = folder.read_config()
        if given.get("data", stored.data) != stored.data:
            now["data_dir"] = None
        config = dataclasses.replace(stored, **(now | given))
        weights = folder.weights
    elif path.exists():
        config = _new_config(now | given)
        weights = path
    else:
        raise ArgumentError(f"{path} does not exist: expected a run folder or a weights file")
    process.set_num_threads(config.threads)
    return config, weights, folder


def _evaluate(options: argparse.Namespace) -> int:
    say = _teller(options)
    config, weights, folder = _trained(options)
    if folder is None and options.data is None:
        raise ArgumentError("a weights file does not say what it was trained on: name it by --data")
    network = load_network(config, weights)
    dataset, (_, (x_test, t_test)) = load_data(config.data, config.data_dir)
    started = time.perf_counter()
    result = evaluate(network, x_test, t_test, len(dataset.label_names))
    seconds = time.perf_counter() - started
    speed = result.total / seconds
    say(
        f"{config.data}: test accuracy {100 * result.accuracy:.2f} % "
        f"({result.correct}/{result.total}), {seconds:.2f} s, {speed:,.0f} images/s; "
        f"{_where(config)}"
    )
    place = RunFolder(options.out) if options.out is not None else folder
    drawn: list[Path] = []
    if place is None:
        say("no pictures: name a folder for them by --out")
    else:
        place.path.mkdir(parents=True, exist_ok=True)
        files = (place.mistakes, place.confusion)
        drawn = draw_evaluation(result, x_test, dataset.label_names, *files, say)
        for path in drawn:
            say(f"drawn: {path}")
    if options.json:
        _print_json(
            {
                "test_accuracy": result.accuracy,
                "correct": result.correct,
                "total": result.total,
                "seconds": seconds,
                "images_per_second": speed,
                "confusion": result.confusion.tolist(),
                "pictures": [str(path) for path in drawn],
            }
            | {name: getattr(config, name) for name in ("model", "data", *_HOW)}
        )
    return 0


_HOW = ("backend", "dtype", "threads")


def _predict(options: argparse.Namespace) -> int:
    say = _teller(options)
    config, weights, _ = _trained(options)
    network = load_network(config, weights)
    names = DATASETS[config.data].label_names
    predictions: list[dict[str, Any]] = []
    for path in options.images:
        try:
            image = frame_digit(read_image(path), path)
        except (DataCorrupt, DataNotFound) as error:
            _complain("predict", _one_line(error))
            predictions.append({"file": path, "error": str(error)})
            continue
        shares = softmax(network.predict(image[None])[0].astype(np.float64))
        label = names[int(shares.argmax())]
        probabilities = dict(zip(names, shares.tolist(), strict=True))
        predictions.append({"file": path, "label": label, "probabilities": probabilities})
        say(f"{path}: {label}")
        say("   " + "".join(f"  {name}: {100 * shares[i]:.2f} %" for i, name in enumerate(names)))
    if options.json:
        how = {name: getattr(config, name) for name in ("model", *_HOW)}
        _print_json({"predictions": predictions} | how)
    return 1 if any("error" in prediction for prediction in predictions) else 0


# ---- convert and export -------------------------------------------------------------


def _convert(options: argparse.Namespace) -> int:
    source, target = Path(options.source), Path(options.target)
    facts = convert_weights(source, target, allow_pickle=options.allow_pickle)
    _teller(options)(
        f"{facts['output']}: {_count(facts['arrays'], 'array')}, "
        f"{_count(facts['numbers'], 'number')} ({', '.join(facts['dtypes'])})"
    )
    if options.json:
        _print_json(facts)
    return 0


def _export(options: argparse.Namespace) -> int:
    facts = export_weights(Path(options.run), Path(options.target), softmax=options.softmax)
    shape = ", ".join(["N", *map(str, facts["input_shape"])])
    _teller(options)(f"{facts['output']}: {facts['model']}, float32, input ({shape})")
    if options.json:
        _print_json(facts)
    return 0


# ---- run ----------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    try:
        script = prepare(options.script, options.module)
        dropin.install(backend=options.backend, dtype=options.dtype, threads=options.threads)
        if options.profile is not None:
            dropin.report_at_exit(table=True, trace=options.profile or None)
    except FastconvError as error:
        _complain("run", _one_line(error))
        return 2
    script()
    return 0


# ---- warmup -------------------------------------------------------------------------


def _warmup(options: argparse.Namespace) -> int:
    backend = selection.resolve(options.backend)
    if options.threads is not None:
        process.set_num_threads(options.threads)
    model, dtype, batch_size = options.model, options.dtype, options.batch_size
    seconds = warm_up(model, backend, dtype, batch_size)
    _teller(options)(f"{model} is ready: {backend}, {dtype}, batch {batch_size}; {seconds:.1f} s")
    if options.json:
        _print_json({"backend": backend, "model": model, "dtype": dtype, "seconds": seconds})
    return 0


# ---- info ---------------------------------------------------------------------------


def _info(options: argparse.Namespace) -> int:
    process.set_num_threads(options.threads)
    if options.layers:
        rows = layer_table(DeepConvNet(seed=0, backend=options.backend), (options.batch, 1, 28, 28))
        print(json.dumps(rows) if options.json else as_table(rows), flush=True)
    elif options.json:
        _print_json(configuration())
    else:
        show_config()
    return 0


def _print_json(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)


COMMANDS = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "convert": _convert,
    "export": _export,
    "augment": lambda options: run_augment(options, _teller(options)),
    "run": _run,
    "warmup": _warmup,
    "info": _info,
}
