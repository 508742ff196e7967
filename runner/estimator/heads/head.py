"""The interface of a head: what turns logits into loss, predictions, metrics and a training op."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from runner.estimator.model_fn import EstimatorSpec

__all__ = ["Head"]


class Head(ABC):
    """The top of a model, for canned estimators and for the model_fn of one's own; derive from it to write another.

    Dimensions: logits are `[D0, ..., DN, logits_dimension]`, in most models `[batch, logits_dimension]`.
    """

    @property
    @abstractmethod
    def name(self) -> str | None:
        """Scope of the head's operations, and suffix (`/name`) of its metrics and summaries; None for neither."""

    @property
    @abstractmethod
    def logits_dimension(self) -> int:
        """Size of the last dimension of the logits."""

    @property
    @abstractmethod
    def loss_reduction(self) -> str:
        """How the losses of a batch become one: "sum_over_batch_size" or "sum"."""

    @abstractmethod
    def loss(
        self,
        labels: Any,
        logits: Any,
        features: Any = None,
        mode: str | None = None,
        regularization_losses: Sequence[Any] | None = None,
    ) -> Any:
        """What training minimizes.

        Args:
            labels: A tensor, or a dict of tensors by name, as the head defines.
            logits: `[D0, ..., DN, logits_dimension]`.
            features: Tensors by name; holds the weights of the examples, if any.
            mode: One of ModeKeys, for heads whose loss depends on it.
            regularization_losses: Scalars that are added to the loss.

        Returns:
            A scalar `float32`.
        """

    @abstractmethod
    def predictions(self, logits: Any, keys: Sequence[str] | None = None) -> dict[Any, Any]:
        """Predictions by name.

        Args:
            logits: `[D0, ..., DN, logits_dimension]`.
            keys: The predictions to make; None means all that the head knows.
        """

    @abstractmethod
    def metrics(self, regularization_losses: Sequence[Any] | None = None) -> dict[str, Any]:
        """New tf_keras metrics by name; with one for the regularization losses, if there are any."""

    @abstractmethod
    def update_metrics(
        self,
        eval_metrics: dict[str, Any],
        features: Any,
        logits: Any,
        labels: Any,
        mode: str | None = None,
        regularization_losses: Sequence[Any] | None = None,
    ) -> dict[str, Any]:
        """Tells the metrics about one batch.

        Args:
            eval_metrics: What `metrics` returned.
            features: See `loss`.
            logits: See `loss`.
            labels: See `loss`.
            mode: See `loss`.
            regularization_losses: See `loss`.

        Returns:
            The same metrics, updated.
        """

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
        """The EstimatorSpec that a model_fn returns.

        Args:
            features: See `loss`.
            mode: One of ModeKeys.
            logits: See `loss`.
            labels: See `loss`; may be None when predicting.
            optimizer: Minimizes the loss when training; either this or `train_op_fn`.
            trainable_variables: What the optimizer updates.
            train_op_fn: Makes the training op of the loss, which it is given.
            update_ops: Operations that run with each training step, such as those of batch normalization.
            regularization_losses: See `loss`.

        Raises:
            NotImplementedError: The subclass did not define this method.
        """
        raise NotImplementedError(
            "Subclasses of Head must implement `create_estimator_spec()` or _create_tpu_estimator_spec()."
        )

    def _summary_key(self, key: str) -> str:
        return f"{key}/{self.name}" if self.name else key
