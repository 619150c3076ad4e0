"""The check of programs: it passes what is right, and finds each kind of wrong."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fastconv import testing
from fastconv.backends.calls import MOVE, WRITES, Call, call_each
from fastconv.backends.numpy import NumpyBackend
from fastconv.ops.recording import root
from fastconv.testing import check_backend
from fastconv.testing.cases import cases
from fastconv.testing.programs import check_programs
from fastconv.testing.strict import GUARD

from .stand_ins import StandIn, fresh_registry

SOME = ("conv2d_grouped_forward", "batchnorm2d_apply", "affine_forward", "activation_forward")
"""Kernels whose cases are few, and cheap."""


class Recording(StandIn):
    """A stand-in whose programs are made by a function of the calls."""

    def __init__(self, make, layout="channels_first", name="mine"):
        super().__init__(name, layout)
        self.make = make

    def program(self, calls):
        return self.make(list(calls))


class RecordingSteps(Recording):
    """The same of training steps; programs of predictions are right."""

    def program(self, calls):
        return call_each(calls)

    def step_program(self, calls):
        return self.make(list(calls))


class Doing:
    """A run that calls a function."""

    def __init__(self, function):
        self.run = function


def check(make, dtype="float32", layout="channels_first", kind=Recording):
    some = [case[:2] for case in cases(NumpyBackend(), np.dtype(dtype)) if case[0] in SOME]
    return check_programs(kind(make, layout), some, np.dtype(dtype), "1 threads")


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_calls_one_by_one_pass(dtype, layout):
    made = []

    def make(calls):
        made.append(calls)
        return call_each(calls)

    assert check(make, dtype, layout) > 100
    whole, small = made
    assert {call.kernel for call in whole} >= {*SOME, MOVE, "conv2d_block_forward"}
    assert len(small) < len(whole)
    assert {a.dtype.name for c in whole if c.kernel == MOVE for a in (c.arguments["out"],)} == {
        *("float32", "float64")
    }


def test_a_backend_without_programs_is_not_asked():
    assert check_programs(StandIn("mine"), [], np.dtype("float32"), "") == 0


INTO = ("conv2d_forward", "conv2d_block_forward", "maxpool2d_forward")


def is_among(images):
    """Whether others' channels lie between the pixels of images."""
    return not images.transpose(0, 2, 3, 1).flags.c_contiguous


def check_into_channels(careless):
    """Check a backend whose kernels write between others' channels; which of them were asked to."""
    asked = []

    def make(calls):
        among = [call for call in calls if call.kernel in INTO and is_among(call.arguments["out"])]
        asked.append([call.kernel for call in among])

        def run():
            call_each(calls).run()
            if careless:
                root(among[-1].arguments["out"])[GUARD] = 0

        return Doing(run)

    backend = Recording(make, "channels_last")
    backend.into_channels, backend.winner_is_optional = INTO, True
    check_programs(backend, [], np.dtype("float32"), "1 threads")
    return asked[0]


def test_kernels_write_between_channels():
    assert check_into_channels(careless=False) == [*INTO]
    with pytest.raises(AssertionError, match="out is not what the call by itself gives"):
        check_into_channels(careless=True)


# ---- what it must find ---------------------------------------------------------------------

MISTAKES = {}


def mistake(message):
    """Decorates a wrong way to make a run."""

    def decorate(make):
        MISTAKES[make.__name__] = make, message
        return make

    return decorate


def outs(call):
    return [call.arguments[name] for name in WRITES[call.kernel] if name in call.arguments]


@mistake("on other inputs: .* is not what the call by itself gives")
def keeps_what_came_out(calls):
    call_each(calls).run()
    kept = [(out, out.copy()) for call in calls for out in outs(call) if out is not None]

    def again():
        for out, numbers in kept:
            out[...] = numbers

    return Doing(again)


@mistake("on other inputs: .* is not what the call by itself gives")
def keeps_the_images(calls):
    kept, written = [], {id(out.base) for call in calls for out in outs(call) if out is not None}
    for call in calls:
        x = call.arguments.get("x")
        images = {} if x is None or id(x.base) in written else {"x": x.copy(order="K")}
        kept.append(Call(call.backend, call.kernel, call.arguments | images))
    return call_each(kept)


@mistake("relu_forward: .* is not what the call by itself gives")
def leaves_out_the_last(calls):
    return call_each(calls[:-1])


@mistake("is not what the call by itself gives")
def goes_backwards(calls):
    return call_each(calls[::-1])


@mistake("move: .* is not what the call by itself gives")
def scales_nothing(calls):
    one = {"factor": 1}
    return call_each(
        [Call(c.backend, c.kernel, c.arguments | (one if c.kernel == MOVE else {})) for c in calls]
    )


@mistake("affine_forward: .* out is not what the call by itself gives: [0-9]+ of [0-9]+ differ")
def rounds_otherwise(calls):
    def rounded():
        call_each(calls).run()
        for call in calls:
            if call.kernel == "affine_forward":
                out = call.arguments["out"]
                out[...] = np.nextafter(out, out.dtype.type(np.inf))

    return Doing(rounded)


