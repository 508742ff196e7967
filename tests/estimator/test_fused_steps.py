"""Many steps in one call do what as many calls do."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.framework.function import Defun

from runner.estimator.fused_steps import FusedSteps

_v1 = tf.compat.v1

Loss = Callable[[Any], Any]
TARGETS = [1.0, 3.0, 2.0, 5.0, 4.0, 6.0, 0.0, 2.5]


def squares(target: Any) -> Any:
    weight = _v1.get_variable("weight", [], initializer=_v1.zeros_initializer(), use_resource=True)
    return tf.square(weight - target)


@contextmanager
def training(
    make_loss: Loss = squares,
    *,
    targets: list[float] | None = None,
    make_dataset: Callable[[], tf.data.Dataset] | None = None,
    epochs: int | None = None,
    strides: int = 1,
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A session over a small model, and its fetches."""
    with tf.Graph().as_default():
        global_step = _v1.train.create_global_step()
        iterator = _v1.data.make_initializable_iterator(
            (make_dataset() if make_dataset else tf.data.Dataset.from_tensor_slices(targets or TARGETS)).repeat(epochs)
        )
        loss = make_loss(iterator.get_next())
        train_op = _v1.train.AdamOptimizer(0.1).minimize(loss, global_step)
        for _ in range(strides - 1):
            with tf.control_dependencies([train_op]):
                train_op = global_step.assign_add(1).op
        with tf.control_dependencies([train_op]):
            step = tf.identity(global_step.read_value())
        initializers = [_v1.global_variables_initializer(), _v1.tables_initializer(), iterator.initializer]
        with _v1.Session() as session:
            session.run(initializers)
            yield session, {"train_op": train_op, "loss": loss, "step": step}


def state(session: Any) -> list[Any]:
    return session.run([*_v1.global_variables()])


def test_the_state_and_the_loss_are_those_of_single_steps() -> None:
    with training() as (session, fetches):
        for _ in range(20):
            single = session.run(fetches)
        expected = state(session)

    with training() as (session, fetches):
        done = FusedSteps(session, **fetches).run(0, stride=1, due=21, max_runs=100)
        actual = state(session)

    assert done == (20, single["loss"], 20, 1)
    np.testing.assert_array_equal(expected, actual)


def test_single_and_fused_steps_take_turns() -> None:
    with training() as (session, fetches):
        losses = [session.run(fetches)["loss"] for _ in range(9)]

    with training() as (session, fetches):
        fused = FusedSteps(session, **fetches)
        first = session.run(fetches)["loss"]
        middle = fused.run(1, stride=1, due=8, max_runs=100)
        last = session.run(fetches)

    assert (first, middle.loss, last["loss"]) == (losses[0], losses[6], losses[7])
    assert (middle.step, last["step"]) == (7, 8)


def test_a_call_ends_after_its_runs() -> None:
    with training() as (session, fetches):
        done = FusedSteps(session, **fetches).run(0, stride=1, due=10**9, max_runs=7)

    assert (done.runs, done.step) == (7, 7)


def test_a_call_ends_in_time_if_the_input_becomes_slow() -> None:
    def generate() -> Iterator[float]:
        yield from [1.0] * 50
        while True:
            time.sleep(0.02)  # what the input is slow by
            yield 2.0

    def slow() -> tf.data.Dataset:
        return tf.data.Dataset.from_generator(generate, output_signature=tf.TensorSpec([]))

    with training(make_dataset=slow) as (session, fetches):
        fused = FusedSteps(session, **fetches)
        done = fused.run(0, stride=1, due=10**9, max_runs=500, max_secs=0.1)
        late = fused.run(done.step, stride=1, due=10**9, max_runs=500, max_secs=0.0)

    assert 1 <= done.runs < 60
    assert late.runs == 1


def test_runs_that_count_two_steps_end_before_the_one_that_is_due() -> None:
    with training(strides=2) as (session, fetches):
        fused = FusedSteps(session, **fetches)
        even = fused.run(0, stride=2, due=10, max_runs=100)
        odd = fused.run(8, stride=2, due=13, max_runs=100)

    assert (even.step, even.stride, odd.step) == (8, 2, 12)


def test_the_end_of_the_input_leaves_the_loss_of_the_last_step() -> None:
    with training(epochs=1) as (session, fetches):
        losses = [session.run(fetches)["loss"] for _ in TARGETS]
        expected = state(session)

    with training(epochs=1) as (session, fetches):
        fused = FusedSteps(session, **fetches)
        with pytest.raises(tf.errors.OutOfRangeError):
            fused.run(0, stride=1, due=10**9, max_runs=100)
        runs, loss = fused.progress()
        actual = state(session)
        with pytest.raises(tf.errors.OutOfRangeError):
            fused.run(8, stride=1, due=10**9, max_runs=100)

        assert fused.progress() == (0, None)

    assert (runs, loss) == (8, losses[-1])
    np.testing.assert_array_equal(expected, actual)


def test_a_loss_that_is_not_a_number_ends_a_call() -> None:
    with training(targets=[1.0, 2.0, float("nan"), 3.0]) as (session, fetches):
        done = FusedSteps(session, **fetches).run(0, stride=1, due=10**9, max_runs=100)

    assert done.runs == done.step == 3
    assert np.isnan(done.loss)


def test_an_error_names_the_operation_of_the_step_and_where_it_was_made() -> None:
    def inverse(target: Any) -> Any:
        return squares(tf.debugging.check_numerics(1.0 / target, "a target is 0", name="inverted"))

    with training(inverse) as (session, fetches):
        fused = FusedSteps(session, **fetches)
        with pytest.raises(tf.errors.InvalidArgumentError, match="a target is 0") as caught:
            fused.run(0, stride=1, due=10**9, max_runs=100)

    assert caught.value.op.name == "inverted"
    assert "test_fused_steps.py" in str(caught.value)


