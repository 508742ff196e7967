"""Gradients averaged over the replicas, where `apply_gradients` of an optimizer is called.

As under MirroredStrategy, what a model_fn does to its gradients before that call (clipping, say) is per replica.
"""

import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
import tf_keras
from tensorflow.python.eager import context

from runner.estimator.replicas.collectives import Collectives
from runner.estimator.replicas.rounds import Round
from runner.estimator.replicas.sparse_gradients import Table
from runner.estimator.replicas.updates import Updates

__all__ = ["GradientAverager"]

_v1 = tf.compat.v1

_OPTIMIZERS = (_v1.train.Optimizer, tf_keras.optimizers.legacy.Optimizer)
# Where optimizers are told the loss, so that its mean can travel with the gradients.
_DIFFERENTIATE = ("compute_gradients", "get_gradients", "_compute_gradients")
_patching = threading.Lock()


class GradientAverager:
    """Averages the gradients of one graph.

    The first round of a step begins with a flag that a replica raises when it will train no further: then the step is
    not applied in any of them, and ends the training of all like the end of an input, with OutOfRangeError.

    Gradients may be accumulated in variables that are not trainable, as long as apply_gradients is called at the top
    level of the graph and not under a condition, which the replicas might not share.

    Args:
        collectives: This replica's; all replicas make their rounds in one order.
    """

    def __init__(self, collectives: Collectives) -> None:
        self._collectives = collectives
        self._graph: Any = None
        self._losses: list[Any] = []
        self._mean_losses: dict[Any, Any] = {}
        self._variables: list[Any] = []
        self._applying: list[Any] = []
        self._rounds: list[Round] = []
        self._gate: Any = None
        self._is_inside = False
        self._has_ended = False

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

    def complete(self, train_op: Any, loss: Any, batch: Any) -> Any:
        """Makes a step of what model_fn returned; called after `intercepting`, and before a session is opened.

        Args:
            train_op: What trains.
            loss: Of this replica, a scalar.
            batch: Any structure of the tensors of the input.

        Returns:
            The mean of the loss over the replicas.

        Raises:
            ValueError: A trainable variable is updated, and its gradient was not averaged.
        """
        if not self._rounds:
            raise ValueError(
                "model_fn called no apply_gradients (or minimize) of a tf.compat.v1.train or "
                "tf_keras.optimizers.legacy optimizer, so that its updates cannot be averaged over the replicas. "
                "Use one of those, or no workers."
            )
        mean = self._mean_losses.get(loss.ref())
        if mean is None:  # no optimizer was given this tensor
            (mean,), _ = self._reduce_after_the_last([loss])
        updates = Updates([train_op, mean])
        trainables = _v1.trainable_variables()
        rounds = [each.op for each in self._rounds]
        if names := updates.unaveraged(trainables, averaged=self._variables, applying=self._applying, rounds=rounds):
            raise ValueError(
                f"The train_op updates trainable variables without averaging over the replicas: {', '.join(names)}. "
                "Update them by apply_gradients (or minimize) of a tf.compat.v1.train or tf_keras.optimizers.legacy "
                "optimizer, create them with trainable=False to let each replica have its own, or use no workers."
            )
        self._hold_back(updates, batch)
        return mean

    def _hold_back(self, updates: Updates, batch: Any) -> None:
        """Lets a step that is not applied leave all variables as they were, a counter beside the optimizer too."""
        first = self._rounds[0]
        if updates.precede(first.op):  # as those of a batch normalization may: the flag needs a round of its own
            flag = Round(self._collectives, on_flag=self._stop_here)
            with tf.name_scope("average_gradients"):
                flag.mean([])
            first.op._add_control_input(flag.op)  # noqa: SLF001 - no public way
            self._rounds.insert(0, flag)
        # A replica without a batch does not make the first round, even if the gradients have nothing to do with it.
        inputs = [part for part in tf.nest.flatten(batch, expand_composites=True) if tf.is_tensor(part)]
        updates.hold_back(self._rounds[0].op, inputs=inputs)

    def end(self) -> None:
        """Ends the training of all replicas, unless it has ended already; called when this one trains no further."""
        if self._has_ended or not self._rounds:
            return
        if (size := self._rounds[0].first_size) is None:
            raise RuntimeError("The gradients have no static shapes, and no step has shown what they are.")
        with context.eager_mode():
            self._collectives.all_reduce_mean(tf.one_hot(0, size))

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
                averaged = self._average(list(grads_and_vars))
                n_before = len(self._graph.get_operations())
                result = original(optimizer, averaged, *args, **kwargs)
                self._applying += self._graph.get_operations()[n_before:]
                return result
            finally:
                self._is_inside = False

        return wrapper

    def _average(self, grads_and_vars: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        if _v1.get_default_graph() is not self._graph:
            raise ValueError(
                "apply_gradients was called inside tf.cond or a loop, where the replicas could part ways. "
                "With workers it has to be called at the top level of model_fn."
            )
        losses, self._losses = self._losses, []
        pairs = [pair for pair in grads_and_vars if pair[0] is not None]
        self._variables += [variable for _, variable in pairs]
        with tf.name_scope("average_gradients"):
            riders = [tf.cast(loss, tf.float32) for loss in losses]
            tables = [Table.of(*pair) for pair in pairs]
            parts = [_dense_parts(gradient, table) for (gradient, _), table in zip(pairs, tables, strict=True)]
            slices = [
                (table, gradient)
                for (gradient, _), table, dense in zip(pairs, tables, parts, strict=True)
                if table and not dense
            ]
            means, sliced = map(iter, self._reduce_after_the_last([*riders, *itertools.chain(*parts)], slices))
            for loss in losses:
                self._mean_losses[loss.ref()] = tf.cast(next(means), loss.dtype)
            averaged = iter(
                [
                    _of_dense_parts(gradient, table, [next(means) for _ in dense]) if dense else next(sliced)
                    for (gradient, _), table, dense in zip(pairs, tables, parts, strict=True)
                ]
            )
        return [(None if gradient is None else next(averaged), variable) for gradient, variable in grads_and_vars]

    def _reduce_after_the_last(self, dense: list[Any], slices: Sequence[Any] = ()) -> tuple[list[Any], list[Any]]:
        """Reduces after what was reduced before: all replicas have to call their collectives in one order."""
        round_ = Round(self._collectives, on_flag=None if self._rounds else self._stop_here)
        with tf.control_dependencies([self._gate] if self._rounds else []):
            means = round_.mean(dense, slices)
        self._rounds.append(round_)
        self._gate = tf.group(*tf.nest.flatten(means, expand_composites=True))
        # Nothing is applied before all of it was reduced: a step that fails leaves the state whole.
        with tf.control_dependencies([self._gate]):
            return tf.nest.map_structure(tf.identity, means, expand_composites=True)

    def _stop_here(self) -> None:
        self._has_ended = True
        raise StopIteration  # TensorFlow makes OutOfRangeError of it


def _dense_parts(gradient: Any, table: Table | None) -> list[Any]:
    """What of a gradient travels with the dense ones: none of a sparse one, unless its table is small."""
    if table is None:
        return [tf.convert_to_tensor(gradient)]
    return table.whole(gradient.indices, gradient.values) if table.is_small else []


def _of_dense_parts(gradient: Any, table: Table | None, parts: list[Any]) -> Any:
    if table is None:
        return parts[0]
    indices, values = table.rows(*parts)
    return tf.IndexedSlices(values, indices, gradient.dense_shape)


def _refuse(*_: Any, **__: Any) -> Any:
    raise ValueError(
        "tf.compat.v1.train.SyncReplicasOptimizer waits for parameter servers. The training is synchronous by itself: "
        "use the optimizer that it wraps."
    )