@mistake("on zeros: .* is not what the call by itself gives")
def leaves_what_it_has_nothing_for(calls):
    steps = [call_each([call]) for call in calls]

    def some():
        for call, step in zip(calls, steps, strict=True):
            x = call.arguments.get("x", np.ones(1))
            if x.size == 1 or np.any(x):  # one number drawn at random may be 0
                step.run()

    return Doing(some)


@mistake("batchnorm2d_apply: .* is not what the call by itself gives")
def takes_numbers_for_finite(calls):
    def finite():
        call_each(calls).run()
        for call in calls:
            for out in outs(call):
                if out is not None and out.dtype.kind == "f":
                    out[np.isnan(out)] = 0

    return Doing(finite)


@mistake("x is an input, and written")
def writes_into_an_input(calls):
    def writes():
        call_each(calls).run()
        x = calls[0].arguments["x"]
        x.flags.writeable = True
        x[...] = 0
        x.flags.writeable = False

    return Doing(writes)


@mistake("when it was made: .* x is an input, and written")
def writes_into_an_input_when_made(calls):
    x = calls[0].arguments["x"]
    x.flags.writeable = True
    x[...] = 0
    return call_each(calls)


@mistake("written outside of out")
def writes_beside_an_output(calls):
    def beside():
        call_each(calls).run()
        out = calls[0].arguments["out"]
        memory = out
        while memory.base is not None:
            memory = memory.base
        memory[-1] = 0

    return Doing(beside)


@mistake("on the inputs that it was made on: .* is not what the call by itself gives")
def shares_its_arrays_with_the_next_one(calls):
    """The program that is made last is the one that runs."""
    LAST[:] = [call_each(calls)]
    return Doing(lambda: LAST[0].run())


LAST: list = []


@mistake("cannot be made: ValueError: no moves")
def knows_no_moves(calls):
    if any(call.kernel == MOVE for call in calls):
        raise ValueError("no moves")
    return call_each(calls)


@mistake("a list, which has no method run")
def is_no_run(calls):
    return calls


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_program_is_found_and_named(name):
    make, message = MISTAKES[name]
    with pytest.raises(AssertionError, match=rf"^mine, program of \d+ calls, 1 threads.*{message}"):
        check(make)


def keeps_the_weights(calls):
    kept = []
    for call in calls:
        weights = {n: call.arguments[n].copy() for n in ("weight",) if n in call.arguments}
        kept.append(Call(call.backend, call.kernel, call.arguments | weights))
    return call_each(kept)


def test_weights_stay_in_programs_of_predictions_alone():
    assert check(keeps_the_weights) > 100
    assert check(call_each, kind=RecordingSteps) == 2 * check(call_each)
    message = (
        r"^mine, step_program of \d+ calls, 1 threads, on other inputs: conv2d_grouped_forward"
    )
    with pytest.raises(AssertionError, match=message):
        check(keeps_the_weights, kind=RecordingSteps)


def test_predictions_call_no_kernels_of_training(monkeypatch):
    monkeypatch.setitem(WRITES, "affine_backward", ("dx", "dweight", "dbias"))
    monkeypatch.setattr("tests.test_check_programs.SOME", ("affine_backward",))

    def make(calls):
        assert not any(call.kernel == "affine_backward" for call in calls)
        return call_each(calls)

    assert check(make) > 0
    with pytest.raises(AssertionError, match=r"step_program of .* cannot be made: AssertionError"):
        check(make, kind=RecordingSteps)
    assert check(call_each, kind=RecordingSteps) > 2 * check(make)


def test_scratch_that_two_programs_share_is_found():
    """Each computes in the same memory, which is right as long as one waits for the other."""
    scratch, both = {}, threading.Barrier(2, timeout=0.05)

    def make(calls):
        def run():
            try:
                scratch["calls"] = calls
                both.wait()  # only where two run at once
            except threading.BrokenBarrierError:
                both.reset()
                scratch["calls"] = calls
            call_each(scratch["calls"]).run()

        return Doing(run)

    with pytest.raises(AssertionError, match="beside another"):
        check(make)


def test_the_whole_suite_has_it(monkeypatch):
    registry, every = fresh_registry(monkeypatch), testing.cases
    monkeypatch.setattr(
        testing, "cases", lambda *a: (case for case in every(*a) if case[0] in SOME[1:3])
    )
    registry.register("right", lambda: Recording(call_each, name="right"))
    assert check_backend("right").in_programs > 100
    registry.register("wrong", lambda: Recording(keeps_what_came_out, name="wrong"))
    with pytest.raises(AssertionError, match=r"wrong, program of \d+ calls, . threads, on other"):
        check_backend("wrong")
    registry.register("none", lambda: StandIn("none"))
    assert check_backend("none").in_programs == 0
