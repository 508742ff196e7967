"""add_metrics: an estimator that reports more of an evaluation than its model_fn does."""

from collections.abc import Callable
from typing import Any

from runner.estimator import estimator_v1
from runner.estimator.arguments import check_arguments
from runner.estimator.estimator import Estimator
from runner.estimator.model_fn import EstimatorSpec, ModeKeys
from runner.estimator.run_config import RunConfig
from runner.estimator.signatures import argument_names

__all__ = ["add_metrics"]

_ARGUMENTS = {"features", "labels", "predictions", "config"}


def add_metrics(estimator: Estimator, metric_fn: Callable[..., dict[str, Any]]) -> Estimator:
    """Makes an estimator over the same model_dir whose evaluations have metrics of its own, too.

    Args:
        estimator: Stays as it is.
        metric_fn: Takes any of `features` and `labels` (of the input), `predictions` (of the model_fn) and `config`;
            returns metrics by name as `eval_metric_ops` of an EstimatorSpec has them. They replace those of the same
            name. Called in the graph of every evaluation.

    Returns:
        An Estimator with the config and warm start of the given one.

    Raises:
        ValueError: metric_fn takes something else.
    """
    check_arguments(metric_fn, _ARGUMENTS, role="metric_fn")
    names = argument_names(metric_fn)

    def model_fn(features: Any, labels: Any, mode: str, config: RunConfig) -> EstimatorSpec:
        spec = estimator.model_fn(features, labels, mode, config)
        if mode != ModeKeys.EVAL:
            return spec
        available = {"features": features, "labels": labels, "predictions": spec.predictions, "config": config}
        added = metric_fn(**{name: available[name] for name in names})
        return spec._replace(eval_metric_ops={**spec.eval_metric_ops, **added})

    # As in the original, one that code for TensorFlow 1 can export, too.
    return estimator_v1.Estimator(
        model_fn,
        model_dir=estimator.model_dir,
        config=estimator.config,
        warm_start_from=estimator._warm_start_settings,  # noqa: SLF001 - both are estimators
    )
