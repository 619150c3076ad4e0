"""Training on several ranks: real ones, that mpiexec starts, compared with one process."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import fastconv
from fastconv import config
from fastconv.cli import main as cli
from fastconv.cli import run as cli_run
from fastconv.distributed import arrival
from fastconv.distributed.buckets import Buckets
from fastconv.distributed.cpus import cores, own_part, shared_cpus
from fastconv.distributed.departure import COUNTED, ROUNDS, STEPS, Trial
from fastconv.distributed.heartbeat import LEFT, WAITING, WORKING, Heartbeat
from fastconv.distributed.rounding import halves, whole
from fastconv.errors import ArgumentError, FallbackWarning, StateError
from fastconv.experiment.settings import new_config, resumed_config
from fastconv.io.arrays import load_arrays
from fastconv.randomness import own_generator, share_of, uniform
from fastconv.training.learned import checksum

from . import ranks_script
from .conftest import ROOT

SCRIPT = Path(ranks_script.__file__)
VARIABLES = [name for names in config.LAUNCHERS for name in names]


@functools.cache
def launcher() -> str:
    """The mpiexec beside this Python, or on the path."""
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed: pip install mpi4py mpich")
    beside = str(Path(sys.executable).parent)
    found = shutil.which("mpiexec", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("there is no mpiexec: pip install mpich")
    return found


def on_ranks(number: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these words on so many ranks, of one thread each, as a user would."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"PYTHONPATH": str(ROOT), "FASTCONV_BACKEND": fastconv.get_backend()}
    return subprocess.run(
        [launcher(), "-n", str(number), sys.executable, "-P", "-W", "error", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def alone():
    """What one process computes."""
    return ranks_script.run()


@pytest.fixture(scope="module", params=[2, 3])
def ranks(request, tmp_path_factory):
    """What so many ranks compute, and say where they are wrong."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = on_ranks(request.param, str(SCRIPT), "train", "out.npz")
    assert done.returncode == 0, done.stderr
    with np.load(folder / "out.npz") as file:
        return request.param, dict(file), done.stderr


@pytest.mark.parametrize("settings", ranks_script.SETTINGS)
def test_ranks_compute_what_one_process_does(alone, ranks, settings):
    """Batches, augmentation, dropout, clipping, averages, validation, early stopping, results."""
    _, found, _ = ranks
    expected = alone[settings]
    normalized = "sync_batchnorm" in ranks_script.SETTINGS[settings]
    start = ranks_script.network(normalized=normalized).params["W3"]
    assert np.abs(expected["W3"] - start).max() > 0.001
    for name, value in expected.items():
        np.testing.assert_allclose(found[f"{settings}/{name}"], value, rtol=0, atol=1e-9)


def test_batch_normalisation_is_per_rank_or_synchronised_and_said_once(ranks):
    """The statistics' means are those of whole batches; with other gradients, not exactly so."""
    _, found, said = ranks
    assert said.count("batch normalisation: each rank normalises by its share") == 1
    assert said.count("batch normalisation: synchronised, all ranks normalise by the whole") == 1
    assert np.isfinite(found["normalized/losses"]).all()
    assert np.abs(found["normalized/running_mean2"]).max() > 0.01


def test_ranks_that_differ_are_refused_by_name(ranks):
    number, found, _ = ranks
    said, last = dict(found["said"].tolist()), number - 1
    assert f"rank {last} differs in training samples: 100 of checksum" in said["training samples"]
    assert f"rank {last} differs in optimizer: Adam {{'lr': 0.02" in said["optimizer"]
    assert f"rank {last} differs in batch_size: 20, but 23 on rank 0" in said["batch_size"]
    assert f"rank {last} differs in seed" in said["seed"]
    assert said["drift"] == f"after epoch 2, rank {last} differs from rank 0 in params/b1"
    assert f"a batch of {last} samples on {number} ranks" in said["few"]
    assert "distributed needs a seed" in said["no seed"]
    assert "rounds those of float32; W1 is of float64" in said["float64"]
    assert "sync_batchnorm: Own is a layer of your own" in said["own"]
    assert "nowhere.npz" in said["of_first"]


