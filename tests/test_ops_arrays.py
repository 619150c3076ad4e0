"""How every operation checks and prepares its arrays: numbers, dtypes, memory, messages."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from fastconv.errors import ArgumentError, DTypeError, ShapeError
from fastconv.ops import arrays
from fastconv.ops.arrays import (
    Context,
    as_array,
    bias_vector,
    common_dtype,
    compute_in,
    contiguous,
    empty_images,
    expect_shape,
    in_layout,
    inverse,
    is_real,
    kept_images,
    memory_order,
    network_dtype,
    overlap,
    updated_arrays,
)

F4, F8 = np.dtype("f4"), np.dtype("f8")


# ---- numbers and dtypes -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ("f4", F4),
        ("f8", F8),
        ("f2", F4),
        ("f2 f2", F4),
        ("f2 f8", F8),
        ("f4 f8", F8),
        ("i1", F8),
        ("b1", F8),
        ("u8", F8),
        ("i1 f2", F4),  # as NumPy: float16 holds any int8
        ("i2 f4", F4),
        ("i4 f4", F8),
        (">f4", F4),
        (">f8 f4", F8),
    ],
)
def test_the_dtype_to_compute_in(dtypes, expected):
    got = common_dtype("op", *(np.zeros(1, dtype) for dtype in dtypes.split()))
    assert got == expected and got.isnative


@pytest.mark.parametrize("dtype", ["c8", "c16", "O", "U1", "S1", "M8[s]", "m8[s]", "g", "V4"])
def test_what_cannot_be_computed_with(dtype):
    array = np.zeros((2, 3), dtype)
    assert not is_real(array)
    with pytest.raises(DTypeError) as caught:
        common_dtype("mine", np.zeros(3), array)
    message = str(caught.value)
    assert message.startswith("mine: expected real numbers")
    assert f"dtype {array.dtype} and shape (2, 3)" in message


@pytest.mark.parametrize("dtype", ["b1", "i1", "u8", "f2", "f4", "f8", ">f8"])
def test_real_numbers(dtype):
    assert is_real(np.zeros(1, dtype))


def test_a_dtype_that_was_asked_for():
    """Only an optimizer's step computes in its parameters' dtype."""
    try:
        for asked in (F4, F8):
            compute_in(asked.name)
            for given in (F4, F8, np.dtype("f2"), np.dtype("i4")):
                assert common_dtype("conv2d", np.zeros(1, given)) == asked
            assert common_dtype("adam", np.zeros(1, F4)) == F4
            assert common_dtype("adam", np.zeros(1, F8)) == F8
            with pytest.raises(DTypeError):
                common_dtype("conv2d", np.zeros(1, complex))
    finally:
        compute_in(None)
    assert arrays.computing.dtype is None
    assert common_dtype("conv2d", np.zeros(1, F4)) == F4


@pytest.mark.parametrize("dtype", ["float32", np.float64, F4, float, "<f8", "d"])
def test_dtypes_of_networks(dtype):
    assert network_dtype(dtype) == np.dtype(dtype)


@pytest.mark.parametrize("dtype", ["float16", int, "float23", object, np.complex64, "g", 3])
def test_other_dtypes_of_networks(dtype):
    with pytest.raises(ArgumentError) as caught:
        network_dtype(dtype)
    assert str(caught.value) == f"dtype must be float32 or float64, got {dtype!r}"


# ---- arrays of others -------------------------------------------------------------------


def test_a_plain_array_is_itself():
    array = np.ones(3)
    assert as_array(array) is array
    assert as_array([1, 2]).tolist() == [1, 2]
    derived = array.view(type("Units", (np.ndarray,), {}))
    assert type(as_array(derived)) is np.ndarray and np.shares_memory(as_array(derived), array)


def test_a_tensor_that_records_gradients():
    """Like PyTorch's, it gives its values only after `detach`."""

    class Recording:
        requires_grad = True

        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("Can't call numpy() on Tensor that requires grad")

        def detach(self):
            return array

    array = np.ones(3)
    assert as_array(Recording()) is array


def test_masked_arrays():
    """A mask that hides nothing is accepted."""
    masked = np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], [[0, 1], [1, 0]])
    with pytest.raises(ArgumentError, match=r"masked array of shape \(2, 2\) with 2 values masked"):
        as_array(masked)
    for free in (np.ma.masked_array([1.0, 2.0]), np.ma.masked_array([1.0, 2.0], [0, 0])):
        assert type(as_array(free)) is np.ndarray and as_array(free).tolist() == [1, 2]


