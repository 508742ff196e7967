"""The classes of a classification: ids, and names if there is a vocabulary."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# TensorFlow exports it under no public name since tf.estimator is gone.
from tensorflow.python.saved_model.model_utils.export_output import ClassificationOutput

__all__ = ["Classes"]


class Classes:
    """Maps class ids to names and back.

    Args:
        n_classes: Number of classes.
        vocabulary: A list or tuple with their names, in order; None means that the ids, as strings, are the names.

    Raises:
        ValueError: The vocabulary is no list or tuple, or has another length.
    """

    def __init__(self, n_classes: int, vocabulary: Sequence[str] | None) -> None:
        if vocabulary is not None and not isinstance(vocabulary, (list, tuple)):
            raise ValueError(f"label_vocabulary should be a list or a tuple. Given type: {type(vocabulary)}")
        if vocabulary is not None and len(vocabulary) != n_classes:
            raise ValueError(
                f'"label_vocabulary" does not have "n_classes" items. len(label_vocabulary)={len(vocabulary)}, '
                f"n_classes={n_classes}, label_vocabulary={vocabulary}"
            )
        self.n_classes = n_classes
        self.vocabulary = vocabulary

    def ids_of(self, names: Any) -> Any:
        """Ids `int64` of names of the same shape; -1 for a name that is not in the vocabulary."""
        keys = tf.constant(list(self.vocabulary or ()), tf.string)
        initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.range(self.n_classes, dtype=tf.int64))
        return tf.lookup.StaticHashTable(initializer, default_value=-1, name="class_id_lookup").lookup(names)

    def names_of(self, ids: Any) -> Any:
        """Names of ids of the same shape."""
        if self.vocabulary:
            return tf.gather(tf.constant(list(self.vocabulary)), ids, name="class_string_lookup")
        return tf.strings.as_string(ids, name="str_classes")

    def all_ids(self, logits: Any) -> Any:
        """Every id for every example, `[batch, n_classes] int32`."""
        return tf.tile(tf.range(self.n_classes)[tf.newaxis], [tf.shape(logits)[0], 1])

    def all_names(self, logits: Any) -> Any:
        """Every name for every example, `[batch, n_classes] string`."""
        names = list(self.vocabulary or map(str, range(self.n_classes)))
        return tf.tile(tf.constant([names]), [tf.shape(logits)[0], 1])

    def output(self, scores: Any) -> ClassificationOutput:
        """What is exported for scores `[batch, n_classes]`."""
        return ClassificationOutput(scores=scores, classes=self.all_names(scores))
