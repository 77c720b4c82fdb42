"""Probes of frozen encoders on labeled images: nearest neighbors, linear probes, few-shot curves and robustness."""

from geoxt.probes.labeled_images import LabeledImages, open_images
from geoxt.probes.probe_runs import run_probes
from geoxt.probes.protocols import ProbeOptions

__all__ = ["LabeledImages", "ProbeOptions", "open_images", "run_probes"]
