"""The namespace tf.estimator.experimental."""

from runner.estimator.canned.rnn import RNNClassifier, RNNEstimator

__all__ = ["RNNClassifier", "RNNEstimator"]
