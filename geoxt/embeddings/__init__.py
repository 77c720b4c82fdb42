"""Learning from few points: classifiers on tables of pixels or embeddings, and lazy layers of similarity and change."""

from geoxt.embeddings.lazy_views import change, kmeans, pca, similar
from geoxt.embeddings.table_classifiers import knn, linear_probe, random_forest

__all__ = ["change", "kmeans", "knn", "linear_probe", "pca", "random_forest", "similar"]