def test_tables_conditions_loops_and_functions_are_shared_with_the_step() -> None:
    def looked_up(target: Any) -> Any:
        initializer = tf.lookup.KeyValueTensorInitializer(["1", "2", "3"], [1.0, 2.0, 3.0])
        table = tf.lookup.StaticHashTable(initializer, default_value=0.5)
        value = table.lookup(tf.strings.as_string(tf.cast(target, tf.int32)))
        doubled = tf.function(lambda x: x * 2)(value)
        capped = tf.cond(doubled > 3.0, lambda: tf.constant(3.0), lambda: doubled)
        _, total = tf.while_loop(lambda i, _: i < 3, lambda i, x: (i + 1, x + capped), [0, 0.0])
        return squares(total)

    _v1.enable_control_flow_v2()
    with training(looked_up) as (session, fetches):
        losses = [session.run(fetches)["loss"] for _ in range(6)]

    with training(looked_up) as (session, fetches):
        assert FusedSteps.is_possible(session, **fetches)
        done = FusedSteps(session, **fetches).run(0, stride=1, due=7, max_runs=100)

    assert done.loss == losses[-1]


def test_a_function_that_is_called_by_its_name_is_shared_with_the_step() -> None:
    @Defun(tf.float32)
    def double(x: Any) -> Any:
        return x * 2.0

    def doubled(target: Any) -> Any:
        return squares(tf.ensure_shape(double(target), []))

    with training(doubled) as (session, fetches):
        losses = [session.run(fetches)["loss"] for _ in range(6)]

    with training(doubled) as (session, fetches):
        done = FusedSteps(session, **fetches).run(0, stride=1, due=7, max_runs=100)

    assert done.loss == losses[-1]


def test_a_device_function_is_not_asked_about_the_copies() -> None:
    asked = []

    def device_of(operation: Any) -> str:
        asked.append(operation.name)
        return str(operation.device)

    with training() as (session, fetches), session.graph.device(device_of):
        FusedSteps(session, **fetches)

    assert asked == []


def with_a_large_constant(target: Any) -> Any:
    return squares(tf.constant(np.arange(2**24, dtype=np.float32))[tf.cast(target, tf.int32)])


def with_dropout(target: Any) -> Any:
    return squares(tf.reduce_sum(tf.nn.dropout(tf.fill([4], target), rate=0.5)))


def with_dropout_in_a_function(target: Any) -> Any:
    return squares(tf.function(lambda x: tf.reduce_sum(tf.nn.dropout(tf.fill([4], x), rate=0.5)))(target))


def with_python(target: Any) -> Any:
    return squares(tf.ensure_shape(tf.py_function(lambda x: x * 2, [target], tf.float32), []))


def with_a_queue(target: Any) -> Any:
    queue = tf.queue.FIFOQueue(10, [tf.float32], [[]])
    with tf.control_dependencies([queue.enqueue(target)]):
        return squares(queue.dequeue())


@pytest.mark.parametrize("make_loss", [with_dropout, with_dropout_in_a_function, with_python, with_a_queue])
def test_a_step_with_a_state_of_its_own_is_not_fused(make_loss: Loss) -> None:
    with training(make_loss) as (session, fetches):
        assert not FusedSteps.is_possible(session, **fetches)


def test_a_step_with_a_large_constant_is_not_fused() -> None:
    with training(with_a_large_constant) as (session, fetches):
        assert not FusedSteps.is_possible(session, **fetches)


def test_control_flow_of_tensorflow_1_is_not_fused() -> None:
    _v1.disable_control_flow_v2()
    try:
        with training(lambda x: squares(tf.cond(x > 2.0, lambda: x, lambda: -x))) as (session, fetches):
            assert not FusedSteps.is_possible(session, **fetches)
    finally:
        _v1.enable_control_flow_v2()


def test_variables_that_are_references_are_not_fused() -> None:
    def squares_of_a_reference(target: Any) -> Any:
        with _v1.variable_scope("", use_resource=False):
            weight = _v1.get_variable("weight", [], initializer=_v1.zeros_initializer())
        return tf.square(weight - target)

    with training(squares_of_a_reference) as (session, fetches):
        assert not FusedSteps.is_possible(session, **fetches)


def test_the_graph_is_finalized_again_and_has_no_more_variables() -> None:
    with training() as (session, fetches):
        variables = _v1.global_variables() + _v1.local_variables()

        FusedSteps(session, **fetches)

        assert session.graph.finalized
        assert _v1.global_variables() + _v1.local_variables() == variables


def test_batch_norm_of_keras_2_moves_as_in_single_steps() -> None:
    def normalized(target: Any) -> Any:
        layer = tf_keras.layers.BatchNormalization(momentum=0.5)
        outputs = layer(tf.reshape(tf.stack([target, target + 1.0]), [2, 1]), training=True)
        with tf.control_dependencies(layer.updates):
            return squares(tf.reduce_sum(outputs))

    with training(normalized) as (session, fetches):
        for _ in range(10):
            session.run(fetches)
        expected = state(session)

    with training(normalized) as (session, fetches):
        assert FusedSteps.is_possible(session, **fetches)
        FusedSteps(session, **fetches).run(0, stride=1, due=11, max_runs=100)

        np.testing.assert_array_equal(
            np.concatenate([np.ravel(x) for x in expected]), np.concatenate([np.ravel(x) for x in state(session)])
        )
