"""Heads: what turns logits into loss, predictions, metrics and a training op."""

from runner.estimator.heads.binary_class import BinaryClassHead
from runner.estimator.heads.head import Head
from runner.estimator.heads.multi_class import MultiClassHead
from runner.estimator.heads.multi_head import MultiHead
from runner.estimator.heads.multi_label import MultiLabelHead
from runner.estimator.heads.regression import LogisticRegressionHead, PoissonRegressionHead, RegressionHead

__all__ = [
    "BinaryClassHead",
    "Head",
    "LogisticRegressionHead",
    "MultiClassHead",
    "MultiHead",
    "MultiLabelHead",
    "PoissonRegressionHead",
    "RegressionHead",
]
