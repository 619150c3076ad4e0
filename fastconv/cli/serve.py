"""``fastconv serve``: a page on which a trained network answers, and an interface for programs."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import Any

from ..datasets.record import printable
from ..errors import ArgumentError
from ..experiment.bundled import ABOUT, WEIGHTS
from ..experiment.trained import read_trained
from ..io.paths import user_path
from ..io.records import Positive, of_text
from ..models.ensemble import is_ensemble_file
from .options import RUN_HELP, add_algorithms, add_common, add_settings, given_fields
from .output import count, how, print_json, teller
from .types import typed, whole

__all__ = ["add_parser", "run"]

MIB = 2**20


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "serve",
        help="draw a digit in the browser, and see what the network sees",
        description=(
            "Show a page on this machine: draw a digit, or bring a picture, and see the answer,\n"
            "the feature maps, the places that decided, and the training images that are most\n"
            "alike; of two runs, side by side. Other programs send pictures or arrays to\n"
            "/predict. Nothing is loaded from elsewhere. Ctrl-C ends it. Without a run, the\n"
            "network that comes with fastconv answers."
        ),
        epilog=(
            "examples:\n"
            "  fastconv serve\n"
            "  fastconv serve runs/mnist\n"
            "  fastconv serve runs/first runs/second --port 8080\n"
            "  fastconv serve runs/photos --max-size 20"
        ),
    )
    add = parser.add_argument
    add("run", metavar="RUN_OR_WEIGHTS", nargs="?", help=RUN_HELP)
    add("second", metavar="SECOND", nargs="?", help="another, to be shown beside the first")
    add(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="listen on this address (default: 127.0.0.1, which only this machine reaches; "
        "0.0.0.0 lets others in: there is no password)",
    )
    add(
        "--port",
        type=whole(0, 2**16 - 1),
        default=8000,
        metavar="N",
        help="default: 8000; 0 takes a free one",
    )
    add(
        "--max-size",
        type=whole(1, 1024),
        default=10,
        metavar="MIB",
        help="refuse requests whose body is larger (default: 10)",
    )
    add(
        "--rate",
        type=typed(lambda text: of_text(text, Positive), "number"),
        default=1000.0,
        metavar="N",
        help="requests a second from one address (default: 1000)",
    )
    add_settings(parser, "views", "model")
    add_algorithms(parser)
    add_common(parser, backend=True)


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C; return the exit status."""
    from ..web.server import Limits, ServedRun, Server, listen, make_app

    say, given = teller(options), given_fields(options)
    runs: list[ServedRun] = []
    for named in filter(None, (options.run or str(WEIGHTS), options.second)):
        config, ensemble, folder = read_trained(named, given, tests=False)
        given["math"] = config.math  # of the process: the second computes as the first does
        knows_data = folder is not None or is_ensemble_file(user_path(named))
        name = printable(named) if options.run else ABOUT
        runs.append(ServedRun(name, config, ensemble, knows_data, options.algorithms))
    if len({run.draws for run in runs}) > 1:
        raise ArgumentError(
            f"{runs[0].name} and {runs[1].name}: one reads digits, the other pictures; "
            "serve them one by one"
        )
    app, metrics = make_app(runs, options.host, Limits(options.max_size * MIB, options.rate))
    with listen(options.host, options.port) as listening:
        address, port = listening.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        url = f"http://{shown}:{port}/"

        def ready() -> None:
            for each in runs:
                say(f"{each.name}: {each.config.model}, {each.config.where}")
            say(f"serving on {url} (Ctrl-C ends it)")

        with suppress(KeyboardInterrupt):
            Server(app, ready).run(sockets=[listening])
    requests = sum(metrics.requests.values())
    say(f"ended after {count(requests, 'request')}")
    if options.json:
        print_json({"url": url, "requests": requests} | how(runs[0].config))
    return 0