# ---- memory -----------------------------------------------------------------------------


def unaligned(dtype):
    return np.frombuffer(b"\0" + np.arange(6, dtype=dtype).tobytes(), "u1")[1:].view(dtype)


def test_what_is_laid_out_already_is_not_copied():
    array = np.arange(6.0)
    assert contiguous(array, F8) is array
    for other, dtype in (
        (array, F4),
        (array[::-1], F8),
        (array.astype(">f8"), F8),
        (unaligned("f8"), F8),
        (np.arange(6), F8),
    ):
        got = contiguous(other, dtype)
        assert got.dtype == dtype and got.flags.c_contiguous and got.flags.aligned
        assert not np.shares_memory(got, other)
        assert got.tolist() == other.tolist()


def test_images_in_either_layout():
    first = np.arange(120.0).reshape(2, 3, 4, 5)
    last = np.ascontiguousarray(first.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert in_layout(first, F8, "channels_first") is first
    assert np.shares_memory(in_layout(last, F8, "channels_last"), last)
    for images in (first, last):
        for layout, order in (("channels_first", (0, 1, 2, 3)), ("channels_last", (0, 2, 3, 1))):
            for dtype in (F4, F8):
                laid = in_layout(images, dtype, layout)
                assert laid.dtype == dtype
                assert laid.transpose(order).flags.c_contiguous
                np.testing.assert_array_equal(laid, first)
            empty = empty_images((2, 3, 4, 5), F4, layout)
            assert empty.shape == (2, 3, 4, 5) and empty.dtype == F4
            assert empty.transpose(order).flags.c_contiguous
            assert empty.ctypes.data % 64 == 0
            assert empty.base.nbytes <= 4 * 120 + 64  # only what the alignment needs
            kept = kept_images("op", "x", images, (2, 3, 4, 5), layout)
            assert kept.transpose(order).flags.c_contiguous
            np.testing.assert_array_equal(kept, first)
    with pytest.raises(ShapeError, match=r"op: x.* has shape \(2, 3, 4, 5\), expected \(2, 3, 4\)"):
        kept_images("op", "x", first, (2, 3, 4), "channels_first")


@pytest.mark.parametrize(
    ("array", "order"),
    [
        (np.zeros((2, 3, 4)), (0, 1, 2)),
        (np.zeros((2, 3, 4)).transpose(2, 0, 1), (1, 2, 0)),
        (np.zeros((2, 3, 4))[::-1, :, ::-1], (0, 1, 2)),
        (np.asfortranarray(np.zeros((2, 3)))[::-1], (1, 0)),
        (np.zeros(()), ()),
    ],
)
def test_axes_by_their_strides(array, order):
    assert memory_order(array) == order
    back = inverse(order)
    assert array.transpose(order).transpose(back).shape == array.shape
    assert [order[place] for place in back] == list(range(array.ndim))


def test_memory_that_is_shared():
    array = np.arange(12.0)
    assert overlap(array, array[3:5])
    assert overlap(array[:6], array[5:])
    assert not overlap(array[:6], array[6:])
    assert not overlap(array[::2], array[1::2])  # interleaved, but nothing in common
    assert not overlap(array, array.copy())


def test_a_shape_that_is_another():
    expect_shape("op", "dout", np.zeros((2, 3)), (2, 3))
    with pytest.raises(ShapeError, match=r"^op: dout has shape \(2, 3\), expected \(3, 2\)$"):
        expect_shape("op", "dout", np.zeros((2, 3)), (3, 2))


# ---- a bias -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bias", "expected", "dtype"),
    [
        (None, [0, 0, 0], "f4"),
        (2, [2, 2, 2], "f4"),
        (0.5, [0.5, 0.5, 0.5], "f4"),
        (True, [1, 1, 1], "f4"),
        (np.float64(0.5), [0.5, 0.5, 0.5], "f8"),
        (np.array([[0.5]], "f2"), [0.5, 0.5, 0.5], "f2"),
        ([1, 2, 3], [1, 2, 3], "i8"),
        (np.array([[1.0, 2.0, 3.0]]), [1, 2, 3], "f8"),
    ],
    ids=repr,
)
def test_a_bias_for_each_unit(bias, expected, dtype):
    got = bias_vector("op", bias, 3, F4)
    assert got.tolist() == expected and got.dtype == np.dtype(dtype)


