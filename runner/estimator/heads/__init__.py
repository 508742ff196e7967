"""Heads: what turns logits into loss, predictions, metrics and a training op."""

from runner.estimator.heads.binary_class import BinaryClassHead
from runner.estimator.heads.head import Head
from runner.estimator.heads.multi_class import MultiClassHead

__all__ = ["BinaryClassHead", "Head", "MultiClassHead"]
