"""Gradients averaged over the replicas, where `apply_gradients` of an optimizer is called.

As under MirroredStrategy, what a model_fn does to its gradients before that call (clipping, say) is per replica.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
import tf_keras

__all__ = ["BUCKET_BYTES", "GradientAverager"]

BUCKET_BYTES = 8 * 1024 * 1024
"""Gradients of one dtype travel in concatenated buckets of about this size, since every collective costs about 1 ms."""

_OPTIMIZERS = (tf.compat.v1.train.Optimizer, tf_keras.optimizers.legacy.Optimizer)
# Where optimizers are told the loss, so that its mean can travel with the gradients.
_DIFFERENTIATE = ("compute_gradients", "get_gradients", "_compute_gradients")


class GradientAverager:
    """Averages the gradients of one graph.

    Args:
        all_reduce_mean: Takes a dense tensor and returns its mean over the replicas, of the same shape; called in the
            same order by every replica.
        valid: bool scalar: whether this replica's batch belongs to the data set. A step in which any replica's does not
            is not applied; it ends the training of all with OutOfRangeError.
    """

    def __init__(self, all_reduce_mean: Callable[[Any], Any], *, valid: Any) -> None:
        self._all_reduce_mean = all_reduce_mean
        self._valid = valid
        self._losses: list[Any] = []
        self._mean_losses: dict[Any, Any] = {}
        self._gate: Any = None
        self._is_inside = False

    @property
    def has_averaged(self) -> bool:
        """Whether any optimizer applied gradients."""
        return self._gate is not None

    @contextmanager
    def intercepting(self) -> Iterator[None]:
        """Within the block, every `apply_gradients` of a v1 or a tf_keras legacy optimizer averages first."""
        wrappers = {"apply_gradients": self._averaging, **dict.fromkeys(_DIFFERENTIATE, self._noting_the_loss)}
        originals = [(cls, name, vars(cls)[name]) for cls in _OPTIMIZERS for name in wrappers if name in vars(cls)]
        for cls, name, original in originals:
            setattr(cls, name, wrappers[name](original))
        try:
            yield
        finally:
            for cls, name, original in originals:
                setattr(cls, name, original)

    def mean_loss(self, loss: Any) -> Any:
        """The mean of a scalar over the replicas; it has travelled already if an optimizer was given this tensor."""
        if (mean := self._mean_losses.get(loss.ref())) is not None:
            return mean
        with tf.control_dependencies([self._gate]):
            return self._all_reduce_mean(tf.identity(loss))

    def _noting_the_loss(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapper(optimizer: Any, loss: Any, *args: Any, **kwargs: Any) -> Any:
            if tf.is_tensor(loss) and loss.dtype.is_floating and loss.shape.rank == 0:
                self._losses.append(loss)
            return original(optimizer, loss, *args, **kwargs)

        return wrapper

    def _averaging(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapper(optimizer: Any, grads_and_vars: Any, *args: Any, **kwargs: Any) -> Any:
            if self._is_inside:  # an optimizer that wraps another one
                return original(optimizer, grads_and_vars, *args, **kwargs)
            self._is_inside = True
            try:
                return original(optimizer, self._average(list(grads_and_vars)), *args, **kwargs)
            finally:
                self._is_inside = False

        return wrapper

    def _average(self, grads_and_vars: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        gradients = [tf.convert_to_tensor(gradient) for gradient, _ in grads_and_vars if gradient is not None]
        losses, self._losses = self._losses, []
        riders = [tf.cast(self._valid, tf.float32), *(tf.cast(loss, tf.float32) for loss in losses)]
        # A second optimizer waits for the first one's gate: a step that ends the training leaves no collective behind.
        with tf.name_scope("average_gradients"), tf.control_dependencies([self._gate] if self.has_averaged else []):
            means = self._reduce_in_buckets([*riders, *gradients])
            with tf.control_dependencies(means):
                self._gate = _end_unless(means[0] >= 1.0)
            with tf.control_dependencies([self._gate]):
                means = [tf.identity(mean) for mean in means]
        for loss, mean in zip(losses, means[1 : len(riders)], strict=True):
            self._mean_losses[loss.ref()] = tf.cast(mean, loss.dtype)
        averaged = iter(means[len(riders) :])
        return [(None if gradient is None else next(averaged), variable) for gradient, variable in grads_and_vars]

    def _reduce_in_buckets(self, tensors: Sequence[Any]) -> list[Any]:
        means: list[Any] = [None] * len(tensors)
        for bucket in _buckets(tensors):
            flat = tf.concat([tf.reshape(tensors[index], [-1]) for index in bucket], axis=0)
            sizes = [tf.size(tensors[index]) for index in bucket]
            pieces = tf.split(self._all_reduce_mean(flat), sizes)
            for index, piece in zip(bucket, pieces, strict=True):
                means[index] = tf.ensure_shape(tf.reshape(piece, tf.shape(tensors[index])), tensors[index].shape)
        return means


def _buckets(tensors: Sequence[Any]) -> list[list[int]]:
    """Indices of tensors that travel together: of one dtype, in order, each bucket up to about BUCKET_BYTES."""
    buckets: list[list[int]] = []
    open_buckets: dict[Any, tuple[list[int], int]] = {}
    for index, tensor in enumerate(tensors):
        size = (tensor.shape.num_elements() or BUCKET_BYTES) * tensor.dtype.size
        bucket, filled = open_buckets.get(tensor.dtype, ([], BUCKET_BYTES))
        if filled + size > BUCKET_BYTES:
            bucket, filled = [], 0
            buckets.append(bucket)
        bucket.append(index)
        open_buckets[tensor.dtype] = bucket, filled + size
    return buckets


def _end_unless(condition: Any) -> Any:
    """An op that raises OutOfRangeError, as the end of an input does, unless the condition holds."""
    empty = tf.compat.v1.data.make_one_shot_iterator(tf.data.Dataset.range(0))
    return tf.cond(condition, lambda: tf.constant(0, tf.int64), empty.get_next)
