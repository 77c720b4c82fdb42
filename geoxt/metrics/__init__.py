"""Metrics: confusion matrices, multi-label and regression scores, average precision, accuracy of maps."""
