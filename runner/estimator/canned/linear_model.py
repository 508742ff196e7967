"""The logits of a linear model over dense and categorical feature columns."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# Categorical columns and the interface of what holds their variables have no public names.
from tensorflow.python.feature_column import feature_column_v2 as fc

from runner.estimator.canned.feature_columns import check_columns, shared_embeddings
from runner.estimator.canned.parts import Logits

__all__ = ["LinearModel", "build_linear_model"]

_v1 = tf.compat.v1


class LinearModel(fc.StateManager):
    """The weights of a linear model, made in the current variable scope; calling it makes the logits.

    Args:
        feature_columns: Dense and categorical columns of tf.feature_column.
        units: Size of the last dimension of the logits.
        sparse_combiner: How the weights of several categories of one example become one: "sum", "mean" or "sqrtn".

    Raises:
        ValueError: An invalid argument, or a column of another kind.
    """

    def __init__(self, feature_columns: Sequence[Any], units: int, sparse_combiner: str) -> None:
        check_columns(feature_columns)
        self._columns = _sorted(feature_columns)
        self._sparse_combiner = sparse_combiner
        self._variables: dict[Any, dict[str, Any]] = defaultdict(dict)
        self._resources: dict[Any, dict[str, Any]] = defaultdict(dict)
        for column in self._columns:
            with _v1.variable_scope(_scope(column), auxiliary_name_scope=False):
                column.create_state(self)
                shape = (_width(column), units)
                self.create_variable(column, "weights", shape, initializer=_v1.zeros_initializer())
        self.bias = _v1.get_variable(
            "bias_weights", [units], tf.float32, initializer=_v1.zeros_initializer(), use_resource=True
        )

    @property
    def weights(self) -> list[Any]:
        """The variables of the columns, in the order of their names; not the bias, nor shared embeddings."""
        return [variable for variables in self._variables.values() for variable in variables.values()]

    def __call__(self, features: dict[str, Any]) -> Any:
        """Logits `[batch, units] float32`."""
        cache = fc.FeatureTransformationCache(features)
        sums = []
        for column in self._columns:
            with tf.name_scope(_scope(column)):
                sums.append(self._weighted_sum(column, cache))
        return tf.nn.bias_add(tf.add_n(sums), self.bias, name="weighted_sum")

    def _weighted_sum(self, column: Any, cache: Any) -> Any:
        weights = self.get_variable(column, "weights")
        if not isinstance(column, fc.CategoricalColumn):
            values = column.get_dense_tensor(cache, self)
            return tf.matmul(tf.reshape(values, [tf.shape(values)[0], _width(column)]), weights)
        ids, id_weights = column.get_sparse_tensors(cache, self)
        return tf.nn.safe_embedding_lookup_sparse(
            weights, _flat(ids), None if id_weights is None else _flat(id_weights), combiner=self._sparse_combiner
        )

    def create_variable(
        self,
        feature_column: Any,
        name: str,
        shape: Any,
        dtype: Any = None,
        trainable: bool = True,
        use_resource: bool = True,
        initializer: Any = None,
    ) -> Any:
        """Makes a variable of a column; columns call it too, for their embeddings."""
        variable = _v1.get_variable(
            name, shape, dtype or tf.float32, initializer, trainable=trainable, use_resource=use_resource
        )
        self._variables[feature_column][name] = variable
        return variable

    def get_variable(self, feature_column: Any, name: str) -> Any:
        """What create_variable made."""
        return self._variables[feature_column][name]

    def add_resource(self, feature_column: Any, name: str, resource: Any) -> None:
        """Keeps a lookup table of a column."""
        self._resources[feature_column][name] = resource

    def has_resource(self, feature_column: Any, name: str) -> bool:
        """Whether add_resource was called with that name."""
        return name in self._resources[feature_column]

    def get_resource(self, feature_column: Any, name: str) -> Any:
        """What add_resource was given."""
        return self._resources[feature_column][name]


def build_linear_model(
    features: dict[str, Any], units: int, *, scope: str, feature_columns: Sequence[Any], sparse_combiner: str
) -> tuple[LinearModel, Logits]:
    """Builds a LinearModel and its summaries.

    Args:
        features: Tensors by name.
        units: See LinearModel.
        scope: Of its variables and operations, in the current scope.
        feature_columns: See LinearModel.
        sparse_combiner: See LinearModel.

    Raises:
        ValueError: A feature that is missing, or an invalid argument.
    """
    with _v1.variable_scope(scope, auxiliary_name_scope=False):
        model = LinearModel(feature_columns, units, sparse_combiner)
    with tf.name_scope(scope):  # not the variable scope: shared embeddings are variables of the whole model
        values = model(features)
    shared = shared_embeddings(feature_columns)
    with tf.name_scope(""):
        if units > 1:
            _v1.summary.histogram("bias", model.bias)
        else:
            _v1.summary.scalar("bias", model.bias[0])
        _v1.summary.scalar("fraction_of_zero_weights", _fraction_of_zero([*shared, *model.weights]))
    trainable = {variable.ref() for variable in _v1.trainable_variables()}
    variables = [variable for variable in [*model.weights, model.bias] if variable.ref() in trainable]
    return model, Logits(values, [*shared, *variables])


def _sorted(feature_columns: Sequence[Any]) -> list[Any]:
    """The columns by name, checked."""
    columns: list[Any] = fc._normalize_feature_columns(feature_columns)  # noqa: SLF001 - so that its messages are too
    for column in columns:
        if not isinstance(column, (fc.DenseColumn, fc.CategoricalColumn)):
            raise ValueError(  # noqa: TRY004 - as the original
                f"Items of feature_columns must be either a DenseColumn or CategoricalColumn. Given: {column}"
            )
    return columns


def _scope(column: Any) -> str:
    """The name of a column, without what is not allowed in the name of a scope."""
    return re.sub(r"[^\w.-]", "_", column.name, flags=re.ASCII)


def _width(column: Any) -> int:
    """Number of rows of a column's weights."""
    if isinstance(column, fc.CategoricalColumn):  # a bucketized column is both
        return int(column.num_buckets)
    return int(column.variable_shape.num_elements())


def _flat(ids: Any) -> Any:
    """A sparse tensor as `[batch, any]`."""
    return tf.sparse.reshape(ids, [tf.shape(ids, tf.int64)[0], -1])


def _fraction_of_zero(variables: list[Any]) -> Any:
    """The share of zeros among the elements of all variables, without a copy of them."""
    sizes = [variable.shape.num_elements() for variable in variables]
    nonzero = [tf.math.count_nonzero(variable, dtype=tf.float32) for variable in variables]
    return 1.0 - tf.add_n(nonzero) / sum(sizes)
