"""Assessment of maps: probability samples, accuracy and areas with confidence intervals."""

from geoxt.assess.accuracy import AccuracyEstimate, estimate_from_counts
from geoxt.assess.continuous import ContinuousEstimate
from geoxt.assess.design import sample_design
from geoxt.assess.labeled_sample import estimate
from geoxt.assess.sample_files import write_sample
from geoxt.assess.survey import Estimate

__all__ = [
    "AccuracyEstimate",
    "ContinuousEstimate",
    "Estimate",
    "estimate",
    "estimate_from_counts",
    "sample_design",
    "write_sample",
]
