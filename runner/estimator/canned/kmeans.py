"""KMeans: cluster centers found by Lloyd's algorithm, over the whole input or over mini-batches."""

from collections.abc import Callable, Generator, Iterable
from typing import Any, Final

import numpy as np
import tensorflow as tf

# TensorFlow still has the algorithm and its kernels, but exports them under no public name.
from tensorflow.python.ops import clustering_ops
from tensorflow.python.saved_model.model_utils import export_output

from runner.estimator.estimator_v1 import Estimator
from runner.estimator.model_fn import EstimatorSpec
from runner.estimator.run_config import RunConfig

__all__ = ["KMeans"]

_v1 = tf.compat.v1


class KMeans(Estimator):
    """Finds cluster centers; a re-creation of tf.compat.v1.estimator.experimental.KMeans.

    Training takes one task: the centers are moved by no optimizer, so that there is no gradient to average.

    Args:
        num_clusters: Number of clusters; not used if initial_clusters holds the centers.
        model_dir: See Estimator.
        initial_clusters: RANDOM_INIT: points of the first batches; KMEANS_PLUS_PLUS_INIT: points of the first batch
            that are far from each other; the centers themselves, `[num_clusters, dimension]`; or a callable of a list
            with the batch and the number of centers still missing, which returns any number of them up to that.
        distance_metric: SQUARED_EUCLIDEAN_DISTANCE or COSINE_DISTANCE.
        seed: Of the choice of the first centers.
        use_mini_batch: Move the centers by every batch. If False, every batch must be the whole input, and a step is
            one iteration of Lloyd's algorithm.
        mini_batch_steps_per_iteration: After how many mini-batches the centers that points are assigned to move.
        kmeans_plus_plus_num_retries: Candidates beyond the first one, for each center that k-means++ chooses; a
            negative number means one that grows with the logarithm of num_clusters.
        relative_tolerance: Training ends once the loss changes from one step to the next by less than this part of it;
            None means never.
        config: See Estimator.
        feature_columns: Dense columns of tf.feature_column that make points of the features; None joins all features,
            in the order of their names.

    Raises:
        ValueError: Unknown initial_clusters or distance_metric.
    """

    SQUARED_EUCLIDEAN_DISTANCE: Final = "squared_euclidean"
    COSINE_DISTANCE: Final = "cosine"
    RANDOM_INIT: Final = "random"
    KMEANS_PLUS_PLUS_INIT: Final = "kmeans_plus_plus"
    SCORE: Final = "score"
    CLUSTER_INDEX: Final = "cluster_index"
    ALL_DISTANCES: Final = "all_distances"
    CLUSTER_CENTERS_VAR_NAME: Final = "clusters"

    def __init__(
        self,
        num_clusters: int,
        model_dir: str | None = None,
        initial_clusters: Any = RANDOM_INIT,
        distance_metric: str = SQUARED_EUCLIDEAN_DISTANCE,
        seed: int | None = None,
        use_mini_batch: bool = True,
        mini_batch_steps_per_iteration: int = 1,
        kmeans_plus_plus_num_retries: int = 2,
        relative_tolerance: float | None = None,
        config: RunConfig | None = None,
        feature_columns: Iterable[Any] | None = None,
    ) -> None:
        if isinstance(initial_clusters, str) and initial_clusters not in (self.RANDOM_INIT, self.KMEANS_PLUS_PLUS_INIT):
            raise ValueError(f"Unsupported initialization algorithm '{initial_clusters}'")
        if distance_metric not in (self.SQUARED_EUCLIDEAN_DISTANCE, self.COSINE_DISTANCE):
            raise ValueError(f"Unsupported distance metric '{distance_metric}'")
        self._distance_metric = distance_metric
        columns = list(feature_columns) if feature_columns else None

        def model_fn(features: Any, mode: str) -> EstimatorSpec:
            algorithm = clustering_ops.KMeans(
                inputs=_points(features, columns),
                num_clusters=num_clusters,
                initial_clusters=initial_clusters,
                distance_metric=distance_metric,
                use_mini_batch=use_mini_batch,
                mini_batch_steps_per_iteration=mini_batch_steps_per_iteration,
                random_seed=seed,
                kmeans_plus_plus_num_retries=kmeans_plus_plus_num_retries,
            )
            return _spec(algorithm, mode, relative_tolerance=relative_tolerance)

        super().__init__(model_fn=model_fn, model_dir=model_dir, config=config)

    def predict_cluster_index(self, input_fn: Callable[..., Any]) -> Generator[Any, None, None]:
        """Yields the index of the nearest center of every point, int64.

        Args:
            input_fn: See `predict`.
        """
        yield from self._predict_one(input_fn, self.CLUSTER_INDEX)

    def score(self, input_fn: Callable[..., Any]) -> Any:
        """The sum of the distances of the points to their nearest centers, which grows as the fit gets worse.

        Args:
            input_fn: See `evaluate`; its first batch only is read.
        """
        return self.evaluate(input_fn=input_fn, steps=1)[self.SCORE]

    def transform(self, input_fn: Callable[..., Any]) -> Generator[Any, None, None]:
        """Yields the distances of every point to all centers, `[num_clusters] float32`; not squared.

        Args:
            input_fn: See `predict`.
        """
        squared = self._distance_metric == self.SQUARED_EUCLIDEAN_DISTANCE
        for distances in self._predict_one(input_fn, self.ALL_DISTANCES):
            yield np.sqrt(distances) if squared else distances

    def cluster_centers(self) -> Any:
        """The centers of the latest checkpoint, `[num_clusters, dimension] float32`.

        Raises:
            ValueError: There is no checkpoint.
        """
        return self.get_variable_value(self.CLUSTER_CENTERS_VAR_NAME)

    def _predict_one(self, input_fn: Callable[..., Any], key: str) -> Generator[Any, None, None]:
        for prediction in self.predict(input_fn=input_fn, predict_keys=[key]):
            yield prediction[key]