def test_a_run_that_diverges_stops_on_all_ranks_and_is_said_once(ranks):
    """Whose input it was, when only the last rank's was lost."""
    said = dict(ranks[1]["said"].tolist())["lost"]
    assert "the loss of step 8, in epoch 3, is nan; the likely cause is input that is" in said
    assert "The last checkpoint before is lost.npz, of step 6" in said


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("raise", "rank 1 of 2 on .*: ValueError: the disk is on fire"),
        ("exit", "rank 1 of 2 on .*: it left the run by sys.exit"),
        ("die", "signal 9"),
        ("stop", "rank 1 of 2 on .*: no sign of life for 2 s, while others wait for it"),
        ("sleep", r"time\.sleep\(1000\)\n.*rank 1 of 2 on .*: it has done nothing for 2 s"),
    ],
)
def test_a_rank_that_fails_ends_all(how, cause, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTCONV_RANK_TIMEOUT", "2")
    done = on_ranks(2, str(SCRIPT), how, "")
    assert done.returncode
    assert len(re.findall(cause, done.stdout + done.stderr)) == 1, done
    metadata = load_arrays("checkpoint.npz")[1]  # whole
    assert len(metadata["progress"]["history"]) in (1, 2)
    processes = re.findall(r"^processes (\d+) (\d+)$", done.stdout, re.MULTILINE)[0]
    latest = time.monotonic() + 10
    while any(map(runs, processes)):
        assert time.monotonic() < latest, "they live on"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are listed by Linux")
def test_a_rank_that_never_comes_ends_those_that_wait_for_it(monkeypatch):
    script = """
import time
from fastconv import config
if config.launched().rank == 1:
    time.sleep(1000)
from fastconv.distributed import DataParallel
DataParallel()
"""
    monkeypatch.setenv("FASTCONV_RANK_TIMEOUT", "0.5")
    done = on_ranks(2, "-c", script)
    cause = r"rank 1 of 2 on .*: it has done nothing for 0\.5 s, before DataParallel\(\)"
    assert done.returncode
    assert len(re.findall(cause, done.stderr)) == done.stderr.count("rank ") == 1, done


def test_who_is_not_waited_for():
    """Ranks 0 and 2 wait; 1 computes, then hangs; 3 is on another machine."""

    def ranks(computed: float, there: bool = False) -> dict[int, arrival.Rank]:
        waiting = arrival.Rank(there=True)
        return {0: waiting, 1: arrival.Rank(there, {70: 5.0, 71: computed}), 2: waiting}

    watches = {rank: arrival.Watch(rank, 4, 3, 3.0) for rank in (0, 2)}
    said: dict[int, list[Any]] = {rank: [] for rank in watches}
    for computed in (0, 1, 2, 3, 4, 4.005, 4.01, 4.01):
        for rank, watch in watches.items():
            said[rank].append(watch.look(1.0, ranks(computed)))
    assert said[2] == [None] * 8
    busy = "rank 1 has kept others waiting for 3 s, before DataParallel(); it computes"
    assert said[0][:7] == [None, None, busy, None, None, None, None]
    assert said[0][7] == (1, mock.ANY)
    assert said[0][7][1].startswith("it has done nothing for 3 s")
    watch = arrival.Watch(0, 4, 3, 3.0)
    found = [watch.look(1.0, ranks(0, there=True)) for _ in range(6)]
    assert found[:3] + found[4:] == [None] * 5
    assert "waited for 4 s in DataParallel(), to which another machine's have not" in found[3]
    assert found[3].endswith("all or some of 3")
    watch = arrival.Watch(0, 4, 4, 3.0)  # all are on this machine
    found = [watch.look(1.0, ranks(0, there=True)) for _ in range(3)]
    assert found[:2] == [None, None]
    assert found[2] == (3, "it has ended before DataParallel(), while others wait for it there")


def test_ranks_of_a_launcher_are_found(tmp_path):
    """Two launchers, 2 and 3; the first has started a shell, in which a rank runs."""

    def add(process: int, parent: int, rank: int | None, state: str = "S", *words: str) -> None:
        folder = tmp_path / str(process)
        folder.mkdir()
        variables = b"A=b=c\0" + (b"" if rank is None else b"PMI_RANK=%d\0" % rank)
        (folder / "environ").write_bytes(variables)
        numbers = "0 " * 9 + "70 30 9"
        (folder / "stat").write_text(f"{process} (a ) b) {state} {parent} {numbers}")
        (folder / "cmdline").write_bytes("\0".join(("python", *words)).encode())

    for row in [(2, 1, None), (3, 1, None), (10, 2, 0), (11, 10, 0), (12, 11, 0), (13, 2, 1)]:
        add(*row, "S", *([arrival.__file__] if row[0] == 12 else []))
    add(14, 3, 2)
    add(15, 2, 3, "Z")
    (tmp_path / "self").mkdir()
    second = 100 / os.sysconf("SC_CLK_TCK")
    waits = arrival.Rank(there=True, computed={10: second, 11: second})
    expected = {0: waits, 1: arrival.Rank(computed={13: second})}
    assert arrival.ranks_here("PMI_RANK", 12, tmp_path) == expected


def test_a_rank_ends_whose_launcher_cannot_be_reached():
    """MPI's own end would wait for it."""
    script = """
import time
from types import SimpleNamespace
from fastconv.distributed import DataParallel, data_parallel
data_parallel.LAST = 0.2
rank = object.__new__(DataParallel)
rank.rank, rank.size, rank._hosts = 0, 2, ["here", "there"]
rank._everyone = SimpleNamespace(Abort=lambda status: time.sleep(60))
rank._end_by_silence(1, "gone", "")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "fastconv: error: rank 1 of 2 on there: gone\n"


class Ring:
    """What a heartbeat sees of MPI: its neighbours, of three ranks, as a test lets them speak."""

    rank, size = 1, 3

    def __init__(self):
        self.said = {0: [], 2: []}

    def Isend(self, beat, rank):
        return self

    def Test(self):
        return True

    def Iprobe(self, rank):
        return bool(self.said[rank])

    def Recv(self, beat, rank):
        beat[:] = self.said[rank].pop(0)


@pytest.mark.parametrize(
    ("before", "behind", "waits", "busy", "expected"),
    [
        ((WORKING, 0), (WORKING, 0), True, True, ""),  # a rank that computes for long
        (None, (WORKING, 0), True, False, "0: no sign of life for 3 s"),
        (None, (WAITING, 5), False, True, "1 has kept others waiting for 3 s; it computes"),
        ((LEFT, 0), (WAITING, 5), True, True, "0: it has ended, while others wait"),
        ((WORKING, 0), (WAITING, 5), False, False, "1: it has done nothing for 3 s"),
        ((WORKING, 0), (WAITING, 5), True, False, ""),  # all wait for the first
        ((WORKING, 0), (WAITING, None), False, False, ""),  # goes on, from one wait to the next
    ],
)
def test_which_rank_hangs(before, behind, waits, busy, expected):
    ring, said = Ring(), []
    heartbeat = Heartbeat(
        ring, 3.0, lambda rank, cause, where: said.append(f"{rank}: {cause} {where}"), said.append
    )
    heartbeat.together = True
    with heartbeat.waiting() if waits else nullcontext():
        for number in range(8):
            if before and not (before[0] == LEFT and number):  # who has left says no more
                ring.said[0].append(before)
            ring.said[2].append((behind[0], number if behind[1] is None else behind[1]))
            if expected and not said:
                assert number < 5
            heartbeat.beat(1.0, busy=busy)
    assert expected in "".join(said) if expected else not said
    if "nothing" in expected:
        assert "test_which_rank_hangs" in said[0], "its traceback"


def runs(process: str) -> bool:
    """Whether there is such a process still; one whose end nobody has asked for is none."""
    try:
        state = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    t = rng.integers(0, 3, 90)
    pixels = (rng.random((90, 16, 16)) * 40 + 60 * t[:, None, None]).astype(np.uint8)
    np.savez("few.npz", x=pixels, t=t)
    words = "train --data few.npz --model lenet --batch-size 11 --seed 1 --threads 1"
    return [*words.split(), "--dtype", "float64", "--balanced"]


def test_the_command_trains_on_ranks_and_goes_on_with_others(images, monkeypatch):
    command = (str(SCRIPT), "command")
    first = on_ranks(2, *command, *images, "--epochs", "1", "--out", "shared")
    assert (first.returncode, first.stdout.count("epoch 1/1")) == (1, 1), first.stderr
    good, lost = (load_arrays(f"{name}/weights.npz")[0] for name in ("shared", "lost"))
    again = on_ranks(3, *command, "train", "--resume", "shared", "--epochs", "2")
    assert (again.returncode, again.stdout.count("epoch 2/2")) == (0, 1), again.stderr
    assert "continuing with ranks 3 instead of 2" in again.stderr
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main([*images, "--epochs", "2", "--out", "alone"]) == 0
    kept = [{path.name for path in Path(name).iterdir()} for name in ("shared", "alone")]
    assert kept[0] == kept[1]
    ours, theirs = (load_arrays(f"{name}/weights.npz")[0] for name in ("shared", "alone"))
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=0, atol=1e-9)
    history = Path("shared", "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in history] == [1, 2]
    results = [json.loads(Path(name, "result.json").read_text()) for name in ("shared", "alone")]
    assert results[0]["test_accuracy"] == results[1]["test_accuracy"]
    assert json.loads(Path("shared", "config.json").read_text())["ranks"] == 3

    # The other run of the first two ranks: lost in its second epoch, back at the end of the first.
    assert first.stderr.count("the run has diverged: the loss of step 9, in epoch 2, is nan") == 1
    assert first.stdout.count("kept: the weights of epoch 1, the last") == 1
    assert all(np.array_equal(lost[name], value) for name, value in good.items())
    assert len(Path("lost", "history.jsonl").read_text().splitlines()) == 1
    assert ranks_script.lost_run(*images, "--epochs", "3", "--out", "lost alone") == 1
    kept += [{path.name for path in Path(name).iterdir()} for name in ("lost", "lost alone")]
    assert kept[2] == kept[3] == kept[0]
    for name in ("initial.npz", "checkpoint.npz"):
        ours, theirs = (load_arrays(Path(run, name))[0] for run in ("lost", "lost alone"))
        for key, value in theirs.items():
            np.testing.assert_allclose(ours[key], value, rtol=0, atol=1e-9)
    results = [json.loads(Path(run, "result.json").read_text()) for run in ("lost", "lost alone")]
    for name in ("test_accuracy", "diverged", "kept", "epochs", "by_class"):
        assert results[0][name] == results[1][name]
    misread = [Path(run, "mistakes.csv").read_text() for run in ("lost", "lost alone")]
    without_confidence = [re.sub(r"[^,]*$", "", text, flags=re.MULTILINE) for text in misread]
    assert without_confidence[0] == without_confidence[1]


def test_the_members_of_an_ensemble_are_those_of_one_process(images, monkeypatch):
    """Files and all; the second rank trains one of the three."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = [*images, "--epochs", "1", "--members", "3"]
    assert cli.main([*words, "--out", "alone"]) == 0
    done = on_ranks(2, str(SCRIPT), "command", *words, "--out", "shared")
    assert (done.returncode, done.stdout.count("3 members on 2 ranks")) == (0, 1), done.stderr
    assert done.stdout.count("ensemble of 3: test accuracy") == 1
    names = ["ensemble.npz", "config.json", *(f"member-{k}/weights.npz" for k in (1, 2, 3))]
    names += [f"member-{k}/config.json" for k in (1, 2, 3)]
    for name in names:
        alone, shared = (Path(run, name).read_bytes() for run in ("alone", "shared"))
        assert alone == shared, name
    kept = [
        sorted(path.relative_to(run) for path in Path(run).rglob("*"))
        for run in ("alone", "shared")
    ]
    assert kept[0] == kept[1]


# ---- without a launcher ---------------------------------------------------------------


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_script_under_a_launcher_is_refused_once(rank, environment, tmp_path, capsys):
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit('it ran')")
    environment("PMI_RANK", rank)
    environment("PMI_SIZE", "4")
    assert cli_run.main(["run", str(script)]) == 2
    said = capsys.readouterr().err
    assert ("has started 4 processes, each of which would do the whole" in said) == (rank == "0")
    assert cli.main(["info"]) == 2  # as any other command
    said = capsys.readouterr()
    assert ("info: error: a launcher has started 4" in said.err) == (rank == "0") and not said.out
    assert cli.main(["train", "--nonsense"]) == 2
    assert bool(capsys.readouterr().err) == (rank == "0")


def test_a_trainer_that_does_not_notice_its_launcher_says_so(environment, monkeypatch):
    monkeypatch.delitem(sys.modules, "mpi4py", raising=False)
    environment("OMPI_COMM_WORLD_RANK", "0")
    environment("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.warns(FallbackWarning, match="started 2 processes, and each trains by itself"):
        ranks_script.trainer(ranks_script.network())
    environment("OMPI_COMM_WORLD_RANK", "1")  # said by one of them
    with warnings.catch_warnings(action="error"):
        ranks_script.trainer(ranks_script.network())


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (0, 1)),
        ({"PMI_RANK": "2", "PMI_SIZE": "3"}, (2, 3)),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, (1, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, (0, 1)),  # a batch script, not its tasks
        ({"PMI_RANK": "2"}, (0, 1)),
    ],
)
def test_launchers_that_are_known(variables, expected, environment):
    for name, value in variables.items():
        environment(name, value)
    assert config.launched() == expected


