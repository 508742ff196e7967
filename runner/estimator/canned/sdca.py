"""Stochastic dual coordinate ascent, for linear models."""

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import tensorflow as tf

# Categorical columns have no public name.
from tensorflow.python.feature_column import feature_column_v2 as fc

from runner.estimator.canned.linear_model import build_linear_model
from runner.estimator.canned.sdca_table import ExampleStates
from runner.estimator.heads.binary_class import BinaryClassHead
from runner.estimator.heads.head import Head
from runner.estimator.heads.regression import LogisticRegressionHead, PoissonRegressionHead, RegressionHead
from runner.estimator.heads.weights import example_weights
from runner.estimator.model_fn import EstimatorSpec, ModeKeys

__all__ = ["LinearSDCA", "SDCASolver", "make_sdca_model_fn"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")


class LinearSDCA:
    """Optimizer of LinearClassifier with two classes, and of LinearRegressor with one label; no other takes it.

    Follows Shalev-Shwartz and Zhang, "Stochastic Dual Coordinate Ascent Methods for Regularized Loss Minimization",
    2013. It trains in one task only.

    Args:
        example_id_column: Feature with the ids of the examples, `[batch] string`: each has a state of its own.
        num_loss_partitions: Number of concurrent training steps over parts of the data.
        num_table_shards: Number of tables that hold the states of the examples; None means 1.
        symmetric_l1_regularization: Not below 0.
        symmetric_l2_regularization: Above 0, and typically above 1.
        adaptive: Whether to prefer examples whose state has still far to go.
    """

    def __init__(
        self,
        example_id_column: str,
        num_loss_partitions: int = 1,
        num_table_shards: int | None = None,
        symmetric_l1_regularization: float = 0.0,
        symmetric_l2_regularization: float = 1.0,
        adaptive: bool = False,
    ) -> None:
        if symmetric_l2_regularization <= 0.0:
            raise ValueError("symmetric_l2_regularization should be positive.")
        if symmetric_l1_regularization < 0.0:
            raise ValueError("symmetric_l1_regularization should be non-negative.")
        self.example_id_column = example_id_column
        self.num_loss_partitions = num_loss_partitions
        self.num_table_shards = num_table_shards or 1
        self.symmetric_l1_regularization = symmetric_l1_regularization
        self.symmetric_l2_regularization = symmetric_l2_regularization
        self.adaptive = adaptive

    def get_train_step(
        self,
        state_manager: Any,
        weight_column_name: str | None,
        loss_type: str,
        feature_columns: Iterable[Any],
        features: dict[str, Any],
        targets: Any,
        bias_var: Any,
        global_step: Any,
    ) -> tuple["SDCASolver", Any]:
        """One step over a batch, for a linear model of one's own.

        Args:
            state_manager: Holds the variable `weights` of every column.
            weight_column_name: Feature with the weights of the examples; None weighs all alike.
            loss_type: "logistic_loss", "squared_loss", "hinge_loss", "smooth_hinge_loss" or "poisson_loss".
            feature_columns: The columns of the model.
            features: Tensors by name.
            targets: `[batch]` or `[batch, 1]`.
            bias_var: The bias, `[1] float32`.
            global_step: Counts the step; None for no count.

        Returns:
            The solver, and the op of the step. `solver.update_weights(op)` makes the op that then gives the model its
            weights.
        """
        solver = SDCASolver(self, loss_type, state_manager, feature_columns, bias_var)
        solver.summarize()
        labels = tf.reshape(tf.cast(targets, tf.float32), [-1])
        weights = tf.ones_like(labels) if weight_column_name is None else tf.reshape(features[weight_column_name], [-1])
        examples = _Examples(labels, weights, tf.raw_ops.SdcaFprint(input=features[self.example_id_column]))
        return solver, solver.minimize(features, examples, global_step)


def make_sdca_model_fn(
    head: Head, feature_columns: Iterable[Any], optimizer: LinearSDCA, sparse_combiner: str
) -> Callable[..., EstimatorSpec]:
    """The model_fn of a linear model that LinearSDCA trains.

    Args:
        head: With one logit, of two classes or of regression.
        feature_columns: See LinearClassifier.
        optimizer: What trains it.
        sparse_combiner: Has to be "sum".

    Raises:
        ValueError: The head, or sparse_combiner, is another one.
    """
    if sparse_combiner != "sum":
        raise ValueError('sparse_combiner must be "sum" when optimizer is a LinearSDCA object.')
    loss_type = _loss_type(head)
    columns = tuple(feature_columns or ())

    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        if not isinstance(features, dict):
            raise ValueError(  # noqa: TRY004 - the original raises it
                f"features should be a dictionary of `Tensor`s. Given type: {type(features)}"
            )
        model, logits = build_linear_model(
            features, 1, scope="linear/linear_model", feature_columns=columns, sparse_combiner=sparse_combiner
        )
        if mode != ModeKeys.TRAIN:
            return head.create_estimator_spec(features, mode, logits.values, labels=labels)
        examples = _examples(head, features, labels, logits.values, id_column=optimizer.example_id_column)
        solver = SDCASolver(optimizer, loss_type, model, columns, model.bias)
        solver.summarize()

        def train_op_fn(loss: Any) -> Any:
            with tf.control_dependencies([loss]):  # that of the weights before the step
                step = solver.minimize(features, examples, _v1.train.get_global_step())
            return solver.update_weights(step)

        return head.create_estimator_spec(
            features,
            mode,
            logits.values,
            labels=labels,
            train_op_fn=train_op_fn,
        )

    return model_fn


def _loss_type(head: Any) -> str:
    if isinstance(head, BinaryClassHead):
        return "logistic_loss"
    if isinstance(head, RegressionHead) and not isinstance(head, (LogisticRegressionHead, PoissonRegressionHead)):
        if head.logits_dimension > 1:
            raise ValueError("LinearSDCA can only be used with one-dimensional label.")
        return "squared_loss"
    if head.logits_dimension > 1:
        raise ValueError("LinearSDCA cannot be used in a multi-class setting.")
    raise ValueError(f"Unsupported head type: {head}")


class _Examples(NamedTuple):
    """One batch: labels and weights `[batch] float32`, fingerprints of the ids `[batch, 2] int64`."""

    labels: Any
    weights: Any
    fingerprints: Any


def _examples(head: Any, features: dict[str, Any], labels: Any, logits: Any, *, id_column: str) -> _Examples:
    labels = tf.reshape(tf.cast(head._processed_labels(labels, logits), tf.float32), [-1])  # noqa: SLF001
    weights = example_weights(features, head._weight_column, logits)  # noqa: SLF001 - both are our own
    if id_column not in features:
        raise ValueError(f"Feature {id_column} is not in features dictionary.")
    return _Examples(
        labels,
        tf.ones_like(labels) if weights is None else tf.reshape(weights, [-1]),
        tf.raw_ops.SdcaFprint(input=features[id_column]),
    )


class _Sparse(NamedTuple):
    """A categorical column in one batch: `[n]` rows, ids and values, each pair of row and id once."""

    rows: Any
    ids: Any
    values: Any


class SDCASolver:
    """The variables of SDCA next to those of a model, and the ops that update both.

    The `_unshrunk` twin of a variable is what the dual states add up to; L1 shrinks what the model sees of it.
    """

    def __init__(
        self, optimizer: LinearSDCA, loss_type: str, state_manager: Any, columns: Iterable[Any], bias: Any
    ) -> None:
        self._optimizer = optimizer
        self._loss_type = loss_type
        self._state_manager = state_manager
        by_name = sorted(columns, key=lambda column: str(column.name))
        self._sparse_columns = [column for column in by_name if isinstance(column, fc.CategoricalColumn)]
        self._dense_columns = [column for column in by_name if not isinstance(column, fc.CategoricalColumn)]
        self._sparse = [state_manager.get_variable(column, "weights") for column in self._sparse_columns]
        self._dense = [*(state_manager.get_variable(column, "weights") for column in self._dense_columns), bias]
        self._unshrunk = {variable.ref(): _twin(variable) for variable in [*self._sparse, *self._dense]}
        self._states = ExampleStates(optimizer.num_table_shards)
        if optimizer.symmetric_l2_regularization <= 1.0:
            _logger.warning(
                "symmetric_l2_regularization for SDCA should typically be larger than for online optimization methods. "
                "Recommended value is of the order of the average L2 norm of the training examples."
            )

    def summarize(self) -> None:
        """Adds summaries of the duality gap, which is 0 at the optimum, and of the number of examples seen."""
        _, primal_loss, dual_loss, weight = tf.unstack(self._states.total(), 4)
        weights = [tf.cast(variable, tf.float64) for variable in [*self._sparse, *self._dense]]
        l1 = self._optimizer.symmetric_l1_regularization * tf.add_n([tf.reduce_sum(tf.abs(each)) for each in weights])
        l2 = self._optimizer.symmetric_l2_regularization * tf.add_n([tf.nn.l2_loss(each) for each in weights])
        _v1.summary.scalar("approximate_duality_gap", (primal_loss + dual_loss + l1 + 2.0 * l2) / weight)
        _v1.summary.scalar("examples_seen", self._states.size())

    def minimize(self, features: dict[str, Any], examples: "_Examples", global_step: Any) -> Any:
        """The op of one step: updates the states, the twins, and global_step, if that is given."""
        cache, manager = fc.FeatureTransformationCache(features), self._state_manager
        sparse = [_unique(column, *column.get_sparse_tensors(cache, manager)) for column in self._sparse_columns]
        dense = [_matrix(column, column.get_dense_tensor(cache, manager)) for column in self._dense_columns]
        dense.append(tf.ones([tf.size(examples.labels), 1]))
        touched = [tf.unique(each.ids)[0] for each in sparse]
        sparse_twins = [self._unshrunk[variable.ref()] for variable in self._sparse]
        dense_twins = [self._unshrunk[variable.ref()] for variable in self._dense]
        states, sparse_deltas, dense_deltas = tf.raw_ops.SdcaOptimizerV2(
            sparse_example_indices=[each.rows for each in sparse],
            sparse_feature_indices=[each.ids for each in sparse],
            sparse_feature_values=[each.values for each in sparse],
            dense_features=dense,
            example_weights=examples.weights,
            example_labels=examples.labels,
            sparse_indices=touched,
            sparse_weights=[tf.gather(twin, ids) for twin, ids in zip(sparse_twins, touched, strict=True)],
            dense_weights=[tf.identity(twin) for twin in dense_twins],
            example_state_data=self._states.lookup(examples.fingerprints),
            loss_type=self._loss_type,
            l1=self._optimizer.symmetric_l1_regularization,
            l2=self._optimizer.symmetric_l2_regularization,
            num_loss_partitions=self._optimizer.num_loss_partitions,
            num_inner_iterations=1,
            adaptive=self._optimizer.adaptive,
        )
        with tf.control_dependencies([states]):
            updates = [self._states.insert(examples.fingerprints, states)]
            for twin, ids, delta in zip(sparse_twins, touched, sparse_deltas, strict=True):
                updates.append(twin.scatter_add(tf.IndexedSlices(delta, ids)))
            for twin, delta in zip(dense_twins, dense_deltas, strict=True):
                updates.append(twin.assign_add(delta))
        with tf.control_dependencies(updates):
            return tf.no_op() if global_step is None else global_step.assign_add(1).op

    def update_weights(self, train_op: Any) -> Any:
        """The op that, after that of a step, gives the model the values of the twins, all nearer to 0 by L1."""
        by = self._optimizer.symmetric_l1_regularization / self._optimizer.symmetric_l2_regularization
        assignments = []
        with tf.control_dependencies([train_op]):
            for variable in [*self._sparse, *self._dense]:
                value = self._unshrunk[variable.ref()].read_value()
                assignments.append(variable.assign(tf.sign(value) * tf.maximum(0.0, tf.abs(value) - by)))
        return tf.group(*assignments)


def _twin(variable: Any) -> Any:
    return _v1.get_variable(
        f"{variable.op.name}_unshrunk",
        variable.shape,
        initializer=_v1.zeros_initializer(),
        trainable=False,
        use_resource=True,
    )


def _unique(column: Any, ids: Any, weights: Any) -> _Sparse:
    """Known categories alone, with the sum of the weights of those that an example has several times."""
    values = tf.ones_like(ids.values, tf.float32) if weights is None else tf.cast(weights.values, tf.float32)
    known = ids.values >= 0
    width = tf.constant(column.num_buckets, tf.int64)
    pairs = ids.indices[:, 0] * width + tf.cast(ids.values, tf.int64)
    pairs, places = tf.unique(tf.boolean_mask(pairs, known), tf.int32)
    sums = tf.math.unsorted_segment_sum(tf.boolean_mask(values, known), places, tf.size(pairs))
    return _Sparse(pairs // width, pairs % width, sums)


def _matrix(column: Any, values: Any) -> Any:
    """A dense column as `[batch, n]`."""
    if column.variable_shape.rank != 1:
        raise ValueError(f"Column {type(column).__name__} has rank {column.variable_shape.rank}, larger than 1.")
    return values
