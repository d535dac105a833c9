"""Fidelity metrics beside CAS: IS, FID, KID, precision, recall, density and coverage, on shards."""

from caskit.evaluate.fidelity.cache import default_folder
from caskit.evaluate.fidelity.extractor import Extractor, Identity, Outputs, open_extractor
from caskit.evaluate.fidelity.measuring import measure
from caskit.evaluate.fidelity.numbers import Settings
from caskit.evaluate.fidelity.record import METRICS_NAME, read_metrics

__all__ = [
    "METRICS_NAME",
    "Extractor",
    "Identity",
    "Outputs",
    "Settings",
    "default_folder",
    "measure",
    "open_extractor",
    "read_metrics",
]
