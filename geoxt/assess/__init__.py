"""Assessment of maps: samples, accuracy and areas, calibration, conformal sets, applicability; report."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geoxt.assess.accuracy import AccuracyEstimate, estimate_from_counts
from geoxt.assess.conformal_sets import ConformalIntervals, ConformalSets
from geoxt.assess.continuous import ContinuousEstimate
from geoxt.assess.design import sample_design
from geoxt.assess.dissimilarity_map import applicability
from geoxt.assess.label_blocks import estimate_from_labels
from geoxt.assess.labeled_sample import estimate
from geoxt.assess.reliability import Reliability
from geoxt.assess.report_files import write_report
from geoxt.assess.sample_files import write_sample
from geoxt.assess.survey import Estimate
from geoxt.assess.training_features import TrainingDissimilarity, training_dissimilarity

if TYPE_CHECKING:
    from geoxt.assess.calibration import Calibration as Calibration
    from geoxt.assess.calibration import calibrate as calibrate
    from geoxt.assess.conformal_prediction import conformal as conformal

__all__ = [
    "AccuracyEstimate",
    "Calibration",
    "ConformalIntervals",
    "ConformalSets",
    "ContinuousEstimate",
    "Estimate",
    "Reliability",
    "TrainingDissimilarity",
    "applicability",
    "calibrate",
    "conformal",
    "estimate",
    "estimate_from_counts",
    "estimate_from_labels",
    "sample_design",
    "training_dissimilarity",
    "write_report",
    "write_sample",
]

_MODULE_OF = {
    "Calibration": "geoxt.assess.calibration",
    "calibrate": "geoxt.assess.calibration",
    "conformal": "geoxt.assess.conformal_prediction",
}


def __getattr__(name: str) -> Any:
    """Import functions that run models on first use (PEP 562): the others need no torch."""
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    msg = f"module 'geoxt.assess' has no attribute {name!r}"
    raise AttributeError(msg)
