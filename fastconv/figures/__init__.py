"""Pictures of a run and of a network, as Matplotlib's figures; `save` writes one as a PNG file.

A figure is drawn without pyplot: it belongs to the caller alone, and a notebook shows it.
"""

from .inside import feature_maps, filters, first_filters
from .network_graph import graph
from .results import confusion, curves, mistakes, samples
from .style import save
from .trials import search, search_curves

__all__ = [
    "confusion",
    "curves",
    "feature_maps",
    "filters",
    "first_filters",
    "graph",
    "mistakes",
    "samples",
    "save",
    "search",
    "search_curves",
]
