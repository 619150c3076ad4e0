"""The check of every call: it notices whatever the table forbids, and the suite runs under it."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import ops, selection
from fastconv.backends.numpy import NumpyBackend
from fastconv.backends.table import KERNELS
from fastconv.layers import Affine, Convolution, Pooling
from fastconv.ops import conv, dense, pool, updates
from fastconv.optimizer import Adam
from fastconv.testing import call_kernel
from fastconv.testing.cases import cases
from fastconv.testing.contract import (
    MUCH,
    ContractBroken,
    check_call,
    checked,
    output_shapes,
    outputs,
)

FIRST = "channels_first"


def one_call_of_each():
    """Arguments of one call of each kernel, outputs included, in channels-first memory."""
    reference, found = NumpyBackend(), {}
    for kernel, inputs, _ in cases(reference, np.dtype(np.float32)):
        if kernel in found or not all(a.size for a in arrays_of(inputs).values()):
            continue
        made = call_kernel(reference, kernel, **inputs)
        made.pop("loss", None)
        found[kernel] = inputs | {name: np.array(array) for name, array in made.items()}
    return found


def arrays_of(arguments):
    return {name: a for name, a in arguments.items() if isinstance(a, np.ndarray)}


CALLS = one_call_of_each()


def test_every_kernel_has_its_line():
    assert set(CALLS) == set(KERNELS)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_the_contract_allows_passes(kernel):
    check_call(kernel, FIRST, CALLS[kernel])


def longer(array):
    return np.concatenate([array, array[-1:]])


def strided(array):
    wide = np.repeat(array, 2, axis=-1)
    return wide[..., ::2]


def swapped(array):
    return array.astype(array.dtype.newbyteorder())


def other_dtype(array):
    return array.astype(np.float64 if array.dtype == np.float32 else np.int16)


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    copy = memory.view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class Derived(np.ndarray):
    pass


def derived(array):
    return array.view(Derived)


@pytest.mark.parametrize("spoil", [longer, strided, swapped, other_dtype, unaligned, derived, list])
@pytest.mark.parametrize("kernel", KERNELS)
def test_each_array_of_each_call_is_looked_at(kernel, spoil):
    alone = len(arrays_of(CALLS[kernel])) == 1
    for name, array in arrays_of(CALLS[kernel]).items():
        if spoil in (swapped, unaligned) and array.itemsize == 1:
            continue
        if (spoil is strided and array.shape[-1] < 2) or (spoil is other_dtype and alone):
            continue
        if spoil is longer and (kernel, name) == ("batchnorm2d_statistics", "x"):
            continue  # other numbers of images are allowed
        with pytest.raises(ContractBroken, match=f"{kernel}: "):
            check_call(kernel, FIRST, CALLS[kernel] | {name: spoil(array)})


@pytest.mark.parametrize("kernel", KERNELS)
def test_outputs_are_writeable_and_overlap_nothing(kernel):
    arguments = CALLS[kernel]
    for name in set(outputs(kernel)) & set(arrays_of(arguments)):
        locked = arguments[name].copy()
        locked.flags.writeable = False
        with pytest.raises(ContractBroken, match=f"{name} is read-only"):
            check_call(kernel, FIRST, arguments | {name: locked})
        for other, array in arrays_of(arguments).items():
            shared = array[...]
            if other != name and (array.shape, array.dtype) == (locked.shape, locked.dtype):
                with pytest.raises(ContractBroken, match="overlaps"):
                    check_call(kernel, FIRST, arguments | {name: shared})


def test_places_in_memory_are_in_range():
    forward = CALLS["softmax_cross_entropy_forward"]
    for label in (-1, forward["scores"].shape[1]):
        labels = np.full(len(forward["scores"]), label)
        with pytest.raises(ContractBroken, match="labels from"):
            check_call("softmax_cross_entropy_forward", FIRST, forward | {"labels": labels})
    pool = CALLS["maxpool2d_backward"]
    winner = np.full_like(pool["winner"], pool["geometry"].window)
    with pytest.raises(ContractBroken, match="winner"):
        check_call("maxpool2d_backward", FIRST, pool | {"winner": winner})
    average = CALLS["avgpool2d_forward"]
    for row in ((0, average["x"].shape[2] + 1, 1), (-1, 1, 1), (1, 0, 1), (0, 1, 0)):
        rows = average["rows"].copy()
        rows[:] = row
        with pytest.raises(ContractBroken, match="rows"):
            check_call("avgpool2d_forward", FIRST, average | {"rows": rows})


def test_outputs_of_a_kernel_follow_from_its_inputs():
    """The strict caller allocates by these shapes; here they are compared with the operations'."""
    for kernel, arguments in CALLS.items():
        written = arrays_of({name: arguments.get(name) for name in outputs(kernel)})
        if kernel == "adam_update":
            continue
        inputs = {name: value for name, value in arguments.items() if name not in written}
        if kernel == "avgpool2d_backward":
            inputs["dx"] = written["dx"].shape
        shapes = output_shapes(kernel, inputs)
        assert {n: shapes[n] for n in written} == {n: a.shape for n, a in written.items()}


