"""Earlier place of `fastconv.network.transfer`, kept for code that imports it from here."""

from .network.transfer import TransferReport, take_weights

__all__ = ["TransferReport", "take_weights"]
