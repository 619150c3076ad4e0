"""`Augmentation`: each change is what it says, within its limits, and repeats by its seed."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import Augmentation
from fastconv.errors import ArgumentError, DTypeError, ShapeError

from .awkward import unchanged
from .compare import assert_close

MANY = 200
EVERYTHING = (
    "flip_horizontal=0.5,flip_vertical=0.5,scale=0.2,shear=10,rotate=20,shift=2,crop=3,"
    "elastic=20,elastic_sigma=3,contrast=0.5,brightness=0.25,cutout=7,fill=0.5"
)


def generator(seed=0):
    return np.random.default_rng(seed)


def ramps(n, h, w):
    """Images whose pixels say where they are: channels of columns, of rows, of ones."""
    v, u = np.indices((h, w), float)
    return np.broadcast_to(np.stack([u, v, np.ones((h, w))]), (n, 3, h, w))


def maps(augmentation, h=24, w=31):
    """The matrix (2, 3) of each image's map, from pixels to places, read off the ramps.

    Interpolation is exact on a ramp; places near the border are left out.
    """
    out = augmentation(ramps(MANY, h, w), generator())
    found = []
    for across, down, inside in out:
        v, u = np.nonzero(inside == 1)
        pixels = np.stack([u, v, np.ones(len(u))], axis=1)
        places = np.stack([across[v, u], down[v, u]], axis=1)
        solution, *_ = np.linalg.lstsq(pixels, places, rcond=None)
        np.testing.assert_allclose(pixels @ solution, places, atol=1e-9)
        found.append(solution.T)
    return np.array(found)


def assert_fills(values, least, most):
    """All in the range, and of so many some near both of its ends."""
    assert least - 1e-9 <= values.min() < least + 0.05 * (most - least)
    assert most + 1e-9 >= values.max() > most - 0.05 * (most - least)


# ---- places ---------------------------------------------------------------------------

CENTRE = np.array([15.0, 11.5, 1.0])


def test_rotate():
    found = maps(Augmentation(rotate=25))
    angles = np.degrees(np.arctan2(found[:, 0, 1], found[:, 0, 0]))
    assert_fills(angles, -25, 25)
    np.testing.assert_allclose(np.linalg.det(found[:, :, :2]), 1)
    np.testing.assert_allclose(found[:, :, 0], found[:, ::-1, 1] * [1, -1], atol=1e-9)
    np.testing.assert_allclose(found @ CENTRE, [CENTRE[:2]] * MANY)


def test_scale():
    found = maps(Augmentation(scale=0.25))
    assert_fills(1 / found[:, 0, 0], 0.75, 1.25)
    np.testing.assert_allclose(found[:, 0, 0], found[:, 1, 1])
    np.testing.assert_allclose(found[:, [0, 1], [1, 0]], 0, atol=1e-9)
    np.testing.assert_allclose(found @ CENTRE, [CENTRE[:2]] * MANY)


def test_shear():
    found = maps(Augmentation(shear=15))
    assert_fills(np.degrees(np.arctan(found[:, 0, 1])), -15, 15)
    np.testing.assert_allclose(found[:, 0, 0], 1)
    np.testing.assert_allclose(found[:, 1], [[0, 1, 0]] * MANY, atol=1e-9)
    np.testing.assert_allclose(found @ CENTRE, [CENTRE[:2]] * MANY)


def test_shift():
    found = maps(Augmentation(shift=3))
    np.testing.assert_allclose(found[:, :, :2], [np.eye(2)] * MANY, atol=1e-9)
    assert_fills(found[:, 0, 2], -3, 3)
    assert_fills(found[:, 1, 2], -3, 3)
    assert abs(np.corrcoef(found[:, :, 2].T)[0, 1]) < 0.25


def test_all_of_them_equal_one_after_another():
    """The map is that of the single ones, drawn alike: flip, scale, shear, rotate, shift."""
    found = maps(Augmentation(flip_horizontal=0.5, scale=0.1, shear=10, rotate=15, shift=2, crop=1))
    rng = generator()
    mirrored = rng.random(MANY) < 0.5
    rng.random(MANY)
    names = {"scale": 0.1, "shear": 10, "rotate": 15, "x": 2, "y": 2}
    draws = {name: rng.uniform(-most, most, MANY) for name, most in names.items()}
    steps = rng.integers(-1, 1, (2, MANY), endpoint=True)
    for i, got in enumerate(found):
        angle, slide = np.radians(draws["rotate"][i]), math.tan(np.radians(draws["shear"][i]))
        new_from_old = np.eye(3)
        for then in (
            [[-1 if mirrored[i] else 1, 0, 0], [0, 1, 0], [0, 0, 1]],
            np.diag([1 + draws["scale"][i], 1 + draws["scale"][i], 1]),
            [[1, -slide, 0], [0, 1, 0], [0, 0, 1]],
            [
                [math.cos(angle), -math.sin(angle), 0],
                [math.sin(angle), math.cos(angle), 0],
                [0, 0, 1],
            ],
            [[1, 0, draws["x"][i] + steps[0, i]], [0, 1, draws["y"][i] + steps[1, i]], [0, 0, 1]],
        ):
            new_from_old = np.array(then) @ new_from_old
        to_centre = np.array([[1, 0, CENTRE[0]], [0, 1, CENTRE[1]], [0, 0, 1]])
        whole = to_centre @ new_from_old @ np.linalg.inv(to_centre)
        np.testing.assert_allclose(got, np.linalg.inv(whole)[:2], atol=1e-8)


@pytest.mark.parametrize("name", ["flip_horizontal", "flip_vertical"])
def test_flips(backend, dtype, rng, name):
    x = rng.standard_normal((MANY, 2, 5, 6)).astype(dtype)
    mirror = x[..., ::-1] if name == "flip_horizontal" else x[:, :, ::-1]
    with fastconv.use_backend(backend):
        always = Augmentation(**{name: 1})(x, generator())
        half = Augmentation(**{name: 0.5})(x, generator())
    np.testing.assert_array_equal(always, mirror)
    flipped = (half == mirror).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(half[~flipped], x[~flipped])
    assert 0.4 * MANY < flipped.sum() < 0.6 * MANY


def test_crop_is_a_window_of_the_padded_image(backend, dtype, rng):
    x = rng.standard_normal((MANY, 2, 5, 6)).astype(dtype)
    with fastconv.use_backend(backend):
        out = Augmentation(crop=2, fill=9)(x, generator())
    padded = np.pad(x, [(0, 0), (0, 0), (2, 2), (2, 2)], constant_values=9)
    windows = {(v, u): padded[:, :, v : v + 5, u : u + 6] for v in range(5) for u in range(5)}
    counts = {
        corner: (out == window).all(axis=(1, 2, 3)).sum() for corner, window in windows.items()
    }
    assert sum(counts.values()) == MANY
    assert min(counts.values()) >= 1


def test_elastic_is_a_smoothed_uniform_displacement():
    """Its deviation inside follows from that of uniform numbers; its neighbours are alike."""
    alpha, sigma, side = 30, 3.0, 40
    out = Augmentation(elastic=alpha, elastic_sigma=sigma)(ramps(MANY, side, side), generator())
    inside = slice(14, side - 14)
    v, u = np.indices((side, side))
    field = np.stack([out[:, 0] - u, out[:, 1] - v])[:, :, inside, inside]
    taps = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-9, 10)]
    share = sum(tap**2 for tap in taps) / sum(taps) ** 2
    deviation = alpha * share / math.sqrt(3)
    assert field.std() == pytest.approx(deviation, rel=0.1)
    assert abs(field.mean()) < 0.1 * deviation
    # exp(-d^2 / (4 sigma^2)) is how alike two smoothed places at a distance d are.
    for distance in (1, 4, 10):
        alike = np.corrcoef(field[..., distance:].ravel(), field[..., :-distance].ravel())[0, 1]
        assert alike == pytest.approx(math.exp(-((distance / sigma) ** 2) / 4), abs=0.1)
    assert abs(np.corrcoef(field[0].ravel(), field[1].ravel())[0, 1]) < 0.1


def test_elastic_of_one_seed_is_that_of_plain_loops(rng):
    """Drawn, smoothed by the loops' Gaussian, and looked up by the loops' interpolation."""
    from . import naive_augment as naive

    x = rng.standard_normal((2, 1, 9, 7))
    out = Augmentation(elastic=6, elastic_sigma=1.5, fill=0.5)(x, generator(3))
    draws = generator(3)
    draws.random(2), draws.random(2)  # mirror images, which are off
    noise = 2 * draws.random((2, 2, 9, 7)) - 1
    taps = np.array([math.exp(-0.5 * (k / 1.5) ** 2) for k in range(-5, 6)])
    field = 6 * naive.smooth(noise, taps / taps.sum())
    identity = np.array([[[1, 0, 0], [0, 1, 0]]] * 2)
    assert_close(out, naive.warp(x, identity, field, 0.5))


# ---- values ---------------------------------------------------------------------------


def line(before, after):
    """Gain and offset of each image."""
    pairs = zip(before, after, strict=True)
    return np.array([np.polyfit(a.ravel(), b.ravel(), 1) for a, b in pairs]).T


def test_contrast_keeps_the_mean(backend, rng):
    x = rng.random((MANY, 2, 5, 6))
    with fastconv.use_backend(backend):
        out = Augmentation(contrast=0.5)(x, generator())
    assert_fills(line(x, out)[0], 0.5, 1.5)
    np.testing.assert_allclose(out.mean(axis=(1, 2, 3)), x.mean(axis=(1, 2, 3)))


def test_brightness_adds(backend, rng):
    x = rng.random((MANY, 2, 5, 6))
    with fastconv.use_backend(backend):
        out = Augmentation(brightness=0.25)(x, generator())
    gain, offset = line(x, out)
    np.testing.assert_allclose(gain, 1)
    assert_fills(offset, -0.25, 0.25)


def test_cutout_fills_a_square_about_any_pixel(backend):
    x = np.zeros((20 * MANY, 2, 6, 8), np.float32)
    with fastconv.use_backend(backend):
        out = Augmentation(cutout=3, fill=9)(x, generator())
    np.testing.assert_array_equal(out[:, 0], out[:, 1])
    seen = set()
    for image in out[:, 0]:
        rows, columns = (np.flatnonzero((image == 9).any(axis=axis)) for axis in (1, 0))
        box = np.zeros((6, 8))
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 9
        np.testing.assert_array_equal(image, box)
        seen.add((rows[0], rows[-1], columns[0], columns[-1]))
    ends = [
        {(max(0, centre - 1), min(size - 1, centre + 1)) for centre in range(size)}
        for size in (6, 8)
    ]
    assert seen == {(*down, *across) for down in ends[0] for across in ends[1]}


def test_cutout_larger_than_the_image_leaves_nothing():
    out = Augmentation(cutout=100, fill=2)(np.zeros((3, 1, 4, 4)), generator())
    np.testing.assert_array_equal(out, np.full((3, 1, 4, 4), 2))


# ---- what it promises ------------------------------------------------------------------


@pytest.fixture
def x(rng, dtype):
    return rng.random((6, 2, 20, 17)).astype(dtype)


def test_every_image_changes_in_its_own_way_and_the_input_stays(backend, dtype, x):
    augmentation = Augmentation.parse(EVERYTHING)
    same = np.broadcast_to(x[:1], x.shape)
    with fastconv.use_backend(backend), unchanged(same):
        out = augmentation(same, generator())
    assert out.shape == x.shape and out.dtype == dtype
    assert len({image.tobytes() for image in out}) == len(x)


def test_a_seed_repeats_on_any_number_of_threads(backend, x):
    augmentation = Augmentation.parse(EVERYTHING)
    results = []
    with fastconv.use_backend(backend):
        for threads in (1, 2, 3):
            fastconv.set_num_threads(threads)
            results.append(augmentation(x, generator(4)).tobytes())
        other = augmentation(x, generator(5)).tobytes()
    assert results == [results[0]] * 3
    assert other != results[0]


def test_backends_agree(backend, x):
    augmentation = Augmentation.parse(EVERYTHING)
    with fastconv.use_backend("numpy"):
        wanted = augmentation(x, generator())
    with fastconv.use_backend(backend):
        assert_close(augmentation(x, generator()), wanted, dtype=x.dtype)


def test_nothing_switched_on_changes_nothing(x):
    assert Augmentation()(x, generator()) is x
    assert Augmentation(fill=1, elastic_sigma=2)(x, generator()) is x


def test_an_empty_batch(backend):
    with fastconv.use_backend(backend):
        out = Augmentation.parse(EVERYTHING)(np.empty((0, 1, 4, 4), np.float32), generator())
    assert out.shape == (0, 1, 4, 4) and out.dtype == np.float32


def test_pixels_as_whole_numbers_become_float64():
    x = np.arange(6, dtype=np.uint8).reshape(1, 1, 2, 3)
    out = Augmentation(flip_horizontal=1)(x, generator())
    np.testing.assert_array_equal(out, [[[[2, 1, 0], [5, 4, 3]]]])
    assert out.dtype == np.float64


# ---- as a text ------------------------------------------------------------------------

NUMBERS = {
    "flip_horizontal": st.floats(0, 1),
    "scale": st.floats(0, 0.9),
    "shear": st.floats(0, 80),
    "shift": st.floats(0, 1e6),
    "crop": st.integers(0, 9),
    "cutout": st.integers(0, 99),
    "fill": st.floats(-1e30, 1e30),
    "elastic_sigma": st.floats(0.1, 100),
}


@given(st.fixed_dictionaries({}, optional=NUMBERS))
def test_the_text_of_it_is_read_back(numbers):
    augmentation = Augmentation(**numbers)
    if str(augmentation):
        assert Augmentation.parse(str(augmentation)) == augmentation
    else:
        assert augmentation == Augmentation()


def test_the_text_is_short_and_in_order():
    assert str(Augmentation()) == ""
    parsed = Augmentation.parse(" shift = 2, rotate=10.0 ,scale=.1,crop=4")
    assert str(parsed) == "scale=0.1,rotate=10,shift=2,crop=4"
    assert str(Augmentation(rotate=np.float32(10), cutout=np.int64(8))) == "rotate=10,cutout=8"
    assert str(Augmentation.parse(EVERYTHING)) == EVERYTHING


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected name=number, separated by commas, got ''"),
        ("rotate", "expected name=number, separated by commas, got 'rotate'"),
        ("rotate=10,", "expected name=number, separated by commas, got ''"),
        ("rotat=10", r"unknown 'rotat'; known: flip_horizontal, .*, rotate, shift, .*, fill"),
        ("rotate=1,rotate=2", "rotate is given twice"),
        ("rotate=ten", "rotate must be a number, got 'ten'"),
        ("crop=1.5", r"crop must be a whole number, got '1\.5'"),
        ("crop=-1", "crop must be at least 0, got -1"),
        ("scale=1", r"scale must be a number between 0 and 0\.9, got 1\.0"),
        ("shift=-1", r"shift must be a number finite and at least 0, got -1\.0"),
        ("shift=inf", "shift must be a number finite"),
        ("fill=nan", "fill must be a number finite, got nan"),
    ],
)
def test_texts_that_are_refused(text, message):
    with pytest.raises(ArgumentError, match=f"^augment: {message}"):
        Augmentation.parse(text)


@pytest.mark.parametrize("name", [field.name for field in fields(Augmentation)])
@pytest.mark.parametrize("value", ["1", None, math.nan, -math.inf, [1, 2]])
def test_numbers_that_are_refused(name, value):
    with pytest.raises(ArgumentError, match=f"^augment: {name} must be "):
        Augmentation(**{name: value})


@pytest.mark.parametrize(
    ("error", "x"),
    [
        (ShapeError, np.ones((5, 784))),
        (ShapeError, np.ones((5, 0, 4, 4))),
        (DTypeError, np.ones((1, 1, 2, 2), complex)),
    ],
)
def test_arrays_that_are_not_images_are_refused(error, x):
    with pytest.raises(error, match=r"^augment: "):
        Augmentation(contrast=1)(x, generator())