def test_gradients_are_cut_in_the_order_of_backward():
    sizes = {"W1": 9000, "b1": 1, "W2": 36000, "b2": 1, "W3": 300, "b3": 3, "W4": 36000, "b4": 5}
    buckets = Buckets.of(sizes, 4)
    assert list(buckets.places) == ["b4", "W4", "b3", "W3", "b2", "W2"]
    assert buckets.ends == [36005, 36005 + 303 + 36001]
    assert [*buckets.owners.values()] == [0, 0, 1, 1, 1, 1]
    assert buckets.places["b3"] == slice(36005, 36008)
    assert not Buckets.of({"W": 10**6}, 4).ends  # nothing is left to compute
    assert Buckets.of(sizes, 4, all_of_them=True).ends == [36005, 72309, 81310]
    assert len(Buckets.of({str(number): 10**4 for number in range(100)}, 8).ends) == 14


def test_gradients_are_rounded_to_the_nearest_bfloat16():
    """Of its two neighbours of 8 bits; of two as near, the one whose last bit is 0."""
    rng = np.random.default_rng(4)
    values = (rng.standard_normal(2000) * 2.0 ** rng.integers(-130, 120, 2000)).astype(np.float32)
    values[:4] = [1 + 2**-8, 1 + 3 * 2**-8, -0.0, 2.0**-140]
    bits = values.view(np.uint32) >> 16 << 16
    near = np.stack([bits, bits + 0x10000]).view(np.float32).astype(float)
    distances = np.abs(near - values)
    even = (bits >> 16 & 1).astype(int)
    best = np.where(distances[0] == distances[1], even, distances.argmin(axis=0))
    expected = near[best, np.arange(len(values))]
    assert np.array_equal(whole(halves(values)), expected.astype(np.float32))
    assert whole(halves(values))[:2].tolist() == [1.0, 1 + 2**-6]
    odd = np.array([np.inf, -np.inf, 0, 3.4e38], np.float32)
    odd[2:3].view(np.uint32)[0] = 0x7FFFFFFF  # a NaN that rounding alone would make -0
    assert np.array_equal(whole(halves(odd)), [np.inf, -np.inf, np.nan, np.inf], equal_nan=True)


