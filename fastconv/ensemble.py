"""Earlier place of `fastconv.models.ensemble`, kept for code that imports it from here."""

from .models.ensemble import Ensemble, is_ensemble_file

__all__ = ["Ensemble", "is_ensemble_file"]
