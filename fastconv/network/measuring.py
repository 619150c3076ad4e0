"""Which algorithm computes each convolution of a network fastest here, found by trying.

The network runs on random images, step after step as it will, so that caches hold what they will
hold. Each time, every convolution runs by another of the algorithms that may compute it, recorded
as the backend records calls, with a clock around it. Of each algorithm the least time counts, which
is the one that nothing else on the machine disturbed. In the end the whole network must be faster
by what was found than by the rule: parts that are recorded one by one share no scratch memory.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import inf
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import config, selection
from ..backends.algorithms import ALGORITHMS, forward_by
from ..backends.calls import Call, Run
from ..backends.table import FAMILIES
from ..geometry import shown_pads
from ..ops.recording import Outside
from ..progress import ProgressBar, shows_progress
from .choices import Choices, choices_for
from .places import Step

__all__ = ["algorithm_of", "measured", "provider"]

Array = NDArray[Any]
Key = tuple[Choices, str]
"""A convolution: where its algorithm is kept, and its name there."""

Maker = Callable[[Sequence[Step]], list[Run]]
"""What makes runs of some steps."""

CONVOLUTIONS = tuple(FAMILIES[family][0] for family in ("conv2d", "conv2d_block"))
"""Forward kernels whose algorithm a backend says."""

CLEARLY = 0.95
"""Share of the time of the rule's choice that another must take less than, to be preferred."""

LEAST_ROUNDS = 4
"""How often each algorithm is timed at least."""

ENOUGH = 1.0
"""Seconds after which there are rounds enough."""

MOST_ROUNDS = 1000

PATIENCE = 3.0
"""Seconds after which a bar shows how far it is."""

_lock = threading.RLock()
"""Held while one thread measures: what others measured at the same time would be in its way."""


def _new_lock() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # no thread of the parent's measures in a child
    os.register_at_fork(after_in_child=_new_lock)


def provider(call: Call) -> str:
    """The backend that gives a call's kernel: it may be the reference that fills a gap."""
    backend: Any = call.backend
    return str(getattr(backend, "providers", {}).get(call.kernel, backend.name))


def algorithm_of(call: Call) -> str:
    """The algorithm of a forward convolution, where its backend says; else empty."""
    backend: Any = call.backend
    say = getattr(backend, "conv2d_algorithms", None)
    if call.kernel not in CONVOLUTIONS or say is None or provider(call) != backend.name:
        return ""
    with forward_by(call.algorithm):
        arguments = call.arguments
        pooled = bool(arguments.get("pool"))
        return str(say(arguments["geometry"], len(arguments["weight"]), pooled).forward)


def measured(steps: Sequence[Step], given: Array, made: Maker) -> list[Step]:
    """Return the steps, each convolution by the algorithm that is known, or found, to be fastest.

    Where one is forced, there is none to be found.

    Parameters
    ----------
    steps : sequence of Call and Outside
        Of a program, at their places in memory, which is overwritten.
    given : array
        Its input.
    made : callable
    """
    keys: dict[int, Key] = {}  # of convolutions, by their places among the steps
    allowed: dict[Choices, dict[str, tuple[str, ...]]] = {}
    kept: dict[int, Choices | None] = {}
    for place, step in enumerate(steps):
        if isinstance(step, Outside) or len(algorithms := _algorithms(step)) < 2:
            continue
        backend: Any = step.backend
        if id(backend) not in kept:
            kept[id(backend)] = choices_for(backend)
        if (choices := kept[id(backend)]) is not None:
            keys[place] = choices, _name(step)
            allowed.setdefault(choices, {})[_name(step)] = algorithms
    with _lock:
        known = _known(allowed)
        contests = {
            (choices, name): _Contest(algorithms)
            for choices, names in allowed.items()
            for name, algorithms in names.items()
            if (choices, name) not in known
        }
        if contests:
            once = [_once(step) if isinstance(step, Outside) else step for step in steps]
            before = _by(once, keys, known)
            at = {place: contests[key] for place, key in keys.items() if key in contests}
            rules = {key: contest.algorithms[0] for key, contest in contests.items()}
            with np.errstate(all="ignore"):
                _hold(at, before, given, made)
                best = {key: contest.best() for key, contest in contests.items()}
                faster = best != rules and _is_faster(_by(before, keys, best), before, given, made)
            best = best if faster else rules
            for choices in allowed:
                choices.keep({name: each for (to, name), each in best.items() if to is choices})
            known = _known(allowed)
    return _by(steps, keys, known)


def _algorithms(call: Call) -> tuple[str, ...]:
    """Those that may compute a forward convolution, that of the rule first; no other kernel's."""
    if not (by_rule := algorithm_of(call)):
        return ()
    others = [
        name
        for name in ALGORITHMS
        if name != by_rule and algorithm_of(replace(call, algorithm=name)) == name
    ]
    return by_rule, *others