def test_gradients_in_16_bits_are_of_several_processes_in_float32(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words, said in [
        ([], "several processes send them, under mpiexec"),
        (["--dtype", "float64"], "of --dtype float32 alone"),
    ]:
        assert cli.main(["train", "--gradients", "bfloat16", *words]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="one sends none"):
        ranks_script.trainer(ranks_script.network(dtype="float32"), gradients="bfloat16")
    with pytest.raises(ArgumentError, match="gradients must be 'bfloat16' or None, got 'int8'"):
        ranks_script.trainer(ranks_script.network(), gradients="int8")


@pytest.mark.parametrize(("early", "expected"), [(0.5, True), (0.995, False), (2.0, False)])
def test_a_trial_takes_both_ways_in_turns_and_then_the_faster(early, expected):
    trial, ways = Trial(None), []
    for step in range(2 * ROUNDS * STEPS):
        ways.append(trial.early)
        slow = 100 * (step % STEPS < STEPS - COUNTED)  # the first steps after a change
        over = trial.note(slow + (early if trial.early else 1.0))
    assert over and trial.open and sum(ways) == ROUNDS * STEPS
    trial.end(*trial.times)
    assert (trial.open, trial.early) == (False, expected)
    assert not Trial(False).open and Trial(True).early


ALL = frozenset(range(8))


@pytest.mark.parametrize(
    ("masks", "quota", "cpus", "wrong"),
    [
        ([ALL] * 3, None, 2, ""),  # the launcher binds nothing
        ([ALL] * 2, 3.5, 2, ""),  # a container
        ([ALL] * 4, 2, 1, "4 ranks share 2"),
        ([frozenset({0, 1, 2, 3}), frozenset({4, 5, 6, 7})], None, 4, ""),
        ([frozenset({0}), frozenset({1})], None, 1, "to 2 of 8 CPUs, and 6 stay unused"),
        ([frozenset({0})], None, 1, "to 1 of 8 CPUs"),
        ([frozenset({0})] * 2, None, 1, "2 ranks share 1"),
        ([ALL] * 9, None, 1, "9 ranks share 8"),
    ],
)
def test_ranks_share_the_cpus_of_their_machine(masks, quota, cpus, wrong):
    found, said = shared_cpus(masks, masks[0], ALL, quota)
    assert found == cpus
    assert wrong in " ".join(said) if wrong else not said


@pytest.mark.parametrize(
    ("masks", "parts"),
    [
        ([ALL] * 2, [{0, 1, 2, 3}, {4, 5, 6, 7}]),
        ([ALL] * 3, [{0, 1}, {2, 3, 4}, {5, 6, 7}]),
        ([ALL] * 9, [ALL] * 9),  # more ranks than CPUs
        ([{0, 1}, {2, 3}], [{0, 1}, {2, 3}]),  # bound by the launcher
        ([{0, 1}, {0, 1}, {2, 3}, {2, 3}], [{0}, {1}, {2}, {3}]),  # to sockets
        ([{0, 1}, {1, 2}], [{0, 1}, {1, 2}]),  # in no way that could be shared out
    ],
)
def test_each_rank_keeps_to_cpus_of_its_own(masks, parts):
    sets = [frozenset(mask) for mask in masks]
    found = [own_part(sets, place, sorted(own)) for place, own in enumerate(sets)]
    assert [*map(set, found)] == [*map(set, parts)]


def test_the_threads_of_a_core_stay_together(tmp_path):
    """Two processors of two cores of two threads, numbered as Linux often does."""
    for cpu in range(8):
        folder = tmp_path / f"cpu{cpu}"
        folder.mkdir()
        (folder / "physical_package_id").write_text(f"{cpu % 4 // 2}\n")
        (folder / "core_id").write_text(f"{cpu % 2}\n")
    assert cores(range(8), f"{tmp_path}/cpu{{}}") == [0, 4, 1, 5, 2, 6, 3, 7]
    assert cores([3, 1], f"{tmp_path}/none{{}}") == [1, 3]


def test_a_run_that_goes_on_with_other_ranks_takes_the_threads_that_they_have(environment):
    alone = new_config({"threads": 7})
    said = []
    environment("PMI_RANK", "0")
    environment("PMI_SIZE", "3")
    now = resumed_config(alone, {}, said.append)
    assert (alone.ranks, now.ranks, now.threads) == (1, 3, config.get_num_threads())
    assert "continuing with ranks 3 instead of 1" in " ".join(said)
    assert resumed_config(alone, {"threads": 5}, said.append).threads == 5
    assert resumed_config(now, {}, said.append).threads == now.threads


def test_ranks_whose_numbers_are_nan_are_equal():
    """A sum of NaN may keep the bits of the one or of the other."""
    nan, other = np.array([0x7FF8000000000000, 0xFFF8000000000001], np.uint64).view(float)
    assert np.isnan([nan, other]).all()
    assert checksum(np.array([1, nan])) == checksum(np.array([1, other]))
    assert checksum(np.array([1.0, 2.0])) != checksum(np.array([1.0, 3.0]))


def test_a_share_of_what_one_process_draws():
    whole = np.random.default_rng(2).random((2 * 7, 3))
    with own_generator(np.random.default_rng(2)), share_of(slice(2, 5), 7):
        assert np.array_equal(uniform((6, 3)), whole[4:10])  # two rows for each sample
        with pytest.raises(StateError, match=r"shape \(4, 3\) for 3 of a batch of 7"):
            uniform((4, 3))
