"""Metrics: confusion matrices, multi-label and regression scores, average precision, maps against labels."""
