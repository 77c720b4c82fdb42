"""Embeddings: tables of archives, similarity search, classifiers on tables, lazy layers of similarity and change."""

from geoxt.embeddings.lazy_views import change, kmeans, pca, similar
from geoxt.embeddings.parquet_tables import read_parquet
from geoxt.embeddings.table_classifiers import knn, linear_probe, random_forest
from geoxt.embeddings.vector_index import VectorIndex, build_index, open_index

__all__ = [
    "VectorIndex",
    "build_index",
    "change",
    "kmeans",
    "knn",
    "linear_probe",
    "open_index",
    "pca",
    "random_forest",
    "read_parquet",
    "similar",
]
