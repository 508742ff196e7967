"""Shadow variables, which hold values where fetching them would be a copy from another device."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner.checkpoint.shadows import Shadows

v1 = tf.compat.v1

COUNT = 5
SIZE = 3 << 20  # of each, in float32: 12 MiB, so that two make a chunk


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), v1.Session() as session:
        yield session


def build() -> tuple[Shadows, Any]:
    """Shadows of some variables, and an op that updates these."""
    variables = [
        v1.get_variable(f"v{number}", initializer=np.full(SIZE, number, np.float32)) for number in range(COUNT)
    ]
    reads = {
        variable.op.name: tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
        for variable in variables
    }
    update = tf.group(
        *(v1.scatter_add(variable, [0], [1.0]) for variable in variables[:2]),
        *(v1.assign_add(variable, tf.ones([SIZE])) for variable in variables[2:]),
    )
    return Shadows(reads), update


def test_they_keep_the_values_while_the_variables_go_on(session: Any) -> None:
    shadows, update = build()
    session.run(v1.global_variables_initializer())
    shadows.prepare(session)

    for step in range(3):
        shadows.take()
        session.run(update)

        for number, tensor in enumerate(shadows.tensors):
            value = shadows.read(tensor.name)
            assert value[0] == number + step
            assert value[-1] == (number if number < 2 else number + step)
        shadows.release()


def test_what_was_released_cannot_be_read(session: Any) -> None:
    shadows, _ = build()
    session.run(v1.global_variables_initializer())
    shadows.prepare(session)
    shadows.take()

    shadows.release()

    with pytest.raises(tf.errors.FailedPreconditionError):
        shadows.read("v0")


def test_they_belong_to_no_model(session: Any) -> None:
    shadows, _ = build()

    assert [variable.op.name for variable in v1.global_variables()] == [tensor.name for tensor in shadows.tensors]
    assert session.graph is v1.get_default_graph()
