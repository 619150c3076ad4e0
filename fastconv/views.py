"""Earlier place of `fastconv.network.views`, kept for code that imports it from here."""

from .network.views import View, Views, shifted_views

__all__ = ["View", "Views", "shifted_views"]
