"""Pictures of every awkward kind, as a network gets them."""

from __future__ import annotations

import os

import numpy as np
import pytest

from fastconv.datasets.picture import decode, endings, examine, quiet_pillow, read_picture
from fastconv.errors import DataCorrupt, DataNotFound

from .picture_files import Image, noise, write


def read(path, channels=3, size=None):
    """Read a picture, by default in its own size."""
    if size is None:
        with quiet_pillow():
            size = examine(path).size
    return read_picture(path, (channels, *size))


def facts(path):
    with quiet_pillow():
        return examine(path)


def as_network(pixels: np.ndarray) -> np.ndarray:
    """(H, W, C) of bytes as (C, H, W) of 0..1."""
    return pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)


def test_a_picture_of_the_right_size_is_taken_bit_for_bit(tmp_path):
    pixels = noise(1, 7, 5, 3)
    for name in ("a.png", "a.PNG", "a.bmp", "a.tiff", "a.ppm"):
        picture = read(write(tmp_path / name, pixels))
        assert picture.dtype == np.float32
        assert np.array_equal(picture, as_network(pixels)), name
        assert facts(tmp_path / name).size == (7, 5)
        assert not facts(tmp_path / name).grey


def test_jpeg_is_near_to_what_was_saved(tmp_path):
    rows, columns = np.mgrid[:40, :60]
    smooth = np.stack([4 * columns, 5 * rows, 3 * columns], axis=2).astype(np.uint8)
    for name in ("a.jpg", "a.JPEG"):
        picture = read(write(tmp_path / name, smooth, quality=95))
        assert np.abs(picture - as_network(smooth)).mean() < 0.01


def test_grey_for_a_colour_network_and_colour_for_a_grey_one(tmp_path):
    pixels = noise(2, 6, 4)
    grey = write(tmp_path / "grey.png", pixels)
    assert facts(grey).grey
    expected = pixels.astype(np.float32) / np.float32(255)
    assert np.array_equal(read(grey, channels=1), expected[None])
    assert np.array_equal(read(grey), np.stack([expected] * 3))
    # Rec. 601: the luma of red, green and blue.
    primaries = np.diag([255, 255, 255]).astype(np.uint8)[None]
    luma = read(write(tmp_path / "primaries.png", primaries), channels=1)
    np.testing.assert_allclose(luma[0, 0], [0.299, 0.587, 0.114], atol=1 / 255)


@pytest.mark.parametrize(
    "orientation, upright",
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90),
    ],
)
@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_the_side_that_is_up(tmp_path, orientation, upright, name):
    """All eight orientations of the EXIF standard."""
    pixels = noise(3, 6, 9, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path / name, pixels, exif=exif)
    expected = np.ascontiguousarray(upright(pixels))
    assert facts(path).size == expected.shape[:2]
    assert np.array_equal(read(path), as_network(expected))


def test_sixteen_bits_of_grey_are_kept(tmp_path):
    deep = np.array([[0, 1, 256], [32768, 65534, 65535]], np.uint16)
    for name in ("deep.png", "deep.tiff"):
        path = write(tmp_path / name, deep)
        assert facts(path).grey
        expected = (deep / 65535).astype(np.float32)
        np.testing.assert_allclose(read(path, channels=1)[0], expected, rtol=1e-6)
        np.testing.assert_allclose(read(path)[2], expected, rtol=1e-6)


def test_fractions_and_whole_numbers_out_of_range(tmp_path):
    fractions = np.array([[0, 0.25], [0.5, 1]], np.float32)
    assert np.array_equal(read(write(tmp_path / "f.tiff", fractions), channels=1)[0], fractions)
    for name, pixels in {
        "dark.tiff": np.array([[-0.5, 1]], np.float32),
        "hole.tiff": np.array([[np.nan, 1]], np.float32),
        "bright.tiff": np.array([[0, 70000]], np.int32),
    }.items():
        with pytest.raises(DataCorrupt, match=f"{name}: ValueError: grey values .*expected 0 to"):
            read(write(tmp_path / name, pixels))


