"""Pictures with damaged metadata, and pictures that need much memory."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib

import numpy as np
import pytest

from fastconv.datasets import image_file, load_images, picture
from fastconv.datasets.image_file import read_image
from fastconv.datasets.picture import decode, examine, quiet_pillow, read_in_frame
from fastconv.errors import DamageWarning, DataCorrupt

from .conftest import ROOT
from .picture_files import Image, noise, write, write_classes

PIXELS = noise(1, 20, 30, 3)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'


def tiff(orientation: int = 6, *more: tuple[int, int, int, bytes]) -> bytes:
    """A directory of EXIF tags: `more`, as (tag, type, count, value), then the orientation."""
    entries = [*more, (0x112, 3, 1, struct.pack("<HH", orientation, 0))]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + b"".join(struct.pack("<HHI", *e[:3]) + e[3] for e in entries) + bytes(4)


def jpeg(exif: bytes | None, pixels: np.ndarray = PIXELS) -> bytes:
    """A JPEG with these bytes as its EXIF."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    content = file.getvalue()
    if exif is None:
        return content
    exif = b"Exif\0\0" + exif
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]


def saved(kind: str, pixels: np.ndarray = PIXELS, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def as_it_lies(content: bytes) -> np.ndarray:
    """Pillow's pixels, not turned upright."""
    with quiet_pillow(), Image.open(io.BytesIO(content)) as opened:
        return np.asarray(opened.convert("RGB"))


def read(path):
    """Read a picture in its own size: pixels as bytes, and whether its orientation was lost."""
    with quiet_pillow():
        facts = examine(path)
        assert facts.reason is None, facts.reason
        shown, lost = read_in_frame(path, lambda size: size, False)
    pixels = np.asarray(shown)
    assert facts.size == pixels.shape[:2]
    return pixels, lost


def chunk(kind: bytes, content: bytes, check: bytes | None = None) -> bytes:
    found = zlib.crc32(kind + content).to_bytes(4, "big") if check is None else check
    return struct.pack(">I", len(content)) + kind + content + found


def png(*chunks: bytes, before: bool = True, pixels: np.ndarray = PIXELS) -> bytes:
    """A PNG with these chunks before or after its pixels."""
    content = saved("PNG", pixels)
    at = 33 if before else len(content) - 12
    return content[:at] + b"".join(chunks) + content[at:]


RATIONAL_MAKER = (0x10F, 5, 1, struct.pack("<I", 38))  # not a text, but a fraction after the end
UNKNOWN_TYPE = (0x10F, 99, 1, bytes(4))
BEYOND = (0x10F, 2, 500, struct.pack("<I", 2**31))
AS_LONG = struct.pack("<HHII", 0x112, 4, 1, 6)
SOUND = tiff()


# ---- what is up can be read ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "exif",
    [
        SOUND,
        tiff(6, RATIONAL_MAKER),
        tiff(6, UNKNOWN_TYPE),
        tiff(6, BEYOND),
        SOUND[:-4],  # cut off after the last tag
        SOUND[:8] + struct.pack("<H", 900) + SOUND[10:],  # claims to have 900 tags
        b"II*\0" + struct.pack("<IH", 8, 1) + AS_LONG,
        b"MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x112, 3, 1, 6, 0),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "PNG behind its pixels"])
def test_the_orientation_is_read_beside_damaged_tags(tmp_path, exif, kind):
    if kind == "JPEG":
        content = jpeg(exif)
    elif kind == "WEBP":
        content = saved("WEBP", lossless=True, exif=exif)
    else:
        content = png(chunk(b"eXIf", exif), before=kind == "PNG")
    (tmp_path / "a").write_bytes(content)
    pixels, lost = read(tmp_path / "a")
    assert np.array_equal(pixels, np.rot90(as_it_lies(content), -1))
    assert not lost


def test_xmp_where_there_is_no_exif(tmp_path):
    for name, content in {
        "a.webp": saved("WEBP", lossless=True, xmp=XMP),
        "a.jpg": saved("JPEG", xmp=XMP),
    }.items():
        (tmp_path / name).write_bytes(content)
        pixels, lost = read(tmp_path / name)
        assert np.array_equal(pixels, np.rot90(as_it_lies(content), -1)), name
        assert not lost


@pytest.mark.parametrize("orientation", [0, 1, 9, 65535])
def test_numbers_that_say_nothing(tmp_path, orientation):
    (tmp_path / "a.jpg").write_bytes(jpeg(tiff(orientation)))
    pixels, lost = read(tmp_path / "a.jpg")
    assert np.array_equal(pixels, as_it_lies(jpeg(None)))
    assert not lost


# ---- it cannot ----------------------------------------------------------------------------------

LOST = [
    b"II*\0",
    b"JUNK" + bytes(40),
    SOUND[:9],
    SOUND[:14],
    b"II*\0" + struct.pack("<IH", 8, 3) + struct.pack("<HHII", 0x10F, 2, 1, 0),  # two of three
    b"II*\0" + struct.pack("<I", 2**31) + SOUND[8:],
]


@pytest.mark.parametrize("exif", LOST)
def test_a_lost_orientation_is_noted(tmp_path, exif):
    write_classes(tmp_path / "set", {"x": 4, "y": 5}, size=(20, 30, 3))
    for name in ("x/a.jpg", "y/b.jpg"):
        (tmp_path / "set" / name).write_bytes(jpeg(exif))
    path = tmp_path / "set" / "x" / "a.jpg"
    pixels, lost = read(path)
    assert lost
    assert np.array_equal(pixels, as_it_lies(jpeg(None)))
    images = load_images(tmp_path / "set")
    said = "not turned upright, as their EXIF is damaged: 2 images, x/a.jpg, y/b.jpg"
    assert said in images.notes
    assert not images.unreadable
    with pytest.warns(DamageWarning, match=r"a\.jpg: its EXIF is damaged"):
        taken = picture.read_picture(path, (3, 20, 30))
    assert np.array_equal(np.rint(taken * 255).astype(np.uint8), pixels.transpose(2, 0, 1))
    with pytest.warns(DamageWarning, match=r"a\.jpg: its EXIF is damaged"):
        assert read_image(path).shape == (20, 30)


def test_an_empty_exif_loses_no_orientation(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(b""))
    assert not read(tmp_path / "a.jpg")[1]


# ---- damage elsewhere ---------------------------------------------------------------------------


BAD = b"\0\0\0\0"
UNPACKS = zlib.compress(bytes(70_000_000), 9)
NEIGHBOURS = {
    "text with a wrong sum": png(chunk(b"tEXt", b"Comment\0hello", BAD)),
    "text that unpacks to 70 MB": png(chunk(b"zTXt", b"Comment\0\0" + UNPACKS)),
    "text that does not unpack": png(chunk(b"zTXt", b"Comment\0\0junk")),
    "international text without its fields": png(chunk(b"iTXt", b"Comment\0")),
    "profile with a wrong sum": png(chunk(b"iCCP", b"p\0\0" + zlib.compress(b"x" * 200), BAD)),
    "profile that unpacks to 70 MB": png(chunk(b"iCCP", b"p\0\0" + UNPACKS)),
    "profile that does not unpack": png(chunk(b"iCCP", b"p\0\0junk")),
    "gamma of no length": png(chunk(b"gAMA", b"")),
    "resolution of no length": png(chunk(b"pHYs", b"")),
    "time with a wrong sum behind the pixels": png(chunk(b"tIME", bytes(7), BAD), before=False),
    "text with a wrong sum behind the pixels": png(chunk(b"tEXt", b"a\0b", BAD), before=False),
    "without an end": png()[:-12],
    "with more behind its end": png() + noise(2, 500).tobytes(),
    "a JPEG with more behind its end": jpeg(None) + noise(2, 500).tobytes(),
    "a GIF with more behind its end": saved("GIF") + noise(2, 500).tobytes(),
    "a JPEG whose profile is junk": saved("JPEG", icc_profile=noise(3, 3000).tobytes()),
    "a JPEG whose XMP is junk": saved("JPEG", xmp=noise(3, 3000).tobytes()),
    "a JPEG with a comment of junk": saved("JPEG", comment=noise(3, 3000).tobytes()),
    "a WebP whose profile is junk": saved("WEBP", icc_profile=noise(3, 3000).tobytes()),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_pixels_are_read_despite_damaged_metadata(tmp_path, name):
    content = NEIGHBOURS[name]
    (tmp_path / "a").write_bytes(content)
    kind = next(kind for kind in ("JPEG", "GIF", "WebP", "") if kind in name)
    sound = saved(kind.upper() or "PNG")
    pixels, lost = read(tmp_path / "a")
    assert np.array_equal(pixels, as_it_lies(sound))
    assert not lost


def test_exif_with_a_wrong_checksum(tmp_path):
    (tmp_path / "a.png").write_bytes(png(chunk(b"eXIf", SOUND, BAD)))
    assert np.array_equal(read(tmp_path / "a.png")[0], np.rot90(PIXELS, -1))
    (tmp_path / "b.png").write_bytes(png(chunk(b"eXIf", SOUND[:12], BAD)))
    pixels, lost = read(tmp_path / "b.png")
    assert np.array_equal(pixels, PIXELS) and lost


def test_damage_to_what_pixels_need_is_an_error(tmp_path):
    whole = png(chunk(b"tEXt", b"a\0b", BAD))
    for at in (20, len(whole) // 2):  # the width; the pixels
        content = bytearray(whole)
        content[at] ^= 0xFF
        (tmp_path / "a.png").write_bytes(bytes(content))
        with pytest.raises(DataCorrupt):
            picture.read_picture(tmp_path / "a.png", (3, 8, 8))
    (tmp_path / "a.png").write_bytes(whole[:40])
    with pytest.raises(DataCorrupt):
        picture.read_picture(tmp_path / "a.png", (3, 8, 8))


def test_pictures_with_randomly_damaged_exif(tmp_path):
    """The pixels are those of the intact file, in whatever orientation; nothing else happens."""
    draw = random.Random(5)
    exif = tiff(6, BEYOND)
    for content in (
        jpeg(exif),
        png(chunk(b"tEXt", b"a\0b"), chunk(b"eXIf", exif)),
        saved("WEBP", lossless=True, exif=exif, xmp=XMP),
    ):
        flat, first = as_it_lies(content), content.index(exif)
        sides = [np.rot90(side, k) for side in (flat, flat[::-1]) for k in range(4)]
        for _ in range(200):
            damaged = bytearray(content)
            for _ in range(draw.choice((1, 2, 8))):
                damaged[draw.randrange(first, first + len(exif))] = draw.randrange(256)
            (tmp_path / "a").write_bytes(bytes(damaged))
            pixels, _ = read(tmp_path / "a")
            assert any(np.array_equal(pixels, side) for side in sides)


# ---- memory -------------------------------------------------------------------------------------


def test_scaling_in_strips_is_pillows_own(tmp_path, monkeypatch):
    """Whether strips have one row or many, the values are those of scaling the whole picture."""
    from PIL import ImageOps

    for number, (size, frame) in enumerate(
        [
            *(((90, 70), (32, 32)), ((70, 90), (32, 32)), ((64, 64), (9, 13)), ((7, 5), (40, 30))),
            *(((301, 3), (8, 8)), ((3, 301), (8, 8)), ((1, 500), (6, 4)), ((50, 40), (50, 40))),
        ]
    ):
        for channels in ((), (3,), (4,)):
            pixels = noise(number, *size, *channels)
            path = write(tmp_path / "a.png", pixels)
            with Image.open(path) as opened:
                if channels == (4,):
                    white = Image.new("RGBA", opened.size, "white")
                    opened = Image.alpha_composite(white, opened)
                flat = opened.convert("RGB" if channels else "L")
                expected = np.asarray(
                    ImageOps.fit(flat, frame[::-1], Image.Resampling.BILINEAR), np.int16
                )
            for strip in (1, 200, 2**20):
                monkeypatch.setattr(picture, "STRIP", strip)
                with quiet_pillow():
                    shown, _ = read_in_frame(path, lambda _, f=frame: f[::-1], False)
                # Where the frame begins between two rows, Pillow's rounding may differ by one.
                assert np.abs(np.asarray(shown, np.int16) - expected).max() <= 1
                assert shown.mode == flat.mode


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "mode, ending, options",
    [
        ("RGBA", "png", {}),
        ("RGBA", "png", {"exif": b"Exif\0\0" + SOUND}),
        ("LA", "png", {}),
        ("P", "gif", {"transparency": 0}),
        ("I;16", "png", {}),
        ("F", "tiff", {"compression": "tiff_adobe_deflate"}),
        ("RGB", "tiff", {"compression": "tiff_lzw", "exif": b"Exif\0\0" + SOUND}),
        ("RGB", "webp", {}),
        ("RGB", "jpg", {"progressive": True}),
    ],
)
def test_memory_is_bounded_by_the_decoded_pixels(tmp_path, mode, ending, options):
    """8 million pixels: a float32 copy of them alone would take 100 MiB."""
    side = 2800
    Image.new(mode, (side, side + 40)).save(tmp_path / f"a.{ending}", **options)
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from fastconv.datasets.picture import read_picture, examine, quiet_pillow\n"
        "def most():\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    return next(int(l.split()[1]) * 1024 for l in lines if l.startswith('VmHWM'))\n"
        "from PIL import Image\n"
        "Image.new('RGBA', (40, 40)).save('small.png')\n"
        "read_picture('small.png', (3, 32, 32))\n"
        "before = most()\n"
        "with quiet_pillow():\n"
        "    assert examine(Path(sys.argv[1])).reason is None\n"
        "read_picture(sys.argv[1], (3, 32, 32))\n"
        "print(most() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"a.{ending}"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    with quiet_pillow(), (tmp_path / f"a.{ending}").open("rb") as file:
        allowed = picture._expect_room(picture._open(file))
    assert allowed <= 20 * side * (side + 40)
    assert int(done.stdout) < allowed + 24 * 2**20


def test_too_large_pictures_are_named_with_a_remedy(tmp_path, monkeypatch):
    write_classes(tmp_path, {"a": 4, "b": 4})
    write(tmp_path / "a" / "large.png", np.zeros((300, 200, 4), np.uint8))
    write(tmp_path / "b" / "large.webp", np.zeros((150, 100, 4), np.uint8))
    # Only one pixel wide or high: small, if only their sides were counted.
    write(tmp_path / "b" / "sliver.png", np.zeros((1, 70000), np.uint8))
    monkeypatch.setattr(picture, "ROOM", 200_000)
    images = load_images(tmp_path, size=(6, 5))
    assert [str(file) for file in images.unreadable] == [
        "a/large.png: too large: 200 x 300 pixels of PNG take 0 MiB to decode, at most 0 are "
        "taken; scale it down first",
        "b/large.webp: too large: 100 x 150 pixels of WEBP take 0 MiB to decode, at most 0 are "
        "taken; scale it down first",
        "b/sliver.png: too large: 70,000 x 1 pixels of PNG take 0 MiB to decode, at most 0 are "
        "taken; scale it down first",
    ]
    with pytest.raises(DataCorrupt, match=r"large\.png: too large: 200 x 300 pixels"):
        picture.read_picture(tmp_path / "a" / "large.png", (3, 8, 8))
    with pytest.raises(DataCorrupt, match=r"large\.png: .*too large: 200 x 300 pixels"):
        read_image(tmp_path / "a" / "large.png")


def test_threads_share_the_memory_for_decoding(tmp_path, monkeypatch):
    """Eight threads need 9,600 bytes each, out of 20,000: never more than two run at once."""
    path = write(tmp_path / "a.png", noise(1, 40, 40, 3))
    monkeypatch.setattr(picture, "ROOM", 20_000)
    inside, most, lock = [0], [0], threading.Lock()
    whole = picture._fill

    def fill(*arguments):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        with lock:
            inside[0] -= 1
        return whole(*arguments)

    monkeypatch.setattr(picture, "_fill", fill)
    with quiet_pillow():
        threads = [threading.Thread(target=decode, args=(path, (3, 8, 8))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most[0] == 2
    assert picture._room.taken == 0


def test_a_failed_picture_releases_its_memory(tmp_path):
    content = png()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    for _ in range(3):
        with pytest.raises(DataCorrupt):
            picture.read_picture(tmp_path / "a.png", (3, 8, 8))
    assert picture._room.taken == 0


def test_a_large_picture_of_a_digit_is_scaled(tmp_path):
    pixels = np.full((600, 400), 255, np.uint8)
    pixels[100:500, 180:220] = 0
    path = write(tmp_path / "one.png", pixels)
    small = image_file.frame_digit(read_image(path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_file, "LARGEST", 150)
        assert read_image(path).shape == (150, 100)
        scaled = image_file.frame_digit(read_image(path))
    assert np.abs(small - scaled).max() < 0.15
    assert read_image(path).shape == (600, 400)


def test_pillows_warnings_do_not_reach_the_user(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(tiff(6, BEYOND)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture.read_picture(tmp_path / "a.jpg", (3, 8, 8))
