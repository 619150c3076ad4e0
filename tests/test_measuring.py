"""Algorithms that measuring chooses: by a clock of the tests' own, which counts what has run.

What ran is what the kernels themselves tell (`fastconv.testing.ways`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv import config, selection
from fastconv.errors import ArgumentError, DataNotFound, FallbackWarning
from fastconv.layers import Layer, Relu
from fastconv.models.ensemble import Ensemble
from fastconv.network import Network, choices, measuring
from fastconv.testing import ways

from .compare import assert_close
from .conftest import ROOT
from .layer_rows import SHAPE, Draw

WINNERS = [
    ("default", "direct"),
    ("default", "winograd2"),
    ("default", "winograd2x4"),
    ("fast", "winograd4"),
]
COSTS = {"direct": 5.0, "winograd2": 4.0, "winograd2x4": 3.0, "winograd4": 2.0}


@pytest.fixture(params=["cython", "numba"])
def fast(request):
    """A backend that has the choice."""
    if not (status := selection.registry().status(request.param)):
        pytest.skip(status.reason)
    return request.param


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where choices are kept; nothing is known yet."""
    place = tmp_path / "cache" / "algorithms"
    monkeypatch.setattr(choices, "_folder", lambda: place)
    monkeypatch.setattr(choices, "_all", {})
    fastconv.set_num_threads(1)
    config.set_programs("on")
    return place


def forget(monkeypatch):
    """As a new process, which knows what is on disk."""
    monkeypatch.setattr(choices, "_all", {})


@pytest.fixture
def clock(monkeypatch):
    """Sets what one convolution takes by each algorithm."""

    def set_costs(costs):
        def seconds():
            taken = [
                selection.registry().load(name).ways_taken()
                for name in ("cython", "numba")
                if selection.registry().status(name)
            ]
            return sum(
                costs[way.how] * count
                for each in taken
                for way, count in each.items()
                if way.part == "forward"
            )

        monkeypatch.setattr(measuring, "perf_counter", seconds)

    set_costs(COSTS)
    return set_costs


@pytest.fixture
def contests(monkeypatch):
    """How many convolutions were measured, each time that any were."""
    held = []
    hold = measuring._hold

    def counted(at, *arguments):
        held.append(len({id(contest) for contest in at.values()}))
        hold(at, *arguments)

    monkeypatch.setattr(measuring, "_hold", counted)
    return held


def small(backend, dtype="float32"):
    """Convolutions that all algorithms compute, twice the same, and one of 5 x 5."""
    draw = Draw(dtype)
    layers = {"conv": draw.conv(6, 3), "relu": Relu(), "same1": draw.conv(6, 6)}
    layers |= {"same2": draw.conv(6, 6), "five": draw.conv(4, 6, 5, 1, 2)}
    return Network(layers, dtype, backend)


def winners(prepared):
    return [(s.name, s.algorithm, s.measured) for s in prepared.description.steps if s.algorithm]


def everywhere(algorithm, measured=True):
    three = [(name, algorithm, measured) for name in ("conv", "same1", "same2")]
    return [*three, ("five", "direct", False)]


def only(algorithm):
    """Costs by which this one is fastest."""
    return {name: 1.0 if name == algorithm else 3.0 for name in COSTS}


