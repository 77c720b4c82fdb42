"""Layers from data cubes: Zarr stores, NetCDF and GRIB files, and Datasets of xarray."""