def _name(call: Call) -> str:
    """What tells a convolution from others on the same kernels."""
    arguments, settings = call.arguments, selection.settings()
    g, dtype = arguments["geometry"], arguments["x"].dtype
    fused = [name for name in ("relu", "pool") if arguments.get(name)]
    fused += ["residual"] if arguments.get("residual") is not None else []
    how = f"{dtype}, {settings['math_mode']} math, {settings['threads']} threads"
    return " ".join(
        [
            f"{g.n}x{g.c}x{g.h}x{g.w} to {len(arguments['weight'])},",
            f"{g.fh}x{g.fw}/{g.stride} pad {shown_pads(g.pads)}",
            *(f"+{name}" for name in fused),
            how if config.get_programs() == "on" else f"{how}, call by call",
        ]
    )


def _known(allowed: Mapping[Choices, Mapping[str, Sequence[str]]]) -> dict[Key, str]:
    """The algorithms that are known, of these convolutions."""
    return {
        (choices, name): algorithm
        for choices, names in allowed.items()
        for name, algorithm in choices.find(names).items()
    }


def _by(
    steps: Sequence[Step], keys: Mapping[int, Key], algorithms: Mapping[Key, str]
) -> list[Step]:
    """The steps, each convolution whose algorithm is there by that."""
    return [
        replace(step, algorithm=algorithms[keys[place]])
        if isinstance(step, Call) and keys.get(place) in algorithms
        else step
        for place, step in enumerate(steps)
    ]


@dataclass
class _Contest:
    """The algorithms for one convolution, that of the rule first, and the least time of each.

    Attributes
    ----------
    taken : float
        Seconds in the turn that runs, of all convolutions that are the same.
    """

    algorithms: tuple[str, ...]
    least: dict[str, float] = field(default_factory=dict)
    taken: float = 0.0

    def in_turn(self, turn: int) -> str:
        """The algorithm whose turn it is."""
        return self.algorithms[turn % len(self.algorithms)]

    def time(self, turn: int, runs: Mapping[str, Run]) -> None:
        """Run the convolution, at one of its places, by the algorithm whose turn it is."""
        run = runs[self.in_turn(turn)]
        start = perf_counter()
        run.run()
        self.taken += perf_counter() - start

    def end(self, turn: int) -> None:
        """The turn is over."""
        algorithm = self.in_turn(turn)
        self.least[algorithm] = min(self.taken, self.least.get(algorithm, inf))
        self.taken = 0.0

    def best(self) -> str:
        """The fastest, or that of the rule if none is clearly faster."""
        rules, fastest = self.algorithms[0], min(self.algorithms, key=self.least.__getitem__)
        return fastest if self.least[fastest] < CLEARLY * self.least[rules] else rules


def _once(step: Outside) -> Outside:
    """A step of Python's own that runs once, since it may do more than compute."""
    kept: list[Array] = []

    def function(*inputs: Array) -> Array:
        if not kept:
            kept.append(np.array(step.function(*inputs)))
        return kept[0]

    return Outside(step.name, function, step.inputs, step.out)


def _hold(
    contests: Mapping[int, _Contest], steps: Sequence[Step], given: Array, made: Maker
) -> None:
    """Hold the contests, each of the convolutions at some places among the steps."""
    row: list[tuple[_Contest | None, dict[str, Run]]] = []
    for place, some in groupby(range(len(steps)), lambda place: place if place in contests else -1):
        if place < 0:
            row += [(None, {"": run}) for run in made([steps[between] for between in some])]
            continue
        call: Any = steps[place]
        contest = contests[place]
        runs = {name: made([replace(call, algorithm=name)])[0] for name in contest.algorithms}
        row.append((contest, runs))
    distinct = list({id(contest): contest for contest in contests.values()}.values())
    images = np.random.default_rng(0).random(given.shape)
    for turn in _turns(max(len(contest.algorithms) for contest in distinct)):
        given[...] = images
        for each, runs in row:
            if each is None:
                runs[""].run()
            else:
                each.time(turn, runs)
        for each in distinct:
            each.end(turn)


def _is_faster(steps: Sequence[Step], before: Sequence[Step], given: Array, made: Maker) -> bool:
    """Whether all of these steps take less time than those that they were before."""
    runs = made(before), made(steps)
    least = [inf, inf]
    images = np.random.default_rng(0).random(given.shape)
    for turn in _turns(2):
        given[...] = images
        start = perf_counter()
        for run in runs[turn % 2]:
            run.run()
        least[turn % 2] = min(least[turn % 2], perf_counter() - start)
    return least[1] < least[0]


def _turns(most: int) -> Iterator[int]:
    """Count turns, so many in a round, until there are rounds enough."""
    start, least = perf_counter(), LEAST_ROUNDS * most
    with ProgressBar(least, 0, show=shows_progress(), unit="turn", delay=PATIENCE) as bar:
        for turn in range(MOST_ROUNDS * most):
            if turn >= least and turn % most == 0 and perf_counter() - start > ENOUGH:
                break
            yield turn
            if turn < least:
                bar.tick()
