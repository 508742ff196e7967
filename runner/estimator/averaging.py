"""Gradients averaged over the replicas, where `apply_gradients` of an optimizer is called.

As under MirroredStrategy, what a model_fn does to its gradients before that call (clipping, say) is per replica.
"""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
import tf_keras
from tensorflow.python.eager import context

__all__ = ["BUCKET_BYTES", "GradientAverager"]

_v1 = tf.compat.v1

BUCKET_BYTES = 8 * 1024 * 1024
"""Gradients of one dtype travel in concatenated buckets of about this size, since every collective costs about 1 ms."""

_OPTIMIZERS = (_v1.train.Optimizer, tf_keras.optimizers.legacy.Optimizer)
# Where optimizers are told the loss, so that its mean can travel with the gradients.
_DIFFERENTIATE = ("compute_gradients", "get_gradients", "_compute_gradients")
_patching = threading.Lock()


class GradientAverager:
    """Averages the gradients of one graph.

    The first bucket of a step begins with a flag that a replica raises when it will train no further: then the step is
    not applied in any of them, and ends the training of all like the end of an input, with OutOfRangeError.

    Args:
        all_reduce_mean: Takes a dense eager tensor and returns its mean over the replicas; called by every replica in
            the same order, with the same shapes and dtypes.
    """

    def __init__(self, all_reduce_mean: Callable[[Any], Any]) -> None:
        self._all_reduce_mean = all_reduce_mean
        self._graph: Any = None
        self._losses: list[Any] = []
        self._mean_losses: dict[Any, Any] = {}
        self._gate: Any = None
        self._first_size: int | None = None
        self._is_inside = False
        self._has_ended = False

    @property
    def has_averaged(self) -> bool:
        """Whether any optimizer applied gradients."""
        return self._gate is not None

    @contextmanager
    def intercepting(self) -> Iterator[None]:
        """Within the block, every `apply_gradients` of a v1 or a tf_keras legacy optimizer averages first."""
        wrappers = {"apply_gradients": self._averaging, **dict.fromkeys(_DIFFERENTIATE, self._noting_the_loss)}
        self._graph = _v1.get_default_graph()
        with _patching:
            originals = [(cls, name, vars(cls)[name]) for cls in _OPTIMIZERS for name in wrappers if name in vars(cls)]
            for cls, name, original in originals:
                setattr(cls, name, wrappers[name](original))
            sync = _v1.train.SyncReplicasOptimizer
            originals.append((sync, "apply_gradients", vars(sync)["apply_gradients"]))
            sync.apply_gradients = _refuse
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
            (mean,) = self._reduce([loss], flagged=False)
        return mean

    def end(self) -> None:
        """Ends the training of all replicas, unless it has ended already; called when this one trains no further."""
        if self._has_ended or not self.has_averaged:
            return
        if self._first_size is None:
            raise RuntimeError("The gradients have no static shapes, and no step has shown what they are.")
        with context.eager_mode():
            self._all_reduce_mean(tf.one_hot(0, self._first_size))

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
        if _v1.get_default_graph() is not self._graph:
            raise ValueError(
                "apply_gradients was called inside tf.cond or a loop, where the replicas could part ways. "
                "With workers it has to be called at the top level of model_fn."
            )
        gradients = [tf.convert_to_tensor(gradient) for gradient, _ in grads_and_vars if gradient is not None]
        losses, self._losses = self._losses, []
        riders = [tf.cast(loss, tf.float32) for loss in losses]
        with tf.name_scope("average_gradients"):
            means = self._reduce_after_the_last([*riders, *gradients])
        for loss, mean in zip(losses, means, strict=False):
            self._mean_losses[loss.ref()] = tf.cast(mean, loss.dtype)
        averaged = iter(means[len(riders) :])
        return [(None if gradient is None else next(averaged), variable) for gradient, variable in grads_and_vars]

    def _reduce_after_the_last(self, tensors: list[Any]) -> list[Any]:
        """Reduces after what was reduced before: all replicas have to call their collectives in one order."""
        if self.has_averaged:
            with tf.control_dependencies([self._gate]):
                means = self._reduce(tensors, flagged=False)
        else:
            means = self._reduce([tf.constant(0.0), *tensors], flagged=True)[1:]
        self._gate = tf.group(*means)
        # Nothing is applied before all of it was reduced: a step that fails leaves the state whole.
        with tf.control_dependencies([self._gate]):
            return [tf.identity(mean) for mean in means]

    def _reduce(self, tensors: Sequence[Any], *, flagged: bool) -> list[Any]:
        """Means of dense tensors, in the order given.

        Args:
            tensors: Of any shapes and dtypes; float32 first if flagged.
            flagged: The first tensor is the flag.
        """
        buckets = _buckets(tensors)
        flats = [tf.concat([tf.reshape(tensors[index], [-1]) for index in bucket], axis=0) for bucket in buckets]
        if flagged:
            self._first_size = flats[0].shape.num_elements()
        exchange = self._exchange_flagged if flagged else self._exchange
        reduced = tf.py_function(exchange, flats, [flat.dtype for flat in flats])
        means: list[Any] = [None] * len(tensors)
        for bucket, flat in zip(buckets, reduced, strict=True):
            pieces = tf.split(flat, [tf.size(tensors[index]) for index in bucket])
            for index, piece in zip(bucket, pieces, strict=True):
                means[index] = tf.ensure_shape(tf.reshape(piece, tf.shape(tensors[index])), tensors[index].shape)
        return means

    def _exchange(self, *flats: Any) -> list[Any]:
        return [self._all_reduce_mean(flat) for flat in flats]

    def _exchange_flagged(self, first: Any, *others: Any) -> list[Any]:
        self._first_size = int(first.shape[0])
        mean = self._all_reduce_mean(first)
        if memoryview(mean)[0] > 0:
            self._has_ended = True
            raise StopIteration  # TensorFlow makes OutOfRangeError of it
        return [mean, *self._exchange(*others)]


def _refuse(*_: Any, **__: Any) -> Any:
    raise ValueError(
        "tf.compat.v1.train.SyncReplicasOptimizer waits for parameter servers. The training is synchronous by itself: "
        "use the optimizer that it wraps."
    )


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