def test_one_bit_a_pixel(tmp_path):
    pixels = noise(4, 5, 9) > 127
    path = write(tmp_path / "bits.png", pixels)
    assert facts(path).grey
    assert np.array_equal(read(path, channels=1)[0], pixels.astype(np.float32))


def test_palettes(tmp_path):
    colours = noise(5, 4, 3)
    indices = noise(6, 6, 5) % 4
    picture = Image.frombytes("P", (5, 6), indices.tobytes())
    picture.putpalette(colours.tobytes())
    for name in ("palette.png", "palette.gif", "palette.bmp"):
        picture.save(tmp_path / name)
        assert not facts(tmp_path / name).grey
        assert np.array_equal(read(tmp_path / name), as_network(colours[indices])), name
    picture.save(tmp_path / "holes.png", transparency=2)
    on_white = colours.copy()
    on_white[2] = 255
    assert np.array_equal(read(tmp_path / "holes.png"), as_network(on_white[indices]))
    # Several shades of transparency, which Pillow keeps as bytes.
    picture.save(tmp_path / "shades.png", transparency=bytes([255, 0, 255, 0]))
    on_white = colours.copy()
    on_white[[1, 3]] = 255
    assert np.array_equal(read(tmp_path / "shades.png"), as_network(on_white[indices]))


def test_what_is_transparent_lies_on_white(tmp_path):
    for alpha, expected in ((255, 0.0), (0, 1.0), (127, 1 - 127 / 255)):
        pixels = np.zeros((3, 4, 4), np.uint8)
        pixels[..., 3] = alpha
        picture = read(write(tmp_path / f"rgba{alpha}.png", pixels))
        np.testing.assert_allclose(picture, expected, atol=1 / 255)
        path = write(tmp_path / f"la{alpha}.png", pixels[..., 2:])
        assert facts(path).grey
        np.testing.assert_allclose(read(path, channels=1), expected, atol=1 / 255)


def test_cmyk_as_printers_have_it(tmp_path):
    inks = np.array([[[0, 255, 255, 0], [255, 0, 255, 0], [0, 0, 0, 255], [0, 0, 0, 0]]], np.uint8)
    path = tmp_path / "print.tiff"
    Image.frombytes("CMYK", (4, 1), inks.tobytes()).save(path)
    red, green, black, white = (1, 0, 0), (0, 1, 0), (0, 0, 0), (1, 1, 1)
    assert np.array_equal(read(path)[:, 0].T, [red, green, black, white])
    assert not facts(path).grey


@pytest.mark.parametrize("name", ["moving.gif", "moving.png", "pages.tiff"])
def test_of_a_moving_picture_the_first_frame(tmp_path, name):
    frames = [Image.fromarray(noise(7 + i, 6, 5) // 64 * 64) for i in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    first = np.asarray(frames[0], np.float32) / np.float32(255)
    assert np.array_equal(read(tmp_path / name, channels=1)[0], first)


# ---- size ---------------------------------------------------------------------------------


def test_what_juts_out_is_cut_off_and_nothing_is_squeezed(tmp_path):
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, :15, 0] = wide[:, 15:25, 1] = wide[:, 25:, 2] = 255
    path = write(tmp_path / "wide.png", wide)
    green = np.zeros((3, 10, 10), np.float32)
    green[1] = 1
    assert np.array_equal(read(path, size=(10, 10)), green)
    tall = write(tmp_path / "tall.png", np.ascontiguousarray(wide.transpose(1, 0, 2)))
    assert np.array_equal(read(tall, size=(10, 10)), green)
    # Scaling down mixes a little of what is beyond the border into it.
    assert np.array_equal(read(tall, size=(5, 5))[:, 1:-1], green[:, 1:4, :5])


def test_a_ramp_stays_a_ramp(tmp_path):
    """Scaling is linear between pixel centres: a linear ramp stays in place."""
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))
    path = write(tmp_path / "ramp.png", ramp)
    for size in (16, 32, 128):
        row = read(path, channels=1, size=(size, size))[0, size // 2] * 255
        places = ((np.arange(size) + 0.5) * 64 / size - 0.5) * 3
        inside = slice(size // 8, -size // 8)
        np.testing.assert_allclose(row[inside], places[inside], atol=1)


def test_large_photographs_read_at_a_fraction_look_the_same(tmp_path):
    rows, columns = np.mgrid[:600, :800]
    smooth = np.stack([columns / 4, rows / 3, (rows + columns) / 6], axis=2).astype(np.uint8)
    small = read(write(tmp_path / "large.jpg", smooth, quality=95), size=(30, 40))
    whole = read(write(tmp_path / "large.png", smooth), size=(30, 40))
    assert np.abs(small - whole).max() < 0.02


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (1, 1)])
def test_slivers(tmp_path, shape):
    path = write(tmp_path / "sliver.png", np.full(shape, 51, np.uint8))
    picture = read(path, channels=1, size=(8, 6))
    np.testing.assert_allclose(picture, 0.2, atol=1e-6)
    assert picture.shape == (1, 8, 6)