@pytest.mark.parametrize(("mode", "algorithm"), WINNERS)
@pytest.mark.parametrize("programs", ["on", "off"])
def test_the_fastest_is_chosen_said_and_runs(fast, clock, rng, mode, algorithm, programs):
    fastconv.set_math_mode(mode)
    config.set_programs(programs)
    clock(only(algorithm))
    network, x = small(fast), np.maximum(rng.standard_normal(SHAPE), 0).astype("float32")
    prepared = network.prepare(SHAPE, algorithms="measured")
    assert prepared.algorithms == "measured"
    assert winners(prepared) == everywhere(algorithm)
    with ways(selection.active(fast)) as taken:
        found = prepared.predict(x)
    ran = sorted(way.how for way in taken.elements() if way.part == "forward")
    assert ran == sorted([algorithm] * 3 + ["direct"])
    assert ("direct, measured" if algorithm == "direct" else f"{algorithm}, measured") in str(
        prepared.description
    )
    reference = small("numpy").predict(x)
    assert_close(found, reference, tolerance=1e-5 if mode == "fast" else 2e-6)
    config.set_conv_algorithm(algorithm)
    np.testing.assert_array_equal(found, network.predict(x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_was_measured_is_kept(fast, clock, folder, contests, monkeypatch, dtype):
    small(fast, dtype).prepare(SHAPE, algorithms="measured")
    assert contests == [2]  # of four convolutions two are the same, and one has no choice
    (file,) = folder.glob("*.json")
    said = json.loads(file.read_text())
    assert said["backend"] == fast
    assert said["instruction_set"] == selection.instruction_set(fast)
    images = "x".join(map(str, SHAPE))
    inside = f"{SHAPE[0]}x6x{SHAPE[2]}x{SHAPE[3]}"
    how = f"{dtype}, default math, 1 threads"
    assert said["algorithms"] == {
        f"{images} to 6, 3x3/1 pad 1 +relu {how}": "winograd2x4",
        f"{inside} to 6, 3x3/1 pad 1 {how}": "winograd2x4",
    }
    clock(only("direct"))  # what would be found now
    for _ in range(2):
        prepared = small(fast, dtype).prepare(SHAPE, algorithms="measured")
        assert winners(prepared) == everywhere("winograd2x4")
        forget(monkeypatch)
    assert contests == [2]
    file.unlink()
    assert winners(small(fast, dtype).prepare(SHAPE, algorithms="measured")) == everywhere("direct")
    assert contests == [2, 2]


@pytest.mark.parametrize(("cost", "algorithm"), [(0.96, "direct"), (0.94, "winograd2")])
def test_the_rule_s_choice_stays_unless_another_is_clearly_faster(fast, clock, cost, algorithm):
    clock(only("direct") | {"direct": 1.0, "winograd2": cost})
    assert winners(small(fast).prepare(SHAPE, algorithms="measured")) == everywhere(algorithm)


def test_the_rule_stays_where_the_whole_network_is_not_faster(fast, clock, monkeypatch, folder):
    monkeypatch.setattr(measuring, "_is_faster", lambda *arguments: False)
    prepared = small(fast).prepare(SHAPE, algorithms="measured")
    assert winners(prepared) == everywhere("direct")
    assert "winograd" not in next(folder.glob("*.json")).read_text()


def test_the_whole_network_is_timed_by_the_rule_and_by_what_was_found(fast, clock, monkeypatch):
    """By the rule all four convolutions are direct; by what was found, three are not."""
    found = []
    is_faster = measuring._is_faster
    monkeypatch.setattr(
        measuring, "_is_faster", lambda *arguments: found.append(is_faster(*arguments)) or True
    )
    small(fast).prepare(SHAPE, algorithms="measured")
    hold = measuring._hold

    def turned_round(*arguments):
        hold(*arguments)
        clock(only("direct"))

    monkeypatch.setattr(measuring, "_hold", turned_round)
    clock(COSTS)
    small(fast, "float64").prepare(SHAPE, algorithms="measured")
    assert found == [True, False]


def test_math_mode_is_respected(fast, clock, folder, monkeypatch, contests):
    """F(4x4) costs least, and runs in the math mode fast only, whatever a file says."""
    network = small(fast)
    prepared = network.prepare(SHAPE, algorithms="measured")
    assert winners(prepared) == everywhere("winograd2x4")
    fastconv.set_math_mode("fast")
    assert winners(prepared) == everywhere("winograd4")
    fastconv.set_math_mode("default")
    assert winners(prepared) == everywhere("winograd2x4")
    assert contests == [2, 2]
    (file,) = folder.glob("*.json")
    file.write_text(file.read_text().replace('"winograd2x4"', '"winograd4"'))
    forget(monkeypatch)
    with pytest.warns(FallbackWarning, match="winograd4 for .* default math.* is one of direct"):
        prepared = network.prepare(SHAPE, algorithms="measured")
    assert winners(prepared) == everywhere("winograd2x4")
    assert json.loads(file.read_text())["algorithms"].popitem()[1] == "winograd4"  # of fast
    assert '"winograd2x4"' in file.read_text()
    forget(monkeypatch)
    network.prepare(SHAPE, algorithms="measured")
    assert contests == [2, 2, 2]


def test_what_is_forced_goes_before_what_was_measured(fast, clock, folder, contests, rng):
    network, x = small(fast), rng.random(SHAPE).astype("float32")
    prepared = network.prepare(SHAPE, algorithms="measured")
    config.set_conv_algorithm("winograd2")
    assert winners(prepared) == everywhere("winograd2", measured=False)
    np.testing.assert_array_equal(prepared.predict(x), network.predict(x))
    with ways(selection.active(fast)) as taken:
        prepared.predict(x)
    assert {way.how for way in taken if way.part == "forward"} == {"winograd2", "direct"}
    assert contests == [2]
    config.set_conv_algorithm(None)
    assert winners(prepared) == everywhere("winograd2x4")


def test_only_who_asked_for_it_is_affected(fast, clock, rng):
    """The rule computes such small convolutions directly."""
    network, x = small(fast), rng.random(SHAPE).astype("float32")
    asked = network.prepare(SHAPE, algorithms="measured")
    other = network.prepare(SHAPE)
    assert winners(other) == everywhere("direct", measured=False)
    table = selection.active(fast)
    training = partial(network.predict, train_flg=True)
    for predict in (other.predict, network.predict, training):
        with ways(table) as taken:
            predict(x)
        assert {way.how for way in taken if way.part == "forward"} == {"direct"}
    with ways(table) as taken:
        asked.predict(x)
    assert "winograd2x4" in {way.how for way in taken}


def test_batch_sizes_threads_and_calls_one_by_one_are_measured_apart(fast, clock, contests, folder):
    prepared = small(fast).prepare(SHAPE, algorithms="measured")
    prepared.predict(np.zeros((1, *SHAPE[1:])))
    fastconv.set_num_threads(2)
    prepared.predict(np.zeros(SHAPE))
    config.set_programs("off")
    prepared.predict(np.zeros(SHAPE))
    assert contests == [2, 2, 2, 2]
    (file,) = folder.glob("*.json")
    assert len(json.loads(file.read_text())["algorithms"]) == 8


def test_other_kernels_and_other_processors_have_files_of_their_own(
    fast, clock, folder, contests, monkeypatch
):
    small(fast).prepare(SHAPE, algorithms="measured")
    forget(monkeypatch)
    with monkeypatch.context() as later:
        backend = selection.registry().load(fast)
        later.setattr(type(backend), "kernel_version", lambda self: "another")
        small(fast).prepare(SHAPE, algorithms="measured")
    forget(monkeypatch)
    monkeypatch.setattr(choices, "_cpu", lambda: "another")
    small(fast).prepare(SHAPE, algorithms="measured")
    assert contests == [2, 2, 2]
    assert len(list(folder.glob("*.json"))) == 3


def test_backends_without_the_choice_measure_nothing(clock, folder, contests, rng):
    network, x = small("numpy"), rng.random(SHAPE).astype("float32")
    prepared = network.prepare(SHAPE, algorithms="measured")
    np.testing.assert_array_equal(prepared.predict(x), network.predict(x))
    assert not contests and not folder.exists()


def test_backends_that_do_not_say_what_their_kernels_are_go_by_the_rule(
    fast, clock, folder, contests, monkeypatch
):
    monkeypatch.delattr(type(selection.registry().load(fast)), "kernel_version")
    prepared = small(fast).prepare(SHAPE, algorithms="measured")
    assert winners(prepared) == everywhere("direct", measured=False)
    assert not contests and not folder.exists()


class Counting(Layer):
    """A layer of the user's own."""

    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return 2 * x


def test_a_layer_of_the_user_s_own_is_asked_once_more(fast, clock, rng, monkeypatch):
    """When all is recorded, and once while convolutions are timed."""
    monkeypatch.setattr(Counting, "calls", 0)
    draw = Draw("float32")
    network = Network([draw.conv(6, 3), Counting(), draw.conv(6, 6)], "float32", fast)
    prepared = network.prepare(SHAPE, algorithms="measured")
    assert Counting.calls == 2
    x = rng.random(SHAPE).astype("float32")
    found = prepared.predict(x)
    config.set_conv_algorithm("winograd2x4")
    np.testing.assert_array_equal(found, network.predict(x))


def test_one_thread_at_a_time_measures(fast, clock, contests):
    network, found = small(fast), []

    def prepare():
        found.append(winners(network.prepare(SHAPE, algorithms="measured")))

    workers = [threading.Thread(target=prepare) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert contests == [2]
    assert len(found) == 4 and all(each == found[0] for each in found)


def test_a_bar_shows_what_is_done(fast, clock, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, total, done, *, show, unit, delay):
            self.total, self.ticks, self.show = total, 0, show
            bars.append(self)

        def tick(self):
            self.ticks += 1

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

    monkeypatch.setattr(measuring, "ProgressBar", Bar)
    monkeypatch.setattr(measuring, "shows_progress", lambda: True)
    small(fast).prepare(SHAPE, algorithms="measured")
    assert [(bar.total, bar.ticks, bar.show) for bar in bars] == [
        (3 * measuring.LEAST_ROUNDS,) * 2 + (True,),
        (2 * measuring.LEAST_ROUNDS,) * 2 + (True,),
    ]


def test_another_word_is_refused(fast):
    with pytest.raises(ArgumentError, match="algorithms must be one of rule, measured, got 'best'"):
        small(fast).prepare(SHAPE, algorithms="best")


def test_ensembles_and_files_of_weights(fast, clock, tmp_path):
    network = fastconv.DeepConvNet(seed=0, backend=fast)
    network.save_params(tmp_path / "weights.npz")
    loaded = fastconv.load_prepared(
        tmp_path / "weights.npz", model="deepconvnet", backend=fast, algorithms="measured"
    )
    (member,) = Ensemble([network]).prepare((1, 1, 28, 28), algorithms="measured").members
    for prepared in (loaded, member):
        assert {each[1:] for each in winners(prepared)} == {("winograd2x4", True)}


# ---- the file ---------------------------------------------------------------------------


WHERE = choices.Where("a processor", "cython", "avx2", "1")
ALL = ("direct", "winograd2", "winograd2x4")


def test_what_another_process_wrote_stays(folder):
    """Of two that measure the same at once, both keep to what was written first."""
    one, other = choices.Choices(WHERE), choices.Choices(WHERE)
    one.keep({"a": "direct", "b": "winograd2"})
    other.keep({"b": "direct", "c": "winograd2x4"})
    wanted = dict.fromkeys("abc", ALL)
    expected = {"a": "direct", "b": "winograd2", "c": "winograd2x4"}
    assert other.find(wanted) == one.find(wanted) == choices.Choices(WHERE).find(wanted) == expected
    assert [path.suffix for path in folder.iterdir()] == [".json"]


def test_a_process_keeps_to_what_it_knows(folder):
    known = choices.Choices(WHERE)
    known.keep({"a": "direct"})
    (file,) = folder.iterdir()
    file.write_text(file.read_text().replace("direct", "winograd2"))
    assert known.find({"a": ALL, "b": ALL}) == {"a": "direct"}


GOOD = {"cpu": "a processor", "backend": "cython", "instruction_set": "avx2", "kernels": "1"}
DAMAGED = {
    "empty": "",
    "half of one": '{"cpu": "a proc',
    "no record": "[1, 2]",
    "no algorithms": json.dumps(GOOD),
    "unknown algorithm": json.dumps(GOOD | {"algorithms": {"a": "fft"}}),
    "one of gradients": json.dumps(GOOD | {"algorithms": {"a": "sparse"}}),
    "no algorithm": json.dumps(GOOD | {"algorithms": {"a": "auto"}}),
    "a number": json.dumps(GOOD | {"algorithms": {"a": 2}}),
    "a long name": json.dumps(GOOD | {"algorithms": {"a": "direct", "b" * 201: "direct"}}),
    "too many": json.dumps(GOOD | {"algorithms": {str(i): "direct" for i in range(5000)}}),
    "too much": json.dumps(GOOD | {"algorithms": {"a": "direct"}, "more": "m" * 2**20}),
    "nested": "[" * 10**5,
    "of another processor": json.dumps(GOOD | {"cpu": "b", "algorithms": {"a": "direct"}}),
    "of other kernels": json.dumps(GOOD | {"kernels": "2", "algorithms": {"a": "direct"}}),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_what_is_damaged_is_said_once_and_replaced(folder, content):
    folder.mkdir(parents=True)
    known = choices.Choices(WHERE)
    known.path.write_text(content)
    with pytest.warns(FallbackWarning, match="measured anew") as said:
        assert known.find({"a": ALL}) == {}
        assert known.find({"a": ALL, "b": ALL}) == {}
    assert len(said) == 1 and str(known.path) in str(said[0].message)
    known.keep({"a": "winograd2"})
    assert json.loads(known.path.read_text()) == GOOD | {"algorithms": {"a": "winograd2"}}


def test_a_file_is_read_up_to_its_largest_size_only(folder):
    folder.mkdir(parents=True)
    known = choices.Choices(WHERE)
    known.path.write_text(json.dumps(GOOD | {"algorithms": {"a": "direct"}}) + " " * 2**20)
    with pytest.warns(FallbackWarning, match="more than 1048576 bytes; measured anew"):
        assert known.find({"a": ALL}) == {}


def test_bytes_that_are_no_text(folder):
    folder.mkdir(parents=True)
    known = choices.Choices(WHERE)
    known.path.write_bytes(b"\xff\xfe{\x00")
    with pytest.warns(FallbackWarning, match="not JSON"):
        assert known.find({"a": ALL}) == {}


def test_something_that_is_no_file(folder):
    known = choices.Choices(WHERE)
    known.path.mkdir(parents=True)
    with pytest.warns(FallbackWarning, match="expected a file"):
        assert known.find({"a": ALL}) == {}
    with pytest.warns(FallbackWarning, match="cannot be kept .*FASTCONV_CACHE_DIR"):
        known.keep({"a": "direct"})
    known.keep({"b": "direct"})  # said once
    assert known.find({"a": ALL, "b": ALL}) == {"a": "direct", "b": "direct"}


def test_where_nothing_can_be_written_it_goes_on(fast, clock, folder, contests):
    folder.parent.write_text("a file where the cache folder would be")
    with pytest.warns(FallbackWarning, match="cannot be kept .*FASTCONV_CACHE_DIR") as said:
        for _ in range(2):
            prepared = small(fast).prepare(SHAPE, algorithms="measured")
            assert winners(prepared) == everywhere("winograd2x4")
        prepared.predict(np.zeros((1, *SHAPE[1:])))
    assert len(said) == 1
    assert contests == [2, 2]


def test_a_folder_that_cannot_be_written(folder):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    folder.mkdir(parents=True, mode=0o555)
    known = choices.Choices(WHERE)
    with pytest.warns(FallbackWarning, match="cannot be kept"):
        known.keep({"a": "direct"})
    assert known.find({"a": ALL}) == {"a": "direct"}


def test_no_cache_folder_at_all(monkeypatch):
    def none():
        raise DataNotFound("no cache folder: no home folder")

    monkeypatch.setattr(choices, "_folder", none)
    known = choices.Choices(WHERE)
    with pytest.warns(FallbackWarning, match="no home folder") as said:
        assert known.find({"a": ALL}) == {}
        known.keep({"a": "direct"})
    assert len(said) == 1
    assert known.find({"a": ALL}) == {"a": "direct"}


@pytest.mark.parametrize("kind", ["for all", "link"])
def test_a_folder_that_others_may_have_filled_is_not_used(folder, tmp_path, kind):
    choices.Choices(WHERE).keep({"a": "winograd2"})
    if kind == "for all":
        folder.chmod(0o777)
    else:
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    known = choices.Choices(WHERE)
    assert known.find({"a": ALL}) == {}
    with pytest.warns(FallbackWarning, match="anyone can write|it is no folder"):
        known.keep({"a": "direct"})
    assert known.find({"a": ALL}) == {"a": "direct"}
    assert "winograd2" in known.path.read_text()


def test_a_file_is_waited_for_while_another_process_writes_it(folder, monkeypatch):
    first = choices.Choices(WHERE)
    first.keep({"a": "direct"})
    pauses = []
    lock = choices._alone(first.path)
    lock.__enter__()

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            lock.__exit__(None, None, None)

    monkeypatch.setattr(choices.time, "sleep", pause)
    choices.Choices(WHERE).keep({"b": "direct"})
    assert len(pauses) == 3
    assert choices.Choices(WHERE).find({"b": ALL}) == {"b": "direct"}
    with choices._alone(first.path), pytest.warns(FallbackWarning, match="writes measured"):
        choices.Choices(WHERE).keep({"c": "direct"})


def test_files_and_what_they_hold_are_bounded(folder, monkeypatch):
    monkeypatch.setattr(choices, "MOST_CHOICES", 3)
    monkeypatch.setattr(choices, "MOST_FILES", 2)
    for number in range(4):
        known = choices.Choices(replace(WHERE, kernels=str(number)))
        known.keep(dict.fromkeys("abcd", "direct"))
        os.utime(known.path, (number, number))
    for name in "ef":
        known.keep({name: "direct"})
    assert list(json.loads(known.path.read_text())["algorithms"]) == ["d", "e", "f"]
    assert len(list(folder.glob("*.json"))) == 2


def test_processors_are_told_apart(tmp_path):
    texts = {
        "x86": "processor\t: 0\nvendor_id\t: A\nmodel\t\t: 1\nflags\t\t: f\n\nvendor_id\t: B\n",
        "other": "processor\t: 0\nvendor_id\t: A\nmodel\t\t: 2\nflags\t\t: f\n",
        "arm": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n",
    }
    names = []
    for place, text in texts.items():
        (tmp_path / place / "proc").mkdir(parents=True)
        (tmp_path / place / "proc/cpuinfo").write_text(text)
        names.append(choices._cpu(tmp_path / place))
    assert [name.split(" ", 1)[1] for name in names] == ["A 1", "A 2", "0x41 0xd0c"]
    assert choices._cpu(tmp_path)  # a system that does not say


IN_A_PROCESS = """
import sys
import fastconv
from fastconv import config, selection
from fastconv.network import measuring
hold = measuring._hold
def said(*arguments):
    print("measured")
    hold(*arguments)
measuring._hold = said
measuring.ENOUGH = 0
fastconv.set_num_threads(1)
network = fastconv.DeepConvNet(seed=0, backend="cython")
prepared = network.prepare((int(sys.argv[1]), 1, 28, 28), algorithms="measured")
print([step.algorithm for step in prepared.description.steps])
"""


def test_a_second_process_measures_nothing(tmp_path):
    """And several at once lose nothing that any of them found."""
    if not (status := selection.registry().status("cython")):
        pytest.skip(status.reason)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FASTCONV_CACHE_DIR": str(tmp_path)}

    def start(batch):
        command = [sys.executable, "-P", "-W", "error", "-c", IN_A_PROCESS, str(batch)]
        return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE)

    first = [process.communicate(timeout=120)[0] for process in [start(n) for n in (1, 2, 3)]]
    (user,) = tmp_path.glob("algorithms*")
    (file,) = user.iterdir()
    assert len(json.loads(file.read_text())["algorithms"]) == 3 * 6
    again = [start(n).communicate(timeout=120)[0] for n in (1, 2, 3)]
    assert first == [f"measured\n{text}" for text in again]
    assert Path(file).stat().st_size < choices.MOST_BYTES
