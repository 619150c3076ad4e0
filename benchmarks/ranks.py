"""Steps of data-parallel training on two ranks, beside one process, and beside other ways.

::

    python benchmarks/ranks.py
    python benchmarks/ranks.py --batch 1000
    python benchmarks/ranks.py --network vgg16 --contender "one process" --contender "two ranks"
    python benchmarks/ranks.py --rate 10gbit --latency 0.0001     # as root

Two ranks of one thread each and one process of two threads take turns, DeepConvNet at batch 100 or
another network on 8 images of 224 x 224. So do a loop as one would write it by hand, with one
blocking allreduce, and PyTorch's DistributedDataParallel on gloo, where PyTorch is installed. With
``--rate`` or ``--latency`` the ranks are on two hosts (`hosts`), and the ways in which gradients
may leave take turns with steps that send nothing. Losses and weights are compared first. Times are
medians over the launches.
"""

from __future__ import annotations

if not __package__:  # run as a script
    import processes

    processes.run_module("ranks")
    raise SystemExit

import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any

import numpy as np

from fastconv import Trainer, config, set_num_threads
from fastconv.optimizer import Adam, Momentum
from fastconv.randomness import share_of
from fastconv.training.learned import checksum
from fastconv.training.ranks import Ranks

from . import machine, peers
from .data import batch_of, default_side, network_of, new_model, new_model_problem, new_problem
from .hosts import HOSTS, INTERFACE, Unavailable, on_hosts, two_hosts
from .processes import Child, answer_requests, environment
from .shapes import IMAGES, LARGE_IMAGES

ALONE, OURS, BY_HAND, DDP = "one process", "two ranks", "by hand", "PyTorch DDP, gloo"

NOTHING, SHORT, AT_THE_END, EARLY = "nothing", "one number", "gradients at the end", "early"
IN_16_BITS, EARLY_IN_16_BITS = "bfloat16 at the end", "bfloat16 early"

ALLREDUCE, ALLREDUCE_OF_ONE = "allreduce alone", "allreduce alone, of one number"

HERE = (ALONE, OURS, BY_HAND, DDP)
THERE = (NOTHING, SHORT, AT_THE_END, EARLY, IN_16_BITS, EARLY_IN_16_BITS, BY_HAND, DDP)
THERE += (ALLREDUCE, ALLREDUCE_OF_ONE)
"""What takes turns on one machine, and on two hosts."""

TRAINED = (ALONE, OURS, AT_THE_END, EARLY)
"""Those that train the same network on the same batches, so that losses can be compared."""

GROUPS = {ALONE: "alone", DDP: "torch"}
"""Contenders that are not in the process of all others, or in these processes."""

RANKS = 2

EPOCH = 50
"""Batches of the data set."""

PAUSE = 0.002
"""Seconds between two looks of a rank that waits for its turn: it must not take the CPU."""

CHECKED = 3
"""Steps whose losses are compared."""

EXACT_TO = 1e-4
"""Of these losses."""


