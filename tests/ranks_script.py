"""What the tests of `fastconv.distributed` start on several ranks: ``ranks_script.py TASK ...``.

It also runs as one process, in the tests themselves: `run` and `lost_run` without ranks.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import fastconv.cli.main as cli
from fastconv import Augmentation, Trainer, config
from fastconv.distributed import DataParallel, buckets, departure
from fastconv.distributed.window import Window
from fastconv.errors import ArgumentError, DataWarning, DivergenceWarning, StateError
from fastconv.io.arrays import load_arrays, under
from fastconv.layers import (
    Affine,
    BatchNormalization,
    BatchNormalization2d,
    Convolution,
    Dropout,
    Pooling,
    Relu,
)
from fastconv.network import Network
from fastconv.training.averaging import EMA, SWA
from fastconv.training.callbacks import CSVLog

RNG = np.random.default_rng(7)
T = RNG.integers(0, 3, 130)
WEIGHTS = np.random.default_rng(8).random(130) ** 4
X = RNG.standard_normal((130, 1, 8, 8)) + T[:, None, None, None]

SETTINGS: dict[str, dict[str, Any]] = {
    "averaged": {"clip_norm": 0.5, "averaging": EMA(0.9), "lr_schedule": lambda i: 0.02 / (i + 1)},
    "augmented": {
        "augment": Augmentation(rotate=9, shift=1, elastic=3, contrast=0.2, cutout=2),
        "averaging": SWA(2),
        "balanced": True,
        "early_stopping": 1,
        "label_smoothing": 0.1,
    },
    "second pass": {"reference_loss": True, "evaluate": "start", "balanced": True},
    "synchronised": {
        "sync_batchnorm": True,
        "sample_weight": np.where(WEIGHTS[:100] > 0.6, 1.0, 0.0),  # many shares have none above 0
        "clip_norm": 1,
    },
    "weighted": {"class_weight": {0: 0.0, 1: 5.0}, "sample_weight": WEIGHTS[:100] * 3e307},
}
RESULTS = ("train_loss", "train_accuracy", "test_accuracy", "validation_accuracy")
RESULTS += ("validation_loss", "gradient_norm")


class BooksNetwork:
    """A network as the book's readers write one: it keeps no loss where a Trainer looks."""

    def __init__(self, network: Network) -> None:
        self.network, self.params = network, network.params
        self.accuracy, self.predict = network.accuracy, network.predict
        self.gradient, self.loss = network.gradient, network.loss


def network(*, normalized: bool = False, seed: int = 0, dtype: str = "float64") -> Network:
    """A small one, with dropout where it has no batch normalisation."""
    rng = np.random.default_rng(seed)
    layers = [
        Convolution(rng.standard_normal((4, 1, 3, 3)) / 3, np.zeros(4), 1, 1),
        *([BatchNormalization2d(np.ones(4), np.zeros(4))] if normalized else []),
        Relu(),
        Pooling(2, 2, 2),
        *([] if normalized else [Dropout(0.2)]),
        Affine(rng.standard_normal((64, 12)) / 8, np.zeros(12)),
        *([BatchNormalization(np.ones(12), np.zeros(12))] if normalized else []),
        Relu(),
        *([] if normalized else [Dropout(0.3)]),
        Affine(rng.standard_normal((12, 3)) / 3, np.zeros(3)),
    ]
    net = Network(layers, dtype)
    net.set_params(dict(net.params))  # in that dtype
    return net


def trainer(net: Any, *, batch: int = 23, x: Any = X, **options: Any) -> Trainer:
    """One epoch has four or five steps, and a batch is one that no number of ranks divides."""
    options = {"validation": 0.2, "evaluate": "end", **options}
    data = x[:100], T[:100], X[100:], T[100:]
    own = {"optimizer_param": {"lr": 0.01}, "verbose": False, "seed": 3}
    return Trainer(net, *data, 3, batch, "adam", **{**own, **options})


