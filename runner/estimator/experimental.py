"""The namespace tf.estimator.experimental."""

from runner.estimator.canned.rnn import RNNClassifier, RNNEstimator
from runner.estimator.export.receivers import build_raw_supervised_input_receiver_fn

__all__ = ["RNNClassifier", "RNNEstimator", "build_raw_supervised_input_receiver_fn"]
