"""The ranks of an MPI launcher, as a Trainer asks for them."""

from __future__ import annotations

import faulthandler
import os
import pickle
import platform
import shutil
import sys
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from traceback import format_exception
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from .. import config
from .._version import __version__
from ..console import mention
from ..errors import ArgumentError, MissingDependency, StateError
from ..layers import BatchNormalization, BatchNormalization2d
from ..layers.base import buffer_names
from ..layers.tree import leaves, walk
from ..network import Network
from ..network.ready import Listener, lent_by, told
from ..ops.memory import Pool, whole_lines
from ..ops.norm import shared_with
from ..randomness import share_of
from ..training.learned import checksum, learned, put
from ..training.ranks import Gradients, Loss, Ranks
from .arrival import watched
from .buckets import Buckets
from .cpus import allowed_cpus, cores, keep_to, own_cpus, own_part, shared_cpus
from .departure import Departure, Trial
from .heartbeat import Heartbeat
from .rounding import Halved, Unsent
from .window import Window

__all__ = ["DataParallel"]

T = TypeVar("T")

BLOCK = 100
"""Samples that ``network.accuracy`` predicts at a time: a rank's part begins with a whole batch."""

MOST_LISTED = 8
"""Machines that are named."""

APART = 0.3
"""Seconds between the ranks' reports of an error, so that one that all have is shown once."""

LINGER = 0.1
"""Seconds between a report and the end: a launcher may drop what it has not yet passed on."""

SHARED = "/dev/shm"
"""Where Linux has the memory that processes share: small in many containers."""

LAST = 5
"""Seconds after which a process ends by itself that MPI has not ended."""

LATEST = 8
"""The rank from which on all report at the same time."""


NORMALIZATION = (
    "batch normalisation: each rank normalises by its share of a batch; running statistics are "
    "averaged over the ranks",
    "batch normalisation: synchronised, all ranks normalise by the whole batch",
)


SYNCHRONIZED = (BatchNormalization, BatchNormalization2d)
"""Layers that can normalise by the whole batch; those derived from them may do otherwise."""


@dataclass(frozen=True)
class _Sharing:
    """The ranks as batch normalisation asks for them; see `fastconv.ops.norm.Sharers`."""

    comm: Any
    waiting: Callable[[], AbstractContextManager[None]]
    part: float

    def gathered(self, own: NDArray[Any]) -> NDArray[Any]:
        everyones = np.empty((self.comm.size, *own.shape), own.dtype)
        with self.waiting():
            self.comm.Allgather(own, everyones)
        return everyones

    def total(self, own: NDArray[Any]) -> NDArray[Any]:
        sums = np.empty_like(own)
        with self.waiting():
            self.comm.Allreduce(own, sums)
        return sums