def result(run: Trainer) -> dict[str, np.ndarray]:
    """Weights, running statistics, and all that a history has but for the clock."""
    state = run.network.state() if isinstance(run.network, Network) else run.network.params
    history = [[record[name] for name in RESULTS] for record in run.history]
    losses = np.array(run.train_loss_list)
    return {**state, "history": np.array(history, float), "losses": losses}


def run(ranks: Any = None) -> dict[str, dict[str, np.ndarray]]:
    """Train by all settings; the ranks begin with other weights, but the first one's count."""
    seed = 0 if ranks is None else ranks.rank
    results = {}
    for name, settings in SETTINGS.items():
        net = network(normalized="sync_batchnorm" in settings, seed=seed)
        run = trainer(net, distributed=ranks, **settings)
        run.train()
        results[name] = result(run)
    return results


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Whether the numbers are, bit for bit."""
    return all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def check_repeats(ranks: Any, results: dict[str, dict[str, np.ndarray]]) -> None:
    """A second run of the same ranks is the first, bit for bit; also one that was interrupted."""
    settings = SETTINGS["augmented"]
    whole = trainer(network(), distributed=ranks, **settings)

    def stop(run: Trainer, record: dict) -> None:
        if ranks.rank == 1:
            run.stop()

    log = CSVLog(f"log of rank {ranks.rank}.csv")
    begun = trainer(network(), distributed=ranks, callbacks=[stop, log], **settings)
    begun.train()
    assert log.path.exists() == ranks.first
    assert begun.stopped and len(begun.history) == 1, "a rank's wish to stop counts on all"
    begun.save_checkpoint("checkpoint.npz")
    assert begun.last_checkpoint == ("checkpoint.npz", begun.current_iter)
    going_on = trainer(network(seed=ranks.rank), distributed=ranks, **settings)
    going_on.load_checkpoint("checkpoint.npz")
    for run in (whole, going_on):
        run.train()
        assert same(result(run), results["augmented"])


def in_messages() -> Any:
    """Ranks that are on one machine do as those of several."""
    return mock.patch.object(DataParallel, "_window_of", return_value=None)


def check_window(ranks: Any) -> None:
    """Gradients are added up where they lie, as in messages; those that are kept stay as they were.

    Whoever keeps them lets a program's two lots of memory run out, and the one that is handed out.
    """
    add_lent, averaged = Window.add_lent, DataParallel.averaged
    together, kept = [], []

    def notes(self: Window, *args: Any) -> bool:
        together.append(add_lent(self, *args))
        return together[-1]

    def keeps(self: DataParallel, *args: Any) -> Any:
        results = averaged(self, *args)
        kept.append([(grad, grad.copy()) for grad in results[0].values()])
        return results

    def train() -> dict[str, np.ndarray]:
        together.clear()
        net = network()
        before = {name: value.copy() for name, value in net.params.items()}
        trainer(net, batch=24 // ranks.size).train()  # by a program whose memory is not shared
        for name, value in before.items():
            net.params[name][...] = value
        run = trainer(net, batch=24, distributed=ranks)
        run.train()
        return result(run)

    with mock.patch.object(Window, "add_lent", notes):
        plain = train()
        assert together == [False] * 2 + [True] * (len(together) - 2) and len(together) > 9
        with mock.patch.object(config.Process, "programs", "off" if ranks.first else "on"):
            assert same(train(), plain) and not any(together)
        with mock.patch.object(DataParallel, "averaged", keeps):
            assert same(train(), plain)
        assert together.count(True) == 2 and len(together) == len(kept)
    window = Window(ranks._comm, ranks._allocate, 128, nullcontext)
    memory = window.lend(128).view(np.float32)
    halves = [memory[:16], memory[16:]]
    assert window.add_lent(halves, 1.0) and window.lend(129) is None
    assert not window.add_lent(halves[:: 1 if ranks.first else -1], 1.0)
    for grad, before in itertools.chain(*kept):
        assert np.array_equal(grad, before)
    little = mock.patch("shutil.disk_usage", return_value=mock.Mock(free=100))
    with in_messages():
        messages = train()
    with little, mock.patch.object(ranks, "_window", None):
        assert same(train(), messages)
    assert any("gradients are sent as messages" in note for note in ranks.notes)
    for name, value in plain.items():
        np.testing.assert_allclose(messages[name], value, rtol=0, atol=1e-9)


def check_early(ranks: Any) -> None:
    """Gradients that leave while backward computes are, bit for bit, those that leave after it."""
    averaged, gradient = DataParallel.averaged, Network.gradient
    left, results = [], {}

    def counts(self: DataParallel, *args: Any) -> Any:
        left.append(self._departure._left)
        return averaged(self, *args)

    def breaks(self: Network, *args: Any, **options: Any) -> dict[str, np.ndarray]:
        gradient(self, *args, **options)
        raise KeyboardInterrupt

    breaks.__module__ = gradient.__module__
    small = mock.patch.multiple(buckets, LEAST=256, MOST_BUCKETS=99)
    with small, in_messages(), mock.patch.object(DataParallel, "averaged", counts):
        for early in (True, False, None):
            ranks._trial = departure.Trial(early)
            for method in (breaks, gradient):
                run = trainer(network(), batch=24, distributed=ranks, class_weight={0: 2.0})
                left.clear()
                with mock.patch.object(Network, "gradient", method), suppress(KeyboardInterrupt):
                    run.train()
            results[early] = result(run)
            if early is not None:
                assert left == [2 * early] * len(run.train_loss_list), left
    assert same(results[True], results[False]) and same(results[None], results[False])
    ranks._trial = departure.Trial(None)


def check_halved(ranks: Any) -> None:
    """Gradients in 16 bits: all that is computed is sent in the end, and training is as before."""
    averaged = DataParallel.averaged
    computed, sent = dict[str, Any](), dict[str, Any]()

    def adds(self: DataParallel, network: Network, grads: Any, loss: Any, count: int) -> Any:
        part = self.share(count)
        for name, grad in grads.items():
            computed[name] = (
                computed.get(name, 0) + grad * np.float64(part.stop - part.start) / count
            )
        results = averaged(self, network, grads, loss, count)
        for name, grad in results[0].items():
            sent[name] = sent.get(name, 0) + grad.astype(float)
            assert grad.dtype == np.float32 and not (grad.view(np.uint32) & 0xFFFF).any()
        return results

    def train(early: bool | None, **options: Any) -> Trainer:
        ranks._trial = departure.Trial(early)
        net = network(dtype="float32")
        run = trainer(net, batch=24, distributed=ranks, **{"gradients": "bfloat16", **options})
        run.train()
        return run

    def stop(run: Trainer, record: dict) -> None:
        run.stop()

    with mock.patch.multiple(buckets, LEAST=256, MOST_BUCKETS=99):
        with mock.patch.object(DataParallel, "averaged", adds):
            run = train(True)
        assert run._unsent.buckets.ends[-1] == run._unsent.own.size
        places = run._unsent.buckets.places
        kept = ranks.gathered(run._unsent.own + run._unsent.sums)
        everyones = ranks.gathered(computed)
        for name, total in sent.items():
            exact = sum(each[name] for each in everyones)
            missing = sum(each[places[name]] for each in kept).reshape(exact.shape)
            np.testing.assert_allclose(total + missing, exact, rtol=0, atol=1e-5)
            assert np.abs(total - exact).max() > 1e-5 or total.size < 9, "nothing was rounded"
        assert same(result(run), result(train(False))) and same(result(run), result(train(None)))
        plain = train(None, gradients=None)
        assert not same(result(run), result(plain))
        losses = [np.mean(each.train_loss_list[-5:]) for each in (run, plain)]
        assert abs(losses[0] - losses[1]) < 0.01 * losses[1] < 0.01 * plain.train_loss_list[0]

        begun = train(True, callbacks=[stop])
        begun.save_checkpoint("halved.npz")
        going_on = trainer(
            network(dtype="float32"), batch=24, distributed=ranks, gradients="bfloat16"
        )
        going_on.load_checkpoint("halved.npz")
        going_on.save_checkpoint("halved again.npz")
        before, after = ranks.of_first(
            lambda: [load_arrays(name)[0] for name in ("halved.npz", "halved again.npz")]
        )
        assert same(before, after)
        going_on.train()
        assert same(result(going_on), result(run))
    fewer = type(run._unsent)(run.network.params, 0, ranks.size + 1)  # all that is owed
    fewer.load_state(under("unsent/", before), "halved.npz")
    np.testing.assert_allclose(fewer.own, before["unsent/own"].sum(axis=0), rtol=0, atol=1e-6)
    books = BooksNetwork(network(dtype="float32"))
    with warnings.catch_warnings(action="ignore"):  # of the second pass
        trainer(books, distributed=ranks, validation=None, gradients="bfloat16").train()
    ranks._trial = departure.Trial(None)


def check_books(ranks: Any) -> None:
    """A network that keeps no loss."""
    run = trainer(BooksNetwork(network()), distributed=ranks, validation=None)
    with warnings.catch_warnings(action="ignore"):  # of the second pass
        run.train()
    assert np.isfinite(run.train_loss_list).all()


def check_lost(ranks: Any) -> str:
    """Input of the last rank is NaN: all stop at the same step, and go back together."""
    steps = itertools.count(1)

    def spoil(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.concatenate([x[:-1], x[-1:] * (np.nan if next(steps) == 8 else 1)])

    def save(run: Trainer, record: dict) -> None:
        run.save_checkpoint("lost.npz")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = trainer(network(), augment=spoil, distributed=ranks, callbacks=[save])
        run.train()
        trainer(network(), x=X * np.nan, distributed=ranks, validation=None)
    told, remarks = (
        [str(each.message) for each in caught if each.category is category]
        for category in (DivergenceWarning, DataWarning)
    )
    assert len(told) == len(remarks) == ranks.first
    assert run.diverged and not run.stopped and len(run.train_loss_list) == 8
    run.load_checkpoint("lost.npz")
    assert run.finite and run.current_iter == run.history[-1]["iteration"] == 6
    ranks.compare("gone back", run.network.params, run._generator)
    return "".join(told)


def check_cpus(ranks: Any) -> None:
    """Each rank has CPUs of its own, where there are as many."""
    if hasattr(os, "sched_getaffinity"):
        masks = ranks.gathered(os.sched_getaffinity(0))
        union = set().union(*masks)
        assert len(union) < ranks.size or sum(map(len, masks)) == len(union), masks


def check_shared(ranks: Any) -> None:
    """Arrays that one rank reads are there on all; where memory is small, each reads them."""
    for free in (2**30, 100):
        calls = []

        def load(calls: list[int] = calls) -> tuple[Any, ...]:
            calls.append(ranks.rank)
            return {"x": X, "t": T[::2]}, (T[:0], X.T), len(calls)

        with mock.patch("shutil.disk_usage", return_value=mock.Mock(free=free)):
            first, (none, turned), _ = ranks.shared(load)
        assert len(calls) == (ranks.first or free == 100)
        assert np.array_equal(first["x"], X) and np.array_equal(first["t"], T[::2])
        assert none.size == 0 and np.array_equal(turned, X.T)
        assert first["x"].flags.writeable == (free == 100)
    assert "has no" in " ".join(ranks.notes) or not ranks.first


def check_normalized(ranks: Any) -> dict[str, np.ndarray]:
    """Each rank normalises by its share; running statistics are those of the whole batch."""
    net = network(normalized=True)
    run = trainer(net, batch=24, distributed=ranks)
    run.train()
    layer = net.layers[1]
    everyones = ranks.gathered((layer.running_mean, layer.running_var))
    assert all(np.array_equal(mine, first) for mine, first in zip(*everyones[:2], strict=True))
    return result(run)


def check_refusals(ranks: Any) -> dict[str, str]:
    """What all ranks raise where one differs."""
    said = {}
    odd = ranks.rank == ranks.size - 1
    changed = X.copy()
    changed[5, 0, 2, 2] += 1
    wrong: dict[str, dict[str, Any]] = {
        "training samples": {"x": changed if odd else X},
        "optimizer": {"optimizer_param": {"lr": 0.02 if odd else 0.01}},
        "batch_size": {"batch": 20 if odd else 23},
        "seed": {"seed": 4 if odd else 3},
    }
    for name, options in wrong.items():
        try:
            trainer(network(), distributed=ranks, validation=(X[100:], T[100:]), **options).train()
        except ArgumentError as error:
            said[name] = str(error)

    def drifts(run: Trainer, record: dict) -> None:
        run.network.params["b1"][...] += odd

    try:
        trainer(network(), distributed=ranks, callbacks=[drifts]).train()
    except StateError as error:
        said["drift"] = str(error)
    try:
        trainer(network(), distributed=ranks, batch=ranks.size - 1)
    except ArgumentError as error:
        said["few"] = str(error)
    try:
        trainer(network(), distributed=ranks, gradients="bfloat16")
    except ArgumentError as error:
        said["float64"] = str(error)
    try:
        trainer(network(), distributed=ranks, seed=None)
    except ArgumentError as error:
        said["no seed"] = str(error)

    class Own(BatchNormalization):
        """A user's."""

    try:
        own = Network([Affine(np.ones((64, 3)), np.zeros(3)), Own(np.ones(3), np.zeros(3))])
        trainer(own, distributed=ranks, sync_batchnorm=True).begin()
    except ArgumentError as error:
        said["own"] = str(error)
    try:
        ranks.of_first(lambda: open("nowhere.npz"))  # noqa: PTH123, SIM115
    except FileNotFoundError as error:
        said["of_first"] = str(error)
    everyones = ranks.gathered(said)
    assert all(theirs == said for theirs in everyones)
    return said