def _points(features: Any, columns: list[Any] | None) -> Any:
    """The points of a batch, `[batch, dimension] float32`."""
    if not isinstance(features, dict):
        return features
    if columns:
        return _v1.feature_column.input_layer(features, columns)
    return tf.concat([features[name] for name in sorted(features)], axis=1)


def _spec(algorithm: Any, mode: str, *, relative_tolerance: float | None) -> EstimatorSpec:
    # The algorithm takes shards of the input, of which there is one here: so do its lists.
    (distances,), (index,), losses, is_initialized, initialize, train = algorithm.training_graph()
    loss = tf.reduce_sum(losses)
    _v1.summary.scalar("loss/raw", loss)
    with tf.control_dependencies([train, _v1.assign_add(_v1.train.get_global_step(), 1)]):
        train_op = tf.identity(loss)
    hooks: list[Any] = [_InitializationHook(initialize, is_initialized)]
    if relative_tolerance is not None:
        hooks.append(_ToleranceHook(loss, relative_tolerance))
    return EstimatorSpec(
        mode,
        predictions={KMeans.ALL_DISTANCES: distances, KMeans.CLUSTER_INDEX: index},
        loss=loss,
        train_op=train_op,
        eval_metric_ops={KMeans.SCORE: _v1.metrics.mean(loss)},
        training_hooks=hooks,
        export_outputs={
            KMeans.ALL_DISTANCES: export_output.PredictOutput(distances),
            KMeans.CLUSTER_INDEX: export_output.PredictOutput(index),
            tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: export_output.PredictOutput(index),
        },
    )


class _InitializationHook(tf.compat.v1.train.SessionRunHook):
    """Chooses the first centers, over as many batches as it takes, before the first step."""

    def __init__(self, initialize: Any, is_initialized: Any) -> None:
        self._initialize = initialize
        self._is_initialized = is_initialized

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Runs the initialization until it is done."""
        del coord
        while not session.run(self._is_initialized):
            session.run(self._initialize)


class _ToleranceHook(tf.compat.v1.train.SessionRunHook):
    """Ends the training once the loss hardly changes."""

    def __init__(self, loss: Any, tolerance: float) -> None:
        self._loss = loss
        self._tolerance = tolerance
        self._previous: float | None = None

    def begin(self) -> None:
        """Forgets the loss of an earlier training."""
        self._previous = None

    def before_run(self, run_context: Any) -> Any:
        """Asks for the loss."""
        del run_context
        return _v1.train.SessionRunArgs(self._loss)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Compares it with that of the step before."""
        loss = run_values.results
        if self._previous is not None and abs(loss - self._previous) / (1 + abs(self._previous)) < self._tolerance:
            run_context.request_stop()
        self._previous = loss
