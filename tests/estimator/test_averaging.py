"""What a step does to the variables of one replica, and which steps are refused."""

import functools
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from runner import estimator as tfe
from runner.estimator.replicas.averaging import GradientAverager
from tests.estimator.alone import Alone

_v1 = tf.compat.v1


class Model:
    """A variable `weight`, and what a model_fn may do to it and to others."""

    def __init__(self, x: Any) -> None:
        self.x = x
        self.weight = _v1.get_variable("weight", [2], initializer=_v1.ones_initializer())
        self.loss = tf.reduce_mean(tf.square(tf.reduce_sum(self.weight * x, axis=1)))
        self.optimizer = _v1.train.GradientDescentOptimizer(0.01)
        self.global_step = _v1.train.get_or_create_global_step()

    def minimize(self, **arguments: Any) -> Any:
        return self.optimizer.minimize(self.loss, **arguments)

    def other(self, **arguments: Any) -> Any:
        return _v1.get_variable("other", [2], initializer=_v1.ones_initializer(), **arguments)


class Unaveraged(tf.compat.v1.train.Optimizer):
    """Applies gradients in a way of its own."""

    def __init__(self) -> None:
        super().__init__(use_locking=False, name="Unaveraged")

    def apply_gradients(self, grads_and_vars: Any, global_step: Any = None, name: Any = None) -> Any:
        return tf.group(*(variable.assign_sub(gradient) for gradient, variable in grads_and_vars))


