"""Feature columns as an argument of the canned estimators, and the variables that they share."""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

# The classes of the columns have no public names.
from tensorflow.python.feature_column import feature_column_v2 as fc

__all__ = ["check_columns", "shared_embeddings"]


def check_columns(feature_columns: Iterable[Any]) -> None:
    """Refuses what is not a column of tf.feature_column.

    Raises:
        ValueError: A column of tf.compat.v1.feature_column that tf.feature_column does not have, or no column at all.
    """
    if not fc.is_feature_column_v2(feature_columns):
        raise ValueError(
            "Received a feature column from TensorFlow v1, but this is a TensorFlow v2 Estimator. Please either use v2 "
            "feature columns (accessible via tf.feature_column.* in TF 2.x) with this Estimator, or switch to a v1 "
            "Estimator for use with v1 feature columns (accessible via tf.compat.v1.estimator.* and "
            "tf.compat.v1.feature_column.*, respectively."
        )


def shared_embeddings(feature_columns: Iterable[Any]) -> list[Any]:
    """The trainable tables of the columns of tf.feature_column.shared_embeddings in this graph, each of them once.

    No layer has them among its variables. The original forgets to train them.
    """
    tables = {
        table.ref(): table
        for column in feature_columns
        if isinstance(column, fc.SharedEmbeddingColumn)
        for table in [column.shared_embedding_column_creator.embedding_weights]
    }
    trainable = {variable.ref() for variable in tf.compat.v1.trainable_variables()}
    return [table for ref, table in tables.items() if ref in trainable]
