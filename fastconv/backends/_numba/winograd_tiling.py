"""How the tiles of a Winograd convolution are cut into blocks for the threads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from .winograd import CAPACITY, room
from .words.pointer import LINE

__all__ = ["Tiling", "evenly", "tiling"]

LEAST = 8
"""Least tiles of a block: fewer do not pay for reading the filters."""

BLOCK_BYTES = 1 << 18
"""For V and M of a block."""


@dataclass(frozen=True)
class Tiling:
    """Blocks of tiles.

    Attributes
    ----------
    down, across : int
        Tiles of an image.
    groups : int
        Groups of images, nearly equal; a block has tiles of one group.
    rows, columns : int
        Rows of tiles of a block and tiles of a row, at most.
    pieces : int
        Pieces that the output channels are cut into, where there are too few blocks for all
        threads.
    units : int
        Blocks times pieces.
    scratch : int
        Elements of a thread's scratch.
    """

    down: int
    across: int
    groups: int
    rows: int
    columns: int
    pieces: int
    units: int
    scratch: int

    @property
    def fields(self) -> dict[str, int]:
        """As the kernel takes it."""
        whole = {"tiles_y": self.down, "tiles_x": self.across, "groups": self.groups}
        most = {"most_y": self.rows, "most_x": self.columns}
        return {**whole, **most, "pieces": self.pieces, "scratch_size": self.scratch}


def evenly(whole: int, most: int) -> int:
    """The size of the fewest nearly equal pieces of `whole` that have at most `most`."""
    return -(-whole // -(-whole // most))


@lru_cache(maxsize=256)
def tiling(
    sides: tuple[int, int],
    images: int,
    height: int,
    width: int,
    depth: int,
    blocks: int,
    shape: tuple[int, int, int],
    itemsize: int,
    threads: int,
) -> Tiling:
    """Cut the tiles that cover height x width outputs of each image.

    Parameters
    ----------
    sides : (my, mx)
        Of a tile, in outputs.
    depth, blocks : int
        Channels in, and blocks of channels out.
    shape : (lanes, rows, vectors)
        The register tile.
    """
    lanes, rows_of_tile, vectors = shape
    my, mx = sides
    frequencies, planes = (my + 2) * (mx + 2), -(-depth // lanes)
    down, across = -(-height // my), -(-width // mx)
    most = BLOCK_BYTES // (frequencies * (planes + vectors) * lanes * itemsize)
    most = max(LEAST, min(most, CAPACITY, -(-images * down * across // threads)))
    columns = evenly(across, most)
    rows = evenly(down, max(1, most // columns)) if columns == across else 1
    groups = images
    if (rows, columns) == (down, across):
        groups = -(-images // max(1, most // (rows * columns)))
        groups = min(images, -(-groups // threads) * threads)
    count = groups * -(-down // rows) * -(-across // columns)
    pieces = min(-(-threads // count), blocks)
    v_and_m = frequencies * (planes + vectors) * room(rows_of_tile) * lanes
    window = (my * rows + 2) * (mx * columns + 2) * planes * lanes
    scratch = v_and_m + my * mx * lanes + CAPACITY + window
    line = LINE // itemsize
    scratch = -(-scratch // line) * line
    return Tiling(down, across, groups, rows, columns, pieces, count * pieces, scratch)
