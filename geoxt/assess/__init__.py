"""Assessment of maps: samples, accuracy and areas with confidence intervals, and the area of applicability; reports."""

from geoxt.assess.accuracy import AccuracyEstimate, estimate_from_counts
from geoxt.assess.continuous import ContinuousEstimate
from geoxt.assess.design import sample_design
from geoxt.assess.dissimilarity_map import applicability
from geoxt.assess.label_blocks import estimate_from_labels
from geoxt.assess.labeled_sample import estimate
from geoxt.assess.report_files import write_report
from geoxt.assess.sample_files import write_sample
from geoxt.assess.survey import Estimate
from geoxt.assess.training_features import TrainingDissimilarity, training_dissimilarity

__all__ = [
    "AccuracyEstimate",
    "ContinuousEstimate",
    "Estimate",
    "TrainingDissimilarity",
    "applicability",
    "estimate",
    "estimate_from_counts",
    "estimate_from_labels",
    "sample_design",
    "training_dissimilarity",
    "write_report",
    "write_sample",
]