# ---- what cannot be read ----------------------------------------------------------------------


def damaged(tmp_path):
    whole = write(tmp_path / "whole.png", noise(8, 50, 50, 3)).read_bytes()
    photo = write(tmp_path / "whole.jpg", noise(9, 50, 50, 3)).read_bytes()
    wrong = bytearray(whole)
    wrong[len(whole) // 2] ^= 0xFF
    for name, content in {
        "cut.png": whole[: len(whole) // 2],
        "header.png": whole[:20],
        "flipped.png": bytes(wrong),
        "cut.jpg": photo[: len(photo) // 2],
        "empty.png": b"",
        "text.png": b"no picture",
        "program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        yield tmp_path / name


def test_damage_is_named_and_nothing_else_happens(tmp_path):
    for path in damaged(tmp_path):
        with pytest.raises(DataCorrupt, match=f"{path.name}: \\w"):
            read_picture(path, (3, 8, 8))
        assert len(facts(path).digest) == 64
    reasons = {path.name: facts(path).reason for path in damaged(tmp_path)}
    assert reasons["empty.png"] == "empty file"
    assert reasons["text.png"] == "not an image of a kind that is read here"
    assert reasons["program.eps"] == reasons["text.png"]  # EPS is a program, and must not run
    assert ".eps" not in endings()
    assert {".png", ".jpg", ".jpeg", ".tif", ".webp", ".mpo"} <= endings()


def test_a_decompression_bomb_is_not_opened(tmp_path, monkeypatch):
    """Pillow warns above its limit, and raises above twice that: here both are the same."""
    path = write(tmp_path / "bomb.png", np.zeros((40, 40), np.uint8))
    for limit in (1599, 700):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        reason = f"too large: 1,600 pixels, at most {limit:,} are read; scale it down first"
        assert facts(path).reason == reason
        with pytest.raises(DataCorrupt, match=rf"bomb\.png: {reason}"):
            read_picture(path, (1, 8, 8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1600)
    assert facts(path).reason is None


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe.png")
    reasons = [facts(tmp_path / f"{name}.png").reason for name in ("folder", "gone", "pipe")]
    assert reasons == ["not a regular file", "no such file", "not a regular file"]
    for name in ("folder", "gone", "pipe", "absent"):
        with pytest.raises(DataNotFound, match=name):
            read_picture(tmp_path / f"{name}.png", (3, 8, 8))


def test_decode_is_what_predict_and_training_share(tmp_path):
    path = write(tmp_path / "a.png", noise(10, 9, 7, 3))
    with quiet_pillow():
        values, lost = decode(path, (3, 4, 4))
    assert np.array_equal(values, read_picture(path, (3, 4, 4)))
    assert not lost
