"""Data modules: windows of layers, samples of datasets, image folders and unlabeled windows."""
