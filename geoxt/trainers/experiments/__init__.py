"""Experiments: runs over a grid of settings, their results and the tables that report them."""