@pytest.mark.parametrize("bias", [np.zeros(2), np.zeros((3, 1)), np.zeros((1, 2)), np.zeros(0)])
def test_a_bias_of_another_shape(bias):
    with pytest.raises(ShapeError, match=r"^op: bias has shape \(.*\), expected \(3,\)$"):
        bias_vector("op", bias, 3, F4)


# ---- what an optimizer changes ------------------------------------------------------------


def test_the_arrays_of_a_step():
    param, grad, m, v = np.ones((2, 3)), np.ones((2, 3)), np.zeros((2, 3)), np.zeros((2, 3), "f4")
    got_param, got_grad, kept = updated_arrays("op", param, grad, m=m, v=v)
    assert got_param is param and got_grad is grad
    assert kept[0] is m and kept[1] is v and len(kept) == 2
    derived = param.view(type("Units", (np.ndarray,), {}))
    assert type(updated_arrays("op", derived, grad)[0]) is np.ndarray
    assert updated_arrays("op", param, np.array([1, 2, 3]))[1].tolist() == [[1, 2, 3]] * 2
    assert updated_arrays("op", param, np.array(5))[1].tolist() == [[5] * 3] * 2


def test_a_gradient_on_memory_that_changes_is_copied():
    memory = np.arange(8.0)
    param, m = memory[:4], np.zeros(4)
    got = updated_arrays("op", param, memory[1:5], m=m)[1]
    assert not np.shares_memory(got, memory) and got.tolist() == [1, 2, 3, 4]
    beside = memory[4:]
    assert updated_arrays("op", param, beside, m=m)[1] is beside
    m = np.zeros(4)
    got = updated_arrays("op", np.ones(4), m, m=m)[1]
    assert not np.shares_memory(got, m)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"param": [1.0, 2.0, 3.0]}, ArgumentError, "the parameter must be an array, got list"),
        ({"m": None}, ArgumentError, "m must be an array, got NoneType"),
        ({"m": np.zeros(2)}, ShapeError, r"m has shape \(2,\), expected .* \(3,\)"),
        ({"v": np.zeros((1, 3))}, ShapeError, r"v has shape \(1, 3\), expected .* \(3,\)"),
        ({"param": np.zeros(3, int)}, DTypeError, "the parameter .*, got dtype int64"),
        ({"m": np.zeros(3, complex)}, DTypeError, "m .*, got dtype complex128"),
        ({"grad": np.zeros(2)}, ShapeError, r"gradient has shape \(2,\), expected \(3,\)"),
        ({"grad": np.zeros((2, 3))}, ShapeError, r"gradient has shape \(2, 3\), expected \(3,\)"),
        ({"grad": np.zeros(3, complex)}, DTypeError, "expected real .* complex128"),
        ({"param": np.broadcast_to(1.0, 3)}, ArgumentError, "the parameter is read-only"),
        ({"v": np.broadcast_to(1.0, 3)}, ArgumentError, "v is read-only"),
    ],
)
def test_arrays_that_no_step_can_be_taken_with(given, error, said):
    params = {"param": np.ones(3), "grad": np.ones(3), "m": np.zeros(3), "v": np.zeros(3)} | given
    if isinstance(params["param"], list):
        params["param"] = type("Shaped", (list,), {"shape": (3,)})(params["param"])
        said = said.replace("list", "Shaped")
    with pytest.raises(error, match=f"^op: {said}"):
        updated_arrays("op", **params)


@pytest.mark.parametrize("shared", [("param", "m"), ("m", "v"), ("param", "v")])
def test_arrays_that_share_memory(shared):
    params = {"param": np.ones(3), "grad": np.ones(3), "m": np.zeros(3), "v": np.zeros(3)}
    params[shared[1]] = params[shared[0]]
    with pytest.raises(ArgumentError, match=f"^op: {shared[1]} shares memory"):
        updated_arrays("op", **params)


# ---- contexts -----------------------------------------------------------------------------


@dataclass(slots=True)
class Two(Context):
    backend: str
    number: int


def test_contexts_are_copied_value_by_value():
    one = Two("numpy", 3)
    for again in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert again == one and again is not one
    older = Two.__new__(Two)
    older.__setstate__(["cython"])  # as an earlier version left it, with fewer values
    assert older.backend == "cython" and not hasattr(older, "number")