class LookAhead(tf.compat.v1.train.Optimizer):
    """Lets another optimizer apply them, and draws the weights back to slow ones now and then."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__(use_locking=False, name="LookAhead")
        self._optimizer = optimizer

    def apply_gradients(self, grads_and_vars: Any, global_step: Any = None, name: Any = None) -> Any:
        grads_and_vars = list(grads_and_vars)
        with tf.control_dependencies([self._optimizer.apply_gradients(grads_and_vars, global_step)]):
            step = tf.identity(global_step.read_value())
        return tf.group(*(self._draw_back(variable, step) for _, variable in grads_and_vars))

    def _draw_back(self, variable: Any, step: Any) -> Any:
        slow = _v1.get_variable("slow", [2], initializer=_v1.ones_initializer(), trainable=False)
        mean = (slow + variable) / 2
        return tf.cond(tf.equal(step % 2, 0), lambda: tf.group(slow.assign(mean), variable.assign(mean)), tf.no_op)


def by_hand(model: Model) -> Any:
    other = model.other()
    gradient = tf.gradients(model.loss + tf.reduce_sum(other * model.x), [other])[0]
    return tf.group(model.minimize(var_list=[model.weight]), other.assign_sub(gradient))


def by_hand_in_a_reference_variable(model: Model) -> Any:
    other = model.other(use_resource=False)
    return tf.group(model.minimize(var_list=[model.weight]), other.assign_sub(model.x[0]))


def without_a_gradient(model: Model) -> Any:
    return tf.group(model.minimize(), model.other().assign_add([1.0, 1.0]))


def by_an_optimizer_of_its_own(model: Model) -> Any:
    other = model.other()
    alone = Unaveraged().minimize(tf.reduce_sum(other * model.x), var_list=[other])
    return tf.group(model.minimize(var_list=[model.weight]), alone)


def under_a_condition(model: Model) -> Any:
    other = model.other()
    update = tf.cond(model.loss > 0, lambda: tf.group(other.assign_sub(model.x[0])), tf.no_op)
    return tf.group(model.minimize(), update)


def from_moving_statistics(model: Model) -> Any:
    other = model.other()
    mean = _v1.get_variable("mean", [2], initializer=_v1.zeros_initializer(), trainable=False)
    with tf.control_dependencies([mean.assign(0.9 * mean + tf.reduce_mean(model.x, axis=0))]):
        return tf.group(model.minimize(), other.assign(other + model.weight + mean))


def noise(model: Model) -> Any:
    with tf.control_dependencies([model.minimize()]):
        return model.weight.assign_add(tf.random.normal([2]))


def both_ways(model: Model) -> Any:
    return tf.group(model.minimize(), Unaveraged().minimize(model.loss))


def moving_average(model: Model) -> Any:
    with tf.control_dependencies([model.minimize(global_step=model.global_step)]):
        return _v1.train.ExponentialMovingAverage(0.9, model.global_step).apply([model.weight])


def look_ahead(model: Model) -> Any:
    return LookAhead(model.optimizer).minimize(model.loss, model.global_step)


def target_network(model: Model) -> Any:
    target = model.other()
    with tf.control_dependencies([model.minimize(global_step=model.global_step)]):
        return target.assign(0.9 * target + 0.1 * model.weight)


def projection(model: Model) -> Any:
    with tf.control_dependencies([model.minimize(global_step=model.global_step)]):
        return model.weight.assign(tf.clip_by_norm(model.weight.read_value(), 1.0))


def constraint(model: Model) -> Any:
    model.other(constraint=tf.nn.relu)
    adam = tf_keras.optimizers.legacy.Adam(0.1)
    adam.iterations = model.global_step
    loss = model.loss + tf.add_n([tf.reduce_sum(variable**2) for variable in _v1.trainable_variables()])
    return adam.get_updates(loss, _v1.trainable_variables())


def accumulation(model: Model) -> Any:
    total = _v1.get_variable("total", [2], initializer=_v1.zeros_initializer(), trainable=False)
    ((gradient, variable),) = model.optimizer.compute_gradients(model.loss)
    added = total.assign_add(gradient)
    is_due = tf.cast(tf.equal(model.global_step % 2, 1), tf.float32)
    applied = model.optimizer.apply_gradients([(added * is_due, variable)], model.global_step)
    with tf.control_dependencies([applied]):
        return total.assign(total.read_value() * (1.0 - is_due))


def normalization_before(model: Model) -> Any:
    layer = tf_keras.layers.BatchNormalization()
    logits = layer(model.x * model.weight, training=True)
    with tf.control_dependencies(layer.updates):  # of the gradients, too
        return model.optimizer.minimize(tf.reduce_mean(tf.abs(logits)) + model.loss, model.global_step)


def normalization_beside(model: Model) -> Any:
    layer = tf_keras.layers.BatchNormalization()
    logits = layer(model.x * model.weight, training=True)
    train_op = model.optimizer.minimize(tf.reduce_mean(tf.abs(logits)) + model.loss, model.global_step)
    return tf.group(train_op, *layer.updates)


def step_beside(model: Model) -> Any:
    return tf.group(model.minimize(), model.global_step.assign_add(1))


def step_before(model: Model) -> Any:
    with tf.control_dependencies([model.global_step.assign_add(1)]):
        weight = tf.identity(model.weight.read_value())
        loss = tf.reduce_mean(tf.square(weight * model.x))
        return model.optimizer.minimize(loss)


def batch_beside(model: Model) -> Any:
    total = _v1.get_variable("total", [], initializer=_v1.zeros_initializer(), trainable=False)
    train_op = model.optimizer.minimize(tf.reduce_sum(tf.square(model.weight)), model.global_step)
    return tf.group(train_op, total.assign_add(tf.reduce_sum(model.x)))


ACCEPTED = [
    accumulation,
    batch_beside,
    constraint,
    look_ahead,
    moving_average,
    normalization_before,
    normalization_beside,
    projection,
    step_beside,
    step_before,
    target_network,
]


@contextmanager
def trained(make: Callable[[Model], Any], collectives: Alone) -> Any:
    """A session, and the train_op that was made in its graph."""
    with tf.Graph().as_default():
        data = tf.data.Dataset.from_tensors(np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)).repeat(5)
        x = _v1.data.make_one_shot_iterator(data).get_next()
        averager = GradientAverager(collectives)  # type: ignore[arg-type]
        with averager.intercepting():
            model = Model(x)
            train_op = make(model)
        averager.complete(tf.group(train_op), model.loss, x)
        with _v1.Session() as session:
            session.run(_v1.global_variables_initializer())
            yield session, train_op


@contextmanager
def trained_canned(estimator: tfe.Estimator, collectives: Alone) -> Any:
    """The same of a canned estimator."""
    with tf.Graph().as_default():
        _v1.train.create_global_step()
        features, labels = _v1.data.make_one_shot_iterator(_flowers().batch(4).repeat()).get_next()
        averager = GradientAverager(collectives)  # type: ignore[arg-type]
        with averager.intercepting():
            spec = estimator.model_fn(features, labels, tfe.ModeKeys.TRAIN, estimator.config)
        averager.complete(spec.train_op, spec.loss, (features, labels))
        with _v1.Session() as session:
            session.run([_v1.global_variables_initializer(), _v1.tables_initializer()])
            yield session, spec.train_op


def _flowers() -> tf.data.Dataset:
    features = {"length": np.arange(8, dtype=np.float32), "kind": np.array([f"{i % 5}" for i in range(8)])}
    return tf.data.Dataset.from_tensor_slices((features, np.arange(8) % 2))


_LENGTH = tf.feature_column.numeric_column("length")
_KIND = tf.feature_column.categorical_column_with_hash_bucket("kind", 2000)
_EMBEDDING = tf.feature_column.embedding_column(_KIND, 4)

CANNED = {
    "baseline": tfe.BaselineClassifier,
    "combined": functools.partial(
        tfe.DNNLinearCombinedClassifier,
        linear_feature_columns=[_KIND],
        dnn_feature_columns=[_LENGTH, _EMBEDDING],
        dnn_hidden_units=[4],
        batch_norm=True,
    ),
    "dnn": functools.partial(
        tfe.DNNClassifier, [4], [_LENGTH, _EMBEDDING], batch_norm=True, dropout=0.5, optimizer="Adam"
    ),
    "decayed": functools.partial(
        tfe.DNNRegressor, [4], [_LENGTH, _EMBEDDING], optimizer=keras.optimizers.AdamW(weight_decay=0.1, clipnorm=1.0)
    ),
    "linear": functools.partial(tfe.LinearClassifier, [_LENGTH, _KIND], sparse_combiner="mean"),
}


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (both_ways, "weight"),
        (by_an_optimizer_of_its_own, "other"),
        (by_hand, "other"),
        (by_hand_in_a_reference_variable, "other"),
        (from_moving_statistics, "other"),
        (noise, "weight"),
        (under_a_condition, "other"),
        (without_a_gradient, "other"),
    ],
)
def test_a_trainable_variable_that_is_updated_without_a_mean_is_refused_by_name(
    make: Callable[[Model], Any], name: str
) -> None:
    with pytest.raises(ValueError, match=rf"without averaging over the replicas: {name}\."), trained(make, Alone()):
        pass


@pytest.mark.parametrize("make", ACCEPTED)
def test_a_step_that_is_not_applied_leaves_every_variable_as_it_was(make: Callable[[Model], Any]) -> None:
    collectives = Alone()
    with trained(make, collectives) as (session, train_op):
        for _ in range(3):
            session.run(train_op)
        before = session.run(_v1.global_variables())
        collectives.peer_has_ended = True

        with pytest.raises(tf.errors.OutOfRangeError):
            session.run(train_op)

        after = session.run(_v1.global_variables())
        assert session.run(_v1.train.get_global_step()) == 3
    np.testing.assert_equal(after, before)


@pytest.mark.parametrize("make", CANNED.values(), ids=CANNED)
def test_a_step_of_a_canned_estimator_is_applied_whole_or_not_at_all(
    make: Callable[..., tfe.Estimator], tmp_path: Path
) -> None:
    collectives = Alone()
    with trained_canned(make(model_dir=str(tmp_path)), collectives) as (session, train_op):
        started = session.run(_v1.global_variables())
        session.run(train_op)
        before = session.run(_v1.global_variables())
        collectives.peer_has_ended = True

        with pytest.raises(tf.errors.OutOfRangeError):
            session.run(train_op)

        after = session.run(_v1.global_variables())
        assert session.run(_v1.train.get_global_step()) == 1
    np.testing.assert_equal(after, before)
    assert any(np.any(new != old) for new, old in zip(before, started, strict=True))


@pytest.mark.parametrize("make", ACCEPTED)
def test_the_end_of_the_own_input_leaves_every_variable_as_it_was(make: Callable[[Model], Any]) -> None:
    with trained(make, Alone()) as (session, train_op):
        for _ in range(5):
            session.run(train_op)
        before = session.run(_v1.global_variables())

        with pytest.raises(tf.errors.OutOfRangeError):
            session.run(train_op)

        after = session.run(_v1.global_variables())
        assert session.run(_v1.train.get_global_step()) == 5
    np.testing.assert_equal(after, before)
