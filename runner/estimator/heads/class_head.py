"""The head of a classifier, by its number of classes."""

from collections.abc import Sequence
from typing import Any

from runner.estimator.heads.binary_class import BinaryClassHead
from runner.estimator.heads.multi_class import MultiClassHead

__all__ = ["class_head"]


def class_head(
    n_classes: int, *, weight_column: Any, label_vocabulary: Sequence[str] | None, loss_reduction: str
) -> BinaryClassHead | MultiClassHead:
    """A BinaryClassHead for two classes, otherwise a MultiClassHead, which refuses fewer.

    Args:
        n_classes: Number of classes.
        weight_column: See the heads.
        label_vocabulary: See the heads.
        loss_reduction: See the heads.
    """
    if n_classes == 2:  # noqa: PLR2004 - one logit is enough for two classes
        return BinaryClassHead(
            weight_column=weight_column, label_vocabulary=label_vocabulary, loss_reduction=loss_reduction
        )
    return MultiClassHead(
        n_classes, weight_column=weight_column, label_vocabulary=label_vocabulary, loss_reduction=loss_reduction
    )
