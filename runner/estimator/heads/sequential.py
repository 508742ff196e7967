"""Heads that predict at every step of a sequence, and know which steps are padding."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from runner.estimator.heads.head import Head
from runner.estimator.heads.multi_head import MultiHead
from runner.estimator.model_fn import EstimatorSpec, ModeKeys

__all__ = ["SequentialHead", "SequentialHeadWrapper"]


class SequentialHead(Head):
    """A head of logits `[batch, steps, logits_dimension]`."""

    @property
    @abstractmethod
    def input_sequence_mask_key(self) -> str:
        """The feature that is the mask: `[batch, steps] bool`, False where a step is padding."""


class SequentialHeadWrapper(SequentialHead):
    """Makes a sequential head of another one, which sees the steps that are no padding as so many examples.

    Predictions are made for all steps, and hold the mask.

    Args:
        static_head: Any head but a MultiHead.
        sequence_length_mask: See input_sequence_mask_key.
        feature_columns: Name, or names, of features by step that the head needs, such as the weights.

    Raises:
        TypeError: A name is no string.
        ValueError: The head is a MultiHead.
    """

    def __init__(
        self,
        static_head: Head,
        sequence_length_mask: str = "sequence_length_mask",
        feature_columns: str | Iterable[str] | None = None,
    ) -> None:
        if not isinstance(sequence_length_mask, str):
            raise TypeError(f"`sequence_mask` column must be a string. Given type: {type(sequence_length_mask)}.")
        if isinstance(static_head, MultiHead):
            raise ValueError("`MultiHead` is not supported with `SequentialHeadWrapper`.")  # noqa: TRY004
        self._static_head = static_head
        self._mask_key = sequence_length_mask
        self._feature_columns = _names(feature_columns)

    @property
    def static_head(self) -> Head:
        """The head of single steps."""
        return self._static_head

    @property
    def input_sequence_mask_key(self) -> str:
        """See SequentialHead."""
        return self._mask_key

    @property
    def name(self) -> str | None:
        """See Head."""
        return f"{self._static_head.name}_sequential" if self._static_head.name else None

    @property
    def logits_dimension(self) -> int:
        """See Head."""
        return self._static_head.logits_dimension

    @property
    def loss_reduction(self) -> str:
        """See Head."""
        return self._static_head.loss_reduction

    def loss(
        self,
        labels: Any,
        logits: Any,
        features: Any = None,
        mode: str | None = None,
        regularization_losses: Sequence[Any] | None = None,
    ) -> Any:
        """See Head; labels are `[batch, steps, ...]`, dense or sparse."""
        labels, logits, features = self._steps(labels, logits, features)
        return self._static_head.loss(labels, logits, features, mode, regularization_losses)

    def predictions(self, logits: Any, keys: Sequence[str] | None = None) -> dict[Any, Any]:
        """See Head."""
        return self._static_head.predictions(logits, keys=keys)

    def metrics(self, regularization_losses: Sequence[Any] | None = None) -> dict[str, Any]:
        """See Head."""
        return self._static_head.metrics(regularization_losses)

    def update_metrics(  # type: ignore[override]  # the original has no mode here either
        self,
        eval_metrics: dict[str, Any],
        features: Any,
        logits: Any,
        labels: Any,
        regularization_losses: Sequence[Any] | None = None,
    ) -> dict[str, Any]:
        """See Head."""
        labels, logits, features = self._steps(labels, logits, features)
        return self._static_head.update_metrics(
            eval_metrics, features, logits, labels, regularization_losses=regularization_losses
        )

    def create_estimator_spec(
        self,
        features: Any,
        mode: str,
        logits: Any,
        labels: Any = None,
        optimizer: Any = None,
        trainable_variables: Sequence[Any] | None = None,
        train_op_fn: Callable[[Any], Any] | None = None,
        update_ops: Sequence[Any] | None = None,
        regularization_losses: Sequence[Any] | None = None,
    ) -> EstimatorSpec:
        """See Head."""
        if mode == ModeKeys.PREDICT:
            spec = self._static_head.create_estimator_spec(features, mode, logits)
            return spec._replace(predictions={**spec.predictions, self._mask_key: features[self._mask_key]})
        labels, logits, features = self._steps(labels, logits, features)
        return self._static_head.create_estimator_spec(
            features,
            mode,
            logits,
            labels=labels,
            optimizer=optimizer,
            trainable_variables=trainable_variables,
            train_op_fn=train_op_fn,
            update_ops=update_ops,
            regularization_losses=regularization_losses,
        )

    def _steps(self, labels: Any, logits: Any, features: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """Labels, logits and the features that count, one after the other: `[steps that are no padding, ...]`."""
        if self._mask_key not in features:
            raise ValueError(
                f"The provided sequence_length_mask key `{self._mask_key}` should be included in the features "
                f"dictionary, but was not found. Found keys: {list(features)}."
            )
        mask = features[self._mask_key]
        if mask.shape.rank != 2:  # noqa: PLR2004 - batch and steps
            raise ValueError(f"Mask is expected to have two dimensions, got {mask.shape.rank} instead.")
        for column in self._feature_columns:
            if column not in features:
                raise ValueError(f"`{column}` column expected in features dictionary.")
        with tf.name_scope("flatten"):
            chosen = {column: _unpadded(features[column], mask) for column in self._feature_columns}
            return _unpadded(labels, mask), _unpadded(logits, mask), chosen


def _names(feature_columns: Any) -> list[str]:
    if not isinstance(feature_columns or [], Iterable):
        raise TypeError(
            f"`feature_columns` must be either a string or an iterable of strings got {type(feature_columns)} instead."
        )
    names = [feature_columns] if isinstance(feature_columns, str) else list(feature_columns or [])
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"Column must a string. Given type: {type(name)}.")
    return names


def _unpadded(tensor: Any, mask: Any) -> Any:
    """The values of the steps that are no padding, `[their number, ...]`, with a last dimension of one at least."""
    if not isinstance(tensor, (tf.Tensor, tf.SparseTensor)):
        raise ValueError(f"`tensor` expected to be a `Tensor` or  `SparseTensor` got `{tensor}` instead.")  # noqa: TRY004
    rank = tensor.shape.rank
    if rank is None or rank < 2:  # noqa: PLR2004 - batch and steps
        raise ValueError(f"Input tensor expected to have at least 2 dimensions, got {rank} instead.")
    rest = [1] if rank == 2 else tensor.shape[2:].as_list()  # noqa: PLR2004 - batch and steps
    values = tf.sparse.reorder(tensor).values if isinstance(tensor, tf.SparseTensor) else tf.boolean_mask(tensor, mask)
    values = tf.reshape(values, [-1, *rest])
    check = tf.debugging.assert_equal(
        tf.shape(values)[0],
        tf.reduce_sum(tf.cast(mask, tf.int32)),
        message="Tensor shape is incompatible with provided mask.",
    )
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(values)
