"""How all pictures are drawn and written.

They are drawn on Matplotlib's figure objects, not through pyplot, which would need a window system,
change global state, and leave figures behind in the caller's process.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependency
from ..io.atomic import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    *("BLUE", "GREEN", "GREY", "ORANGE", "PURPLE", "RED"),
    *("drawing", "finished", "frame", "new_figure", "save"),
]

BLUE, ORANGE, RED, GREEN, GREY = "#1f5fa8", "#d9730d", "#b3261e", "#1b7340", "#5f6368"
PURPLE = "#6a3d9a"
DPI, NOTEBOOK_DPI = 150, 100


@contextmanager
def drawing() -> Iterator[None]:
    """Use Matplotlib's default settings, except for the fonts, in a ``with`` block or function.

    A matplotlibrc may let LaTeX set all texts, but LaTeX may be missing, and would interpret the
    names of classes; it may turn images upside down, and so on.

    Raises
    ------
    MissingDependency
        Matplotlib is not installed, or does not start.
    """
    try:
        import matplotlib.figure
    except ImportError:
        raise MissingDependency("pictures need Matplotlib: pip install matplotlib") from None
    except OSError as error:  # there is no folder for its cache, not even a temporary one
        raise MissingDependency(
            f"pictures need Matplotlib, which does not start: {error}"
        ) from None
    settings = matplotlib.rcParams
    fonts = {name: settings[name] for name in settings if name.startswith("font.")}
    del fonts["font.size"]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings.update(fonts)
        yield


def frame(left: float, top: float, width: int, height: int) -> Any:
    """The border of an image."""
    from matplotlib.patches import Rectangle

    style: dict[str, Any] = {
        "fill": False,
        "edgecolor": "#c4c7cc",
        "linewidth": 0.6,
        "clip_on": False,
    }
    return Rectangle((left, top), width, height, **style)


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches, to be drawn inside `drawing`; a notebook shows it."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width, height), layout=layout)
    # Of a figure that pyplot has not made, Jupyter would show the type and size alone.
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure


@drawing()
def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=NOTEBOOK_DPI)
    return content.getvalue()


MORE_FONTS = (
    *("Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "IPAGothic", "TakaoGothic", "VL Gothic"),
    *("Hiragino Sans", "Yu Gothic", "Meiryo", "MS Gothic", "Noto Sans CJK SC", "WenQuanYi Zen Hei"),
    *("PingFang SC", "Microsoft YaHei", "SimHei", "Apple SD Gothic Neo", "Malgun Gothic"),
    *("NanumGothic", "Arial Unicode MS", "Unifont", "Noto Emoji", "Segoe UI Emoji"),
)
"""System fonts for characters that Matplotlib's own font lacks, Japanese first."""


def finished(figure: Figure) -> Figure:
    """The figure with fonts for names of any script."""
    from matplotlib.font_manager import get_font_names
    from matplotlib.text import Text

    installed = set(get_font_names())
    more = [font for font in MORE_FONTS if font in installed]
    for text in figure.findobj(Text):
        if not text.get_text().isascii():
            text.set_fontfamily([*text.get_fontfamily(), *more])
    return figure


@drawing()
def save(figure: Figure, path: str | PathLike[str]) -> str:
    """Write a figure as a PNG file, atomically.

    Returns
    -------
    str
        Characters that no installed font has: boxes stand for them.
    """
    with replace_file(path) as file, warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message=_NO_GLYPH)
        figure.savefig(file, format="png", dpi=DPI)
    lacking = set()
    for warning in caught:
        if match := re.match(_NO_GLYPH, str(warning.message)):
            lacking.add(chr(int(match[1])))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return "".join(sorted(lacking))


_NO_GLYPH = r"Glyph (\d+) .*missing from"
