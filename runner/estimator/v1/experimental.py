"""The namespace tf.compat.v1.estimator.experimental."""

from runner.estimator.canned.kmeans import KMeans

__all__ = ["KMeans"]
