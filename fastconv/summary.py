"""Earlier place of `fastconv.network.summary`, kept for code that imports it from here."""

from .network.summary import LayerFacts, layer_facts, summary

__all__ = ["LayerFacts", "layer_facts", "summary"]
