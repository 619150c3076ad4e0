"""Pictures of one digit from PNG and JPEG files, brought to MNIST's frame."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fastconv.datasets.image_file import frame_digit, read_image
from fastconv.errors import DataCorrupt, DataNotFound, MissingDependency


@pytest.fixture
def image_module():
    return pytest.importorskip("PIL.Image", reason="Pillow reads the pictures")


@pytest.fixture
def strokes():
    """A seven, white on black, larger than MNIST's frame and off its centre."""
    picture = np.zeros((120, 160), np.uint8)
    picture[20:30, 30:90] = 255
    for row in range(30, 100):
        right = 90 - (row - 30) // 2
        picture[row, right - 12 : right] = 255
    return picture


def write(image_module, path: Path, pixels: np.ndarray, **options) -> Path:
    image_module.fromarray(pixels).save(path, **options)
    return path


def test_a_digit_is_boxed_and_centred(image_module, strokes):
    framed = frame_digit(strokes.astype(np.float32) / 255)
    assert framed.shape == (1, 28, 28)
    assert framed.dtype == np.float32
    assert framed.min() == 0
    assert framed.max() == 1
    rows, columns = (np.flatnonzero(framed[0].any(axis=axis)) for axis in (1, 0))
    assert rows[-1] - rows[0] + 1 == 20  # the longer side fills the box
    assert columns[-1] - columns[0] + 1 == 15  # 60 of 80 rows: three quarters
    places = np.arange(28) + 0.5
    mass = framed[0] / framed.sum()
    assert 14 <= (mass.sum(axis=1) * places).sum() < 15
    assert 14 <= (mass.sum(axis=0) * places).sum() < 15


def test_paper_and_place_and_size_make_no_difference(image_module, strokes):
    expected = frame_digit(strokes.astype(np.float32))
    dark_on_light = 230 - strokes.astype(np.float32) * 0.7
    moved = np.pad(strokes, ((40, 3), (1, 90))).astype(np.float32)
    for picture in (dark_on_light, moved):
        np.testing.assert_allclose(frame_digit(picture), expected, atol=1e-5)
    larger = np.kron(strokes, np.ones((3, 3))).astype(np.float32)
    assert np.abs(frame_digit(larger) - expected).max() < 0.2  # resampled, so only similar
    assert np.abs(frame_digit(larger) - expected).mean() < 0.01


def test_kinds_of_files(image_module, strokes, tmp_path):
    expected = strokes.astype(np.float32) / 255
    black = np.zeros_like(strokes)
    kinds = {
        "grey.png": strokes,
        "colour.png": np.stack([strokes] * 3, axis=2),
        "deep.png": strokes.astype(np.uint16) * 257,
        "ink_on_nothing.png": np.stack([black, black, black, 255 - strokes], axis=2),
    }
    for name, pixels in kinds.items():
        path = write(image_module, tmp_path / name, pixels)
        np.testing.assert_allclose(read_image(path), expected, atol=1e-6, err_msg=name)
    path = write(image_module, tmp_path / "photo.jpg", strokes, quality=95)
    assert np.abs(read_image(path) - expected).mean() < 0.01


def test_a_photo_is_turned_as_the_camera_was(image_module, strokes, tmp_path):
    exif = image_module.Exif()
    exif[0x0112] = 6  # the top of the scene is at the right of the stored picture
    path = write(image_module, tmp_path / "turned.jpg", strokes, quality=95, exif=exif)
    upright = np.rot90(strokes, -1).astype(np.float32) / 255
    assert np.abs(read_image(path) - upright).mean() < 0.01


def test_files_that_are_not_pictures(image_module, strokes, tmp_path):
    with pytest.raises(DataNotFound, match="no such file"):
        read_image(tmp_path / "missing.png")
    text = tmp_path / "text.png"
    text.write_text("no picture at all")
    whole = write(image_module, tmp_path / "whole.png", strokes).read_bytes()
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole[: len(whole) // 2])
    for path, reason in ((text, "not an image of a kind that is read"), (cut, "truncated")):
        with pytest.raises(DataCorrupt, match=reason) as caught:
            read_image(path)
        assert path.name in str(caught.value)


def test_a_digit_may_be_in_any_format_of_ones_own_images(image_module, strokes, tmp_path):
    expected = read_image(write(image_module, tmp_path / "digit.png", strokes))
    for name in ("digit.gif", "digit.bmp", "digit.tiff"):
        found = read_image(write(image_module, tmp_path / name, strokes))
        np.testing.assert_array_equal(found, expected)


def test_a_blank_picture_shows_no_digit(image_module):
    with pytest.raises(DataCorrupt, match="sheet is blank"):
        frame_digit(np.full((50, 50), 0.9, np.float32), "sheet")


def test_reading_pictures_without_pillow(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependency, match=r"pip install pillow"):
        read_image(tmp_path / "any.png")