@pytest.mark.parametrize("size", [4, MUCH // 4, MUCH // 4 + 1])
def test_a_kernel_that_writes_into_its_input_is_told(size):
    def bad(x, out, mask):
        np.copyto(out, x)
        mask[...] = 1
        x[0] = 3

    x = np.ones(size, np.float32)
    with pytest.raises(ContractBroken, match="wrote into its input x"):
        checked(bad, "relu_forward", FIRST)(x, np.empty_like(x), np.empty(size, np.uint8))


def test_what_a_kernel_leaves_out_shows():
    def lazy(x, out, mask):
        mask[...] = 1

    out = np.zeros(4, np.float32)
    checked(lazy, "relu_forward", FIRST)(np.ones(4, np.float32), out, np.empty(4, np.uint8))
    assert np.isnan(out).all()


# ---- it bites: front doors that hand over something wrong -------------------------------


def test_the_suite_runs_under_it(table):
    for kernel in KERNELS:
        assert getattr(table, kernel).__closure__ is not None
        assert getattr(table, kernel).__code__ is checked(len, kernel, FIRST).__code__


def test_a_front_door_that_forgets_the_memory_layout(backend, monkeypatch):
    monkeypatch.setattr(dense, "contiguous", lambda array, dtype: array)
    with pytest.raises(ContractBroken, match=r"affine_forward: weight .* has strides"):
        Affine(np.ones((4, 3)).T, np.zeros(4), backend=backend).forward(np.ones((2, 3)))


def test_a_front_door_that_forgets_a_shape(backend, monkeypatch):
    layer = Convolution(np.ones((2, 1, 3, 3)), np.zeros(2), backend=backend)
    layer.forward(np.ones((1, 1, 5, 5)))
    monkeypatch.setattr(conv, "expect_shape", lambda *arguments: None)
    layer.W = np.ones((4, 1, 3, 3))
    with pytest.raises(ContractBroken, match=r"conv2d_backward: .* has shape"):
        layer.backward(np.ones((1, 2, 3, 3)))


def test_a_front_door_that_forgets_a_dtype(backend, monkeypatch):
    layer = Pooling(2, 2, backend=backend)
    empty = ops.empty_images
    monkeypatch.setattr(pool, "empty_images", lambda s, dtype, layout: empty(s, "f4", layout))
    with pytest.raises(ContractBroken, match="maxpool2d_forward: "):
        layer.forward(np.ones((1, 1, 4, 4)))


def test_a_front_door_that_forgets_the_optimizers_state(backend, monkeypatch):
    """Moments with fewer numbers than their parameter once led to writes past an array."""
    unchecked = lambda op, param, grad, **kept: (param, grad, tuple(kept.values()))  # noqa: E731
    monkeypatch.setattr("fastconv.training.optimizer_base.updated_arrays", unchecked)
    monkeypatch.setattr(updates, "updated_arrays", unchecked)
    adam, params = Adam(), {"W": np.ones((3, 3))}
    with selection.use_backend(backend):
        adam.update(params, {"W": np.ones((3, 3))})
        adam.m["W"] = np.zeros(1)
        with pytest.raises(ContractBroken, match="adam_update: "):
            adam.update(params, {"W": np.ones((3, 3))})