class DataParallel(Ranks):
    """The ranks of an MPI launcher, for ``Trainer(..., distributed=DataParallel())``.

    An error that no rank catches ends all ranks, with one message that names rank and cause.
    Unless FASTCONV_NUM_THREADS or `set_num_threads` says otherwise, the ranks of a machine share
    its CPUs: each computes with its part of the threads. Where the launcher has not bound them,
    each keeps to CPUs of its own, if there are as many CPUs as ranks.

    Parameters
    ----------
    say : callable, optional
        Gets lines about the run, on the first rank. By default they go to standard error.
    timeout : float, optional
        Seconds after which a rank hangs that gives no sign of life, or does nothing, while others
        wait for it; that ends the run. None: FASTCONV_RANK_TIMEOUT, or else 60. A rank that
        computes may take as long as it likes. Here, before all ranks have made this object, it
        holds for those of this machine, on Linux.
    early : bool, optional
        Whether gradients leave for other machines while backward still computes, which changes no
        bit. None: what is faster in the first steps of a run. On one machine, all of whose ranks
        add them up in shared memory, they never leave.

    Attributes
    ----------
    rank, size : int
    notes : list of str
        What `say` gets before the first step, once.

    Raises
    ------
    MissingDependency
        mpi4py, or the MPI that it needs, is not there.
    StateError
        The launcher is not that of mpi4py's MPI, so that each process would train by itself.
    """

    def __init__(
        self,
        say: Callable[[str], None] = mention,
        *,
        timeout: float | None = None,
        early: bool | None = None,
    ) -> None:
        limit = config.get_rank_timeout() if timeout is None else timeout
        if not limit > 0:
            raise ArgumentError(f"DataParallel: timeout must be greater than 0, got {timeout}")
        launched, (variable, here) = config.launched(), config.launched_here()
        with watched(variable, *launched, here, limit):
            try:
                from mpi4py import MPI
            except ModuleNotFoundError:
                raise MissingDependency(
                    "training on several ranks needs mpi4py: pip install mpi4py"
                ) from None
            except (ImportError, RuntimeError) as error:
                raise MissingDependency(
                    f"mpi4py finds no MPI ({error}): pip install mpich"
                ) from error
            self._comm = MPI.COMM_WORLD.Dup()  # so that nobody else's messages get in between
        self._in_place, self._sum = MPI.IN_PLACE, MPI.SUM
        self._everyone = MPI.COMM_WORLD
        # For messages that leave when each rank is ready.
        self._gradients = self._comm.Dup()
        self._rounded = self._gradients, self._comm.Dup()
        self._departure: Departure | None = None
        self._trial = Trial(early)
        self._neighbours: Any = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        self._allocate, self._windows = MPI.Win.Allocate_shared, list[Any]()
        self._window: Window | None = None  # the largest so far; and that of this step
        self._adds_up_in: Window | None = None
        self._too_large = sys.maxsize
        self.rank, self.size = self._comm.rank, self._comm.size
        if launched.size > 1 and self.size == 1:
            library = MPI.Get_library_version().splitlines()[0]
            raise StateError(
                f"the launcher has started {launched.size} processes, but mpi4py's MPI sees one "
                f"alone: expected the launcher (mpiexec) of {library}"
            )
        self.say = say
        self._memory = Pool(sys.maxsize)
        self._hosts = self._comm.allgather(platform.node())
        hosts = sorted(set(self._hosts))
        where = ", ".join(hosts) if len(hosts) <= MOST_LISTED else f"{len(hosts)} machines"
        self.notes = [f"{self.size} ranks on {where}" if self.size > 1 else "one rank"]
        self._share_cpus()
        self._said: set[str] = set()
        self._heartbeat: Heartbeat | None = None
        self._waiting: Callable[[], AbstractContextManager[None]] = nullcontext
        if self.size == 1:
            return
        sys.excepthook = self._end_by_error
        if MPI.Query_thread() == MPI.THREAD_MULTIPLE:
            own = MPI.COMM_WORLD.Dup()
            self._heartbeat = Heartbeat(own, limit, self._end_by_silence, mention)
            self._heartbeat.start()
            self._waiting = self._heartbeat.waiting
        else:
            self.notes.append("this MPI serves one thread: a rank that hangs is not noticed")

    def _share_cpus(self) -> None:
        """Count and keep to this rank's part of its machine's CPUs."""
        own = own_cpus()
        masks = self._neighbours.allgather(own)
        cpus, wrong = shared_cpus(masks, own, allowed_cpus(), config.container_cpus())
        config.limit_cpus(cpus)
        keep_to(own_part(masks, self._neighbours.rank, cores(own)))
        self.notes += wrong

    # ---- a run -----------------------------------------------------------------------

    def share(self, count: int) -> slice:
        """Return which samples of a batch are this rank's: parts that differ by one at most."""
        if count < self.size:
            raise ArgumentError(
                f"a batch of {count} samples on {self.size} ranks: expected at least one for each"
            )
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def begin(
        self, network: Any, settings: Callable[[], Mapping[str, str]], synchronized: bool
    ) -> None:
        """Refuse ranks that differ, and give all of them the first one's weights."""
        own = learned(network)
        weights = {name: f"{value.shape} {value.dtype}" for name, value in own.items()}
        self.expect_same({"weights": str(weights), **settings()})
        put(network, {name: self._of_first_array(value) for name, value in own.items()})
        if self.size > 1 and (layers := _normalizing(network)):
            others = [type(each).__name__ for each in layers if type(each) not in SYNCHRONIZED]
            if synchronized and others:
                raise ArgumentError(
                    f"sync_batchnorm: {others[0]} is a layer of your own, which normalises by its "
                    "share; expected fastconv's batch normalisation"
                )
            self.notes.append(NORMALIZATION[synchronized])
        self.introduce()

    def introduce(self) -> None:
        """Say the notes that have not been said."""
        for note in self.notes:
            if self.first and note not in self._said:
                self.say(note)
            self._said.add(note)

    def expect_same(self, facts: Mapping[str, str]) -> None:
        """Raise an `ArgumentError` on all ranks if a fact, or a version, is not the first one's."""
        versions = {"fastconv": __version__, "NumPy": np.__version__}
        everyones = self.gathered({**versions, **facts})
        for rank, theirs in enumerate(everyones):
            for name in everyones[0] | theirs:
                here, there = everyones[0].get(name), theirs.get(name)
                if here != there:
                    raise ArgumentError(
                        f"rank {rank} differs in {name}: {_difference(there, here)} on rank 0; "
                        "all ranks of a run must agree"
                    )

    @contextmanager
    def computing(
        self,
        network: Any,
        count: int,
        weights: NDArray[np.floating[Any]] | None,
        synchronized: bool,
        unsent: Unsent | None = None,
    ) -> Iterator[None]:
        """Inside the block, layers draw and, if `synchronized`, normalise for the whole batch."""
        with ExitStack() as stack:
            if self.size > 1:
                if self._departure is not None:
                    with self._waiting():
                        self._departure.abandon()
                    self._departure = None
                self._part = self._part_of(count, weights)
                self._begun = time.perf_counter()
                stack.enter_context(share_of(self.share(count), count))
                if synchronized and _normalizing(network):
                    sharing = _Sharing(self._comm, self._waiting, self._part)
                    stack.enter_context(shared_with(sharing))
                self._adds_up_in = self._window_of(network) if unsent is None else None
                if self._adds_up_in is not None:
                    stack.enter_context(lent_by(self._adds_up_in.lend))
                elif (listener := self._departing(network, unsent)) is not None:
                    stack.enter_context(told(listener))
            yield

    def _window_of(self, network: Any) -> Window | None:
        """Where the ranks add up, if they are on one machine that has the memory."""
        if self._neighbours.size < self.size:
            return None
        arrays = [*network.params.values()]
        arrays += [np.asarray(getattr(layer, name)) for layer, name in _statistics(network)]
        dtype = np.result_type(np.float32, *arrays)
        counts = [*(array.size for array in arrays), 1]  # the loss
        size = sum(whole_lines(count * dtype.itemsize) for count in counts)
        if self._window is not None and self._window.size >= size:
            return self._window
        if size >= self._too_large:
            return None
        whole = self.size * Window.length(size)
        if not self.of_first(lambda: _fits(whole)):
            self._too_large = size
            self.notes.append(f"{SHARED} has no {whole} bytes: gradients are sent as messages")
            self.introduce()
            return None
        self._window = Window(self._gradients, self._allocate, size, self._waiting)
        return self._window

    def _departing(self, network: Any, unsent: Unsent | None) -> Listener | None:
        """Make a step's gradients ready to leave; return who is to be told of them.

        Only of gradients that fastconv's own method returns is it known that nobody changes them
        before they are returned.
        """
        layers = [layer for _, layer in leaves(network)]
        own = isinstance(network, Network) and len(set(map(id, layers))) == len(layers)
        own = own and network.gradient.__module__ == Network.__module__
        params, dtype = network.params, np.dtype(np.float32)
        if unsent is not None:
            buckets = unsent.buckets
            if buckets.sizes != {name: value.size for name, value in params.items()}:
                raise StateError(
                    "with gradients='bfloat16', a run trains the same parameters from the "
                    f"beginning on: expected {', '.join(buckets.sizes)}, got {', '.join(params)}"
                )
        elif own:
            dtype = np.result_type(dtype, *params.values())
            sizes = {name: value.size for name, value in params.items()}
            buckets = Buckets.of(sizes, dtype.itemsize)
        if unsent is None and not (own and buckets.ends):
            return None
        size = buckets.ends[-1] * dtype.itemsize
        sums = self._memory.empty_bytes(size)[:size].view(dtype)
        send = self._sender if unsent is None else partial(Halved, self._rounded, unsent)
        departure = Departure(send, buckets, sums, self._part, unsent)
        self._departure = departure
        if not own or not (self._trial.open or self._trial.early):  # a step runs in one piece
            return None
        names = {
            (id(layer), f"d{attribute}"): name
            for name, layer, attribute in network.named_arrays()
            if name in buckets.places
        }

        def listener(complete: Sequence[tuple[Any, str, NDArray[Any]]]) -> None:
            if not self._trial.early:  # but might: so that both ways run in the same pieces
                return
            for layer, attribute, gradient in complete:
                if (name := names.get((id(layer), attribute))) is not None:
                    departure.put(name, gradient)
            departure.advance()

        return listener

    def _sender(self, bucket: slice, sums: NDArray[Any]) -> Any:
        return self._gradients.Iallreduce(self._in_place, sums[bucket], self._sum)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside the block, a rank that calls `sys.exit` ends all ranks, which wait for it."""
        try:
            if self._heartbeat is not None:
                self._heartbeat.together = True
            yield
        except SystemExit as exit_:
            if self.size > 1:
                self.end(f"it left the run by sys.exit({exit_.code!r})", 1)
            raise
        finally:
            if self._heartbeat is not None:
                self._heartbeat.together = False

    def averaged(
        self,
        network: Any,
        grads: Gradients,
        loss: Loss,
        count: int,
    ) -> tuple[Gradients, Loss]:
        """Return gradients and loss of the whole batch; average the running statistics.

        What has not left by now leaves in one message. Gradients that the ranks of one machine
        share are added up where they lie.
        """
        if self.size == 1:
            return grads, loss
        departure, self._departure = self._departure if grads else None, None
        window = self._adds_up_in
        given = {name: np.asarray(grad) for name, grad in grads.items()}
        sums = dict[str, NDArray[Any]]()
        if window is not None and window.add_lent([*given.values()], self._part):
            sums = given
        away: Container[str] = sums
        if departure is not None:
            away = departure.buckets.places
            for name in away:
                departure.put(name, given[name])
            departure.advance()
        share = self.share(count)
        places = _statistics(network)
        rest = [name for name in given if name not in away]
        arrays = [given[name] for name in rest]
        arrays += [np.asarray(getattr(layer, name)) for layer, name in places]
        arrays.append(np.array(0.0 if loss is None else loss))
        part = (share.stop - share.start) / count
        parts = [self._part] * len(rest) + [part] * len(places) + [self._part]
        same = self._summed(arrays, parts, np.result_type(*(arrays[:-1] or arrays)), window)
        if departure is not None:
            with self._waiting():
                sums = departure.arrived()
        for (layer, name), value in zip(places, same[len(rest) : -1], strict=True):
            setattr(layer, name, value.copy())
        sums |= zip(rest, same, strict=False)
        if departure is not None and self._trial.open:
            self._try(time.perf_counter() - self._begun)
        averaged = {name: _as(sums[name], grad) for name, grad in given.items()}
        return averaged, cast(Loss, None if loss is None else float(same[-1]))

    def _summed(
        self,
        arrays: Sequence[NDArray[Any]],
        factors: Sequence[float],
        dtype: np.dtype[Any],
        window: Window | None,
    ) -> list[NDArray[Any]]:
        """Return the sums over the ranks of each array with its factor, in the array's dtype.

        They are added up as numbers of that dtype, or of float32, in the window or in one message.
        """
        ends = np.cumsum([array.size for array in arrays]).tolist()
        dtype = np.result_type(np.float32, dtype)
        size = ends[-1] * dtype.itemsize
        if window is not None and size <= window.size:
            memory, copied = window.take(size)
        else:
            window, memory, copied = None, self._memory.empty_bytes(size)[:size], False
        buffer = memory.view(dtype)
        views = [
            buffer[end - array.size : end].reshape(array.shape)
            for array, end in zip(arrays, ends, strict=True)
        ]
        for view, array, factor in zip(views, arrays, factors, strict=True):
            np.multiply(array, factor, out=view)
        if window is not None:
            window.add_put(buffer)
        else:
            with self._waiting():
                self._gradients.Allreduce(self._in_place, buffer, self._sum)
        return [
            view.astype(array.dtype, copy=copied) for view, array in zip(views, arrays, strict=True)
        ]

    def _try(self, seconds: float) -> None:
        """Take down what a step's gradients took; decide at last whether they leave early."""
        if not self._trial.note(seconds):
            return
        late, early = self.total(*self._trial.times)
        self._trial.end(late, early)
        if self._trial.early and self.first:
            late, early = (1000 * seconds / self.size for seconds in (late, early))
            self.say(
                f"gradients leave while backward computes: {early:.1f} ms instead of {late:.1f}"
            )

    def _part_of(self, count: int, weights: NDArray[np.floating[Any]] | None) -> float:
        """This rank's part of a batch's loss: of the samples, or of the sum of their weights.

        Where the share's weights are all 0, and so is its loss, any part would do: it is that of
        the samples, by which gradients can be divided.
        """
        share = self.share(count)
        part = (share.stop - share.start) / count
        if weights is None:
            return part
        largest = float(weights.max()) or 1.0  # so that sums are finite
        own = largest, float((weights / largest).sum())
        peaks, sums = np.transpose(self.gathered(own))
        sums *= peaks / peaks.max()
        return float(sums[self.rank] / (sums.sum() or 1.0)) or part

    def unsent(self, params: Mapping[str, NDArray[Any]]) -> Unsent:
        """Return what rounding to 16 bits has kept back of these parameters' gradients: nothing."""
        if self.size == 1:
            return super().unsent(params)
        return Unsent(params, self.rank, self.size)

    def compare(self, when: str, arrays: Mapping[str, NDArray[Any]], generator: Any) -> None:
        """Raise a `StateError` on all ranks if one has other weights, or has drawn otherwise."""
        own = {name: str(checksum(np.asarray(value))) for name, value in arrays.items()}
        own["the random generator's state"] = str(generator.bit_generator.state["state"])
        everyones = self.gathered(own)
        for rank, theirs in enumerate(everyones):
            if theirs != everyones[0]:
                names = [name for name in own if theirs.get(name) != everyones[0].get(name)]
                raise StateError(f"{when}, rank {rank} differs from rank 0 in {', '.join(names)}")

    # ---- results of all ranks --------------------------------------------------------

    def accuracy(self, network: Any, x: NDArray[Any], t: NDArray[Any]) -> float:
        """Return the accuracy on all samples, of which each rank predicts a part."""
        blocks = self.blocks(len(x), BLOCK)
        part = slice(blocks.start, min(blocks.stop, len(x)))
        count = max(0, part.stop - part.start)
        correct = float(network.accuracy(x[part], t[part])) * count if count else 0.0
        if abs(correct - np.rint(correct)) < 1e-6:  # a count, but for rounding
            correct = float(np.rint(correct))
        return self.total(correct)[0] / len(x)

    def blocks(self, count: int, size: int) -> range:
        """Return where this rank's blocks begin; they are those of one process."""
        number = -(-count // size)
        begin, end = (number * rank // self.size for rank in (self.rank, self.rank + 1))
        return range(begin * size, end * size, size)

    def total(self, *numbers: float) -> tuple[float, ...]:
        """Return the sum of each number over all ranks, taken in their order."""
        everyones = np.empty((self.size, len(numbers)))
        with self._waiting():
            self._comm.Allgather(np.array(numbers, float), everyones)
        return tuple(everyones.sum(axis=0).tolist())

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on a rank."""
        return bool(self.total(flag)[0])

    def gathered(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order."""
        with self._waiting():
            return self._comm.allgather(value)

    def of_first(self, function: Callable[[], T]) -> T:
        """Return what the function returns on the first rank, or raise what it raises there."""
        result: Any = None
        error: Exception | None = None
        if self.first:
            try:
                result = function()
            except Exception as caught:
                error = caught
        with self._waiting():
            result, error = self._comm.bcast((result, error))
        if error is not None:
            raise error
        return result

    def shared(self, function: Callable[[], T]) -> T:
        """Return what the function returns on the first rank of this machine.

        Its arrays lie in memory that all ranks of the machine share, and may not be written. Where
        there is too little of that, each rank calls the function.
        """
        result: Any = None
        text, sizes, whole = b"", list[int](), 0
        buffers: list[pickle.PickleBuffer] = []
        if self._neighbours.rank == 0:
            result = function()
            text = pickle.dumps(result, 5, buffer_callback=buffers.append)
            sizes = [buffer.raw().nbytes for buffer in buffers]
            whole = sum(map(whole_lines, sizes))
            if not _fits(whole):
                self.notes.append(f"{SHARED} has no {whole} bytes: every rank reads the data")
                text = b""
        with self._waiting():
            text, sizes = self._neighbours.bcast((text, sizes))
        if not text:
            return function() if self._neighbours.rank else result
        result = None
        with self._waiting():
            window = self._allocate(whole, comm=self._neighbours)
        self._windows.append(window)
        memory = memoryview(window.Shared_query(0)[0]).cast("B")
        begins = accumulate(map(whole_lines, sizes), initial=0)
        places = [memory[begin : begin + size] for begin, size in zip(begins, sizes, strict=False)]
        for place, buffer in zip(places, buffers, strict=False):
            place[:] = buffer.raw()
        with self._waiting():
            self._neighbours.Barrier()
        return pickle.loads(text, buffers=[place.toreadonly() for place in places])

    def stacked(self, array: NDArray[Any]) -> NDArray[Any] | None:
        """Return the arrays of all ranks, along a new first axis, on the first one."""
        everyones = np.empty((self.size, *array.shape), array.dtype) if self.first else None
        with self._waiting():
            self._comm.Gather(np.ascontiguousarray(array), everyones)
        return everyones

    def _of_first_array(self, value: NDArray[Any]) -> NDArray[Any]:
        copy = np.array(value, order="C")
        with self._waiting():
            self._comm.Bcast(copy)
        return copy

    # ---- the end ---------------------------------------------------------------------

    def end(self, cause: str, status: int, details: str = "", rank: int | None = None) -> NoReturn:
        """End all ranks at once, with a message that names a rank, or this one, and the cause.

        Later ranks wait a little: of an error that all have, the first one's report is enough.
        """
        time.sleep(APART * min(self.rank, LATEST))
        if details:
            mention(details.rstrip())
        whose = self.rank if rank is None else rank
        mention(f"fastconv: error: rank {whose} of {self.size} on {self._hosts[whose]}: {cause}")
        with suppress(OSError, AttributeError):  # standard output may be gone
            sys.stdout.flush()
        time.sleep(LINGER)
        # MPI may wait for a launcher that cannot be reached.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        faulthandler.dump_traceback_later(LAST, exit=True, file=nowhere)
        self._everyone.Abort(status)
        raise SystemExit(status)

    def _end_by_error(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """Stand for `sys.excepthook`: other ranks would wait for this one for ever."""
        self.end(f"{kind.__name__}: {error}", 1, "".join(format_exception(kind, error, trace)))

    def _end_by_silence(self, rank: int, cause: str, details: str) -> None:
        self.end(cause, 1, details, rank)


def _normalizing(network: Any) -> list[Any]:
    """The layers that have statistics of the batches that they are trained on."""
    return [
        layer
        for _, layer in walk(network)
        if buffer_names(layer) and not getattr(layer, "frozen", False)
    ]


def _statistics(network: Any) -> list[tuple[Any, str]]:
    """Where the running statistics are that a step changes: layer and attribute."""
    return [
        (layer, name)
        for layer in _normalizing(network)
        for name in buffer_names(layer)
        if getattr(layer, name) is not None
    ]


def _fits(size: int) -> bool:
    """Whether so many bytes can be shared; where they cannot, writing them ends the process."""
    try:
        return shutil.disk_usage(SHARED).free > size
    except OSError:  # another system
        return True


def _as(sums: NDArray[Any], gradient: NDArray[Any]) -> NDArray[Any]:
    """Sums in the shape and dtype of a gradient."""
    return sums.reshape(np.shape(gradient)).astype(gradient.dtype, copy=False)


def _difference(there: str | None, here: str | None) -> str:
    """Both, from where they begin to differ."""
    words = [str(each) for each in (there, here)]
    pairs = enumerate(zip(*words, strict=False))
    common = next((place for place, (a, b) in pairs if a != b), min(map(len, words)))
    begin = max(0, common - 20) if max(map(len, words)) > 60 else 0
    there, here = ("..." * (begin > 0) + word[begin : begin + 60] for word in words)
    return f"{there}, but {here}"
