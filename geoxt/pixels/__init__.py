"""The pixel engine: windowed reads from files, coordinates between grids, and resampling."""
