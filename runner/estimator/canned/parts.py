"""Parts of a canned model: what makes logits, and the optimizer of its variables; and the model_fn over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import tensorflow as tf

from runner.estimator.canned.optimizers import count_steps, detach_optimizer, make_optimizer, minimize
from runner.estimator.heads.head import Head
from runner.estimator.model_fn import EstimatorSpec, ModeKeys

__all__ = ["Logits", "Part", "make_model_fn"]


class Logits(NamedTuple):
    """What a part made in one graph.

    Attributes:
        values: `[batch, units] float32`.
        trainable_variables: In the order in which the original has them.
        update_ops: Run with each training step: those of batch normalization.
    """

    values: Any
    trainable_variables: list[Any]
    update_ops: Sequence[Any] = ()


@dataclass(frozen=True)
class Part:
    """One of the models whose logits are summed.

    Attributes:
        build: (features, mode, units) -> Logits.
        optimizer: See make_optimizer.
        learning_rate: Of an optimizer given by name.
    """

    build: Callable[[dict[str, Any], str, int], Logits]
    optimizer: Any
    learning_rate: float


def make_model_fn(head: Head, parts: Sequence[Part]) -> Callable[..., EstimatorSpec]:
    """The model_fn of a canned estimator.

    Args:
        head: Makes the EstimatorSpec of the sum of the logits.
        parts: One or more; the optimizer of the first one counts the global step.

    Raises:
        ValueError: An optimizer of Keras that cannot be translated.
    """
    parts = [replace(part, optimizer=detach_optimizer(part.optimizer)) for part in parts]

    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        if not isinstance(features, dict):
            raise ValueError(  # noqa: TRY004 - the original raises it
                f"features should be a dictionary of `Tensor`s. Given type: {type(features)}"
            )
        optimizers = [_optimizer(part) for part in parts] if mode == ModeKeys.TRAIN else []
        built = [part.build(features, mode, head.logits_dimension) for part in parts]
        if len(optimizers) == 1:
            count_steps(optimizers[0])  # a head of the user's own may call the optimizer itself
        # By their names: a head of the user's own may have its arguments in another order.
        return head.create_estimator_spec(
            features=features,
            mode=mode,
            logits=sum((logits.values for logits in built[1:]), start=built[0].values),
            labels=labels,
            update_ops=[op for logits in built for op in logits.update_ops],
            **_how_to_train(optimizers, _variables_of_each(built)),
        )

    return model_fn


def _optimizer(part: Part) -> Any:
    return make_optimizer(part.optimizer, learning_rate=part.learning_rate)


def _variables_of_each(built: Sequence[Logits]) -> list[list[Any]]:
    """The variables that each part trains: one that two parts share, a shared embedding, is trained by the first."""
    seen: set[Any] = set()
    variables = []
    for logits in built:
        own = [variable for variable in logits.trainable_variables if variable.ref() not in seen]
        seen.update(variable.ref() for variable in own)
        variables.append(own)
    return variables


def _how_to_train(optimizers: list[Any], variables: list[list[Any]]) -> dict[str, Any]:
    """The arguments by which a head knows how to train."""
    if len(optimizers) <= 1:
        return {"optimizer": optimizers[0] if optimizers else None, "trainable_variables": variables[0]}
    if any(isinstance(optimizer, tf.compat.v1.train.SyncReplicasOptimizer) for optimizer in optimizers):
        raise ValueError(
            "SyncReplicasOptimizer does not support multi optimizers case. Therefore, it is not supported in "
            "DNNLinearCombined model. If you want to use this optimizer, please use either DNN or Linear model."
        )

    def train_op_fn(loss: Any) -> Any:
        steps = [
            minimize(optimizer, loss, own, counts_steps=index == 0)
            for index, (optimizer, own) in enumerate(zip(optimizers, variables, strict=True))
        ]
        return tf.group(*steps)

    return {"train_op_fn": train_op_fn}