class Apart(Ranks):
    """Ranks that compute their shares and send nothing, or one number, so as to wait in turns."""

    def __init__(self, comm: Any, *, together: bool) -> None:
        self.rank, self.size = comm.rank, RANKS
        self._comm, self._together, self._number = comm, together, np.zeros(1)

    def share(self, count: int) -> slice:
        return slice(count * self.rank // RANKS, count * (self.rank + 1) // RANKS)

    @contextmanager
    def computing(self, network: Any, count: int, *_: Any) -> Iterator[None]:
        with share_of(self.share(count), count):
            yield

    def averaged(self, network: Any, grads: Any, loss: Any, count: int) -> Any:
        if self._together:
            self._comm.Allreduce(_in_place(), self._number)
        return grads, loss


class Trained:
    """A Trainer, one step at a time."""

    def __init__(self, network: str, batch: int, ranks: Ranks | None, **options: Any) -> None:
        x, t = images(network, EPOCH * batch)
        optimizer, settings = ("adam", {"lr": 1e-3})
        if network != "deepconvnet":
            optimizer, settings = "momentum", peers.MOMENTUM
        self.trainer = Trainer(
            new_network(network),
            *(x, t, x[:1], t[:1]),
            epochs=10**6,
            mini_batch_size=batch,
            optimizer=optimizer,
            optimizer_param=settings,
            evaluate="end",
            evaluate_sample_num_per_epoch=1,
            verbose=False,
            seed=1,
            distributed=ranks,
            **options,
        )
        self.step = self.trainer.train_step

    def losses(self) -> list[float]:
        return [float(loss) for loss in self.trainer.train_loss_list]


class ByHand:
    """What one writes without fastconv's Trainer: one blocking allreduce of all gradients."""

    def __init__(self, network: str, batch: int, comm: Any) -> None:
        self.x, self.t = images(network, EPOCH * batch)
        self.network, self.batch, self.comm = new_network(network), batch, comm
        deep = network == "deepconvnet"
        self.optimizer: Any = Adam(lr=1e-3) if deep else Momentum(**peers.MOMENTUM)
        self.rng = np.random.default_rng(1)

    def step(self) -> None:
        chosen = self.rng.choice(len(self.x), self.batch)[self.comm.rank :: self.comm.size]
        grads = self.network.gradient(self.x[chosen], self.t[chosen])
        flat = np.concatenate([grad.ravel() for grad in grads.values()])
        self.comm.Allreduce(_in_place(), flat)
        flat /= self.comm.size
        ends = np.cumsum([grad.size for grad in grads.values()])
        parts = np.split(flat, ends[:-1])
        shaped = {
            name: part.reshape(grads[name].shape) for name, part in zip(grads, parts, strict=True)
        }
        self.optimizer.update(self.network.params, shaped)

    def weights(self) -> list[str]:
        return [str(checksum(value)) for value in self.network.params.values()]


class Allreduce:
    """A message alone."""

    def __init__(self, numbers: int, comm: Any) -> None:
        self.numbers, self.comm = np.zeros(numbers, np.float32), comm

    def step(self) -> None:
        self.comm.Allreduce(_in_place(), self.numbers)


class Torch:
    """PyTorch's own way, in the faster of its memory formats; its batch is not drawn."""

    def __init__(self, network: str, batch: int, rank: int) -> None:
        import torch.distributed
        from torch.nn.parallel import DistributedDataParallel

        torch.distributed.init_process_group("gloo", rank=rank, world_size=RANKS)
        problem: peers.AnyProblem
        if network == "deepconvnet":
            problem = new_problem(batch // RANKS, 1)
        else:
            side = default_side(network)
            problem = new_model_problem(network, batch // RANKS, side, 1, state={})
        self.contender = peers.make("PyTorch eager channels_last", problem)
        self.contender.forward = DistributedDataParallel(self.contender.network)
        self.step = self.contender.step

    def weights(self) -> list[str]:
        return [str(checksum(p.detach().numpy())) for p in self.contender.network.parameters()]


@cache
def images(network: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The data set: random images."""
    if network == "deepconvnet":
        return batch_of(count)
    problem = new_model_problem(network, count, default_side(network), 1, state={})
    return problem.x, problem.t


def new_network(network: str) -> Any:
    """The network, without dropout where other libraries have it elsewhere."""
    if network == "deepconvnet":
        return network_of("float32", None)
    return new_model(network, default_side(network), "float32")


def _in_place() -> Any:
    from mpi4py import MPI

    return MPI.IN_PLACE


class Rank:
    """One process of a group: the first is asked, and tells the others."""

    def __init__(self, group: str, network: str, batch: int) -> None:
        self.group, self.network, self.batch = group, network, batch
        self.comm: Any = None
        if group != "alone":
            from mpi4py import MPI

            self.comm = MPI.COMM_WORLD.Dup()
            if config.launched().size > 1 and self.comm.size != RANKS:
                raise RuntimeError(f"expected {RANKS} ranks, got {self.comm.size}")
        self.made: dict[str, Any] = {}

    def make(self, name: str) -> Any:
        """Make a contender."""
        problem = self.network, self.batch
        if name == ALONE:
            return Trained(*problem, None)
        if name == ALLREDUCE_OF_ONE:
            return Allreduce(1, self.comm)
        if name == ALLREDUCE:
            params = new_network(self.network).params
            return Allreduce(sum(value.size for value in params.values()), self.comm)
        if name == BY_HAND:
            return ByHand(*problem, self.comm)
        if name == DDP:
            cpus = sorted(os.sched_getaffinity(0))  # as our ranks keep to their own
            os.sched_setaffinity(0, {cpus[self.comm.rank % len(cpus)]})
            return Torch(*problem, self.comm.rank)
        if name in (NOTHING, SHORT):
            return Trained(*problem, Apart(self.comm, together=name == SHORT))
        from fastconv.distributed import DataParallel

        early = {EARLY: True, EARLY_IN_16_BITS: True, OURS: None}.get(name, False)
        ranks = DataParallel(lambda text: print(text, file=sys.stderr), early=early)
        options = {"gradients": "bfloat16"} if name in (IN_16_BITS, EARLY_IN_16_BITS) else {}
        return Trained(*problem, ranks, **options)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """On the first rank: let all do what is asked."""
        for rank in range(1, 1 if self.comm is None else self.comm.size):
            self.comm.send(request, rank)
        return self.do(request)

    def follow(self) -> None:
        """On another rank: do what the first is asked, until it ends."""
        while True:
            while not self.comm.iprobe(source=0):
                time.sleep(PAUSE)
            request = self.comm.recv(source=0)
            if "end" in request:
                return
            self.do(request)

    def do(self, request: dict[str, Any]) -> dict[str, Any]:
        """``{"check": name}`` for losses or weights; ``{"turn": name, "steps": n}`` for seconds."""
        name = request.get("check") or request["turn"]
        if name not in self.made:
            self.made[name] = self.make(name)
        contender = self.made[name]
        if "check" in request:
            for _ in range(CHECKED):
                contender.step()
            answer: dict[str, Any] = {}
            if isinstance(contender, Trained):
                answer["losses"] = contender.losses()
            elif not isinstance(contender, Allreduce):
                first, *others = self.comm.allgather(contender.weights())
                answer["equal"] = all(other == first for other in others)
            return answer
        if self.comm is not None:
            self.comm.Barrier()
        taken = [seconds_of(contender.step) for _ in range(request["steps"] + 1)]
        if self.comm is not None:
            self.comm.Barrier()
        return {"seconds": statistics.median(taken[1:])}


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def be_a_rank(group: str, network: str, batch: int) -> None:
    """In a process of a group."""
    if group == "alone":
        set_num_threads(RANKS)
    rank = Rank(group, network, batch)
    if rank.comm is None or rank.comm.rank == 0:
        answer_requests(rank.answer)
        for other in range(1, 1 if rank.comm is None else rank.comm.size):
            rank.comm.send({"end": True}, other)
    else:
        rank.follow()
    if DDP in rank.made:
        import torch.distributed

        torch.distributed.destroy_process_group()


def mpiexec() -> str:
    """The launcher beside this Python, or on the path."""
    beside = os.path.dirname(sys.executable)  # noqa: PTH120
    found = shutil.which("mpiexec", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if found is None:
        raise Unavailable("there is no mpiexec: pip install mpi4py mpich")
    return found


Turns = dict[str, list[float]]
"""Seconds of a step by contender, for each launch."""


def launch(
    names: Sequence[str], network: str, batch: int, turns: int, seconds: float, agent: Any
) -> dict[str, float]:
    """Start the processes, compare, take turns; the median seconds of a step by contender."""
    found: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        children: dict[str, Child] = {}
        for group in {GROUPS.get(name, "ranks") for name in names}:
            words, variables = [mpiexec(), "-n", str(RANKS)], dict[str, str]()
            address = "127.0.0.1"
            if agent is not None:
                words, variables = on_hosts(mpiexec(), agent)
                address = next(iter(HOSTS.values()))
                variables["GLOO_SOCKET_IFNAME"] = INTERFACE
            variables |= {"MASTER_ADDR": address, "MASTER_PORT": "29511"}
            alone = group == "alone"
            child = Child(
                "ranks",
                *("--be", group, "--network", network, "--batch", str(batch)),
                variables=environment(RANKS if alone else 1, **({} if alone else variables)),
                launcher=() if alone else words,
            )
            children[group] = stack.enter_context(child)
        asked = {name: partial(children[GROUPS.get(name, "ranks")].ask) for name in names}
        losses = {}
        for name, ask in asked.items():
            answer = ask(check=name)
            if not answer.get("equal", True):
                raise RuntimeError(f"{name}: the ranks have different weights")
            if name in TRAINED:
                losses[name] = answer["losses"]
        for name, own in losses.items():
            np.testing.assert_allclose(
                own, next(iter(losses.values())), rtol=EXACT_TO, err_msg=name
            )
        steps = dict.fromkeys(names, 2)
        for turn in range(-1, turns):  # the first is not counted
            for name, ask in asked.items():
                time.sleep(0.05)  # other libraries' threads may spin
                taken = ask(turn=name, steps=steps[name])["seconds"]
                steps[name] = max(2, round(seconds / taken))
                if turn >= 0:
                    found[name].append(taken)
    return {name: statistics.median(each) for name, each in found.items()}


def table(taken: Turns, base: str) -> str:
    """Medians over the launches, and the base's time by each, launch by launch."""
    lines = [f"| | ms a step | {base} / this | of each launch |", "| --- | ---: | ---: | --- |"]
    for name, times in taken.items():
        ratios = [one / other for one, other in zip(taken[base], times, strict=True)]
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        middle = statistics.median(ratios)
        lines.append(f"| {name} | {1e3 * statistics.median(times):.2f} | {middle:.2f} | {each} |")
    return "\n".join(lines)


def hidden(taken: Turns) -> str:
    """How much of the time that sending takes is not seen if gradients leave early.

    The ranks wait for each other in any case, so that is no time of the messages.
    """
    launches = zip(*(taken[name] for name in (SHORT, AT_THE_END, EARLY)), strict=True)
    seen = [(late - short, early - short) for short, late, early in launches]
    late, early = (statistics.median(each) for each in zip(*seen, strict=True))
    return (
        f"seen of the messages: {1e3 * late:.2f} ms at the end, {1e3 * early:.2f} ms early: "
        f"{100 * (1 - early / late):.0f} % hidden"
    )


def main() -> None:
    """Parse, race, print."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/ranks.py",
        description="Steps on two ranks of one thread, and on one process of two, in turns.",
        epilog="example: python benchmarks/ranks.py --batch 1000 --contender one --contender two",
    )
    parser.add_argument("--network", default="deepconvnet", help="deepconvnet, vgg16, ...")
    parser.add_argument(
        "--batch", type=int, help=f"images of both ranks ({IMAGES}; {LARGE_IMAGES})"
    )
    parser.add_argument("--rate", default="", help="on two hosts: tc's, as 10gbit; root alone can")
    parser.add_argument("--latency", type=float, default=0.0, help="on two hosts: seconds")
    parser.add_argument("--contender", action="append", help="words of names; default: all")
    parser.add_argument("--launches", type=int, default=3)
    parser.add_argument("--turns", type=int, default=5, help="of each contender in a launch (5)")
    parser.add_argument("--seconds", type=float, default=0.4, help="of a turn, about (0.4)")
    parser.add_argument("--be", help=argparse.SUPPRESS)
    options = parser.parse_args()
    batch = options.batch or (IMAGES if options.network == "deepconvnet" else LARGE_IMAGES)
    if options.be:
        be_a_rank(options.be, options.network, batch)
        return
    there = bool(options.rate or options.latency)
    names = [
        name
        for name in (THERE if there else HERE)
        if any(word in name for word in options.contender or [""])
    ]
    if DDP in names and (reason := peers.missing("PyTorch eager channels_last")):
        print(f"left out: {reason}", file=sys.stderr)
        names.remove(DDP)
    taken: Turns = {name: [] for name in names}
    print(f"{options.network}, batch {batch}, float32; {machine.summary()}\n", flush=True)
    try:
        with ExitStack() as stack:
            agent = None
            if there:
                agent = stack.enter_context(two_hosts(options.rate, options.latency))
            for _ in range(options.launches):
                found = launch(names, options.network, batch, options.turns, options.seconds, agent)
                for name, seconds in found.items():
                    taken[name].append(seconds)
    except Unavailable as error:
        parser.exit(1, f"skipped: {error}\n")
    print(table(taken, names[0]))
    if {SHORT, AT_THE_END, EARLY} <= set(names):
        print(f"\n{hidden(taken)}")


if __name__ == "__main__":
    main()