def fail(ranks: Any, how: str) -> None:
    """After the first epoch and its checkpoint, let rank 1 fail."""

    def after_epoch(run: Trainer, record: dict) -> None:
        run.save_checkpoint("checkpoint.npz")
        if len(run.history) == 1 or ranks.rank != 1:
            return
        if how == "raise":
            raise ValueError("the disk is on fire")
        if how == "exit":
            sys.exit("no more")
        if how == "sleep":
            time.sleep(1000)
        os.kill(os.getpid(), signal.SIGSTOP if how == "stop" else signal.SIGKILL)

    processes = ranks.gathered(os.getpid())
    if ranks.first:
        print("processes", *processes, flush=True)
    trainer(network(), distributed=ranks, callbacks=[after_epoch]).train()


def lost_run(*words: str) -> int:
    """Let the command train a network that the last rank's gradient of step 8 makes NaN."""
    rank, size = config.launched()
    plain, steps = Network.gradient, itertools.count(1)

    def gradient(self: Network, *args: Any, **options: Any) -> dict[str, np.ndarray]:
        factor = np.nan if next(steps) == 8 and rank == size - 1 else 1
        return {name: factor * grad for name, grad in plain(self, *args, **options).items()}

    with mock.patch.object(Network, "gradient", gradient), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of NumPy
        warnings.simplefilter("always", DivergenceWarning)
        return cli.main([*words])


def command(*words: str) -> int:
    """Let the command do as it is told, without pictures; on two ranks, then a run that is lost."""
    sys.modules["matplotlib"] = None  # type: ignore[assignment]
    status = cli.main([*words])
    if config.launched().size == 2 and words[0] == "train" and "--members" not in words:
        status = lost_run(*words, "--out", "lost", "--epochs", "3") if status == 0 else 9
    return status


def main(task: str, *words: str) -> None:
    """On each rank."""
    if task == "command":
        sys.exit(command(*words))
    ranks = DataParallel()
    if task != "train":
        return fail(ranks, task)
    results = run(ranks)
    check_repeats(ranks, results)
    check_window(ranks)
    check_early(ranks)
    check_halved(ranks)
    check_books(ranks)
    check_cpus(ranks)
    check_shared(ranks)
    results["normalized"] = check_normalized(ranks)
    said = {**check_refusals(ranks), "lost": check_lost(ranks)}
    if ranks.first:
        arrays = {f"{run}/{name}": a for run, each in results.items() for name, a in each.items()}
        np.savez(Path(*words), said=np.array(list(said.items())), **arrays)
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
