"""The namespace tf.compat.v1.estimator.experimental."""

from runner.estimator.canned.kmeans import KMeans
from runner.estimator.export.receivers import build_raw_supervised_input_receiver_fn

__all__ = ["KMeans", "build_raw_supervised_input_receiver_fn"]
