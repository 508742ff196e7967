"""Metrics of probabilities that are cut at thresholds."""

from collections.abc import Iterable
from typing import Any

import tf_keras

__all__ = ["metrics_at", "update_metrics_at"]

_METRICS = ("accuracy", "precision", "recall")


def metrics_at(thresholds: Iterable[float]) -> dict[str, Any]:
    """New metrics of accuracy, precision and recall, such as `recall/positive_threshold_0.5`, for each threshold."""
    metrics: dict[str, Any] = {}
    for threshold in thresholds:
        accuracy, precision, recall = _keys(threshold)
        metrics[accuracy] = tf_keras.metrics.BinaryAccuracy(name=accuracy, threshold=threshold)
        metrics[precision] = tf_keras.metrics.Precision(name=precision, thresholds=threshold)
        metrics[recall] = tf_keras.metrics.Recall(name=recall, thresholds=threshold)
    return metrics


def update_metrics_at(
    thresholds: Iterable[float], metrics: dict[str, Any], labels: Any, probabilities: Any, weights: Any
) -> None:
    """Tells the metrics of `metrics_at` about a batch.

    Args:
        thresholds: As given to `metrics_at`.
        metrics: Among others, what `metrics_at` returned.
        labels: 0 or 1, `[..., K]`.
        probabilities: `[..., K] float32`.
        weights: `[..., 1 or K] float32`; None for 1.
    """
    for threshold in thresholds:
        for key in _keys(threshold):
            metrics[key].update_state(labels, probabilities, sample_weight=weights)


def _keys(threshold: float) -> list[str]:
    return [f"{metric}/positive_threshold_{threshold:g}" for metric in _METRICS]
