"""A chief and two workers whose inputs end at different steps."""

from contextlib import ExitStack

import pytest
import tensorflow as tf

from tests.estimator import endings
from tests.estimator.tasks import outputs, start

Lines = list[list[str]]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[Lines]:
    """What each of three tasks reports, in words."""
    path = tmp_path_factory.mktemp("endings")
    with ExitStack() as stack:
        tasks = start(stack, "end", path / "model", workers=2, logs=path)
        assert [task.wait() for task in tasks.values()] == [0, 0, 0], outputs(tasks)
    for name, n_steps in endings.N_STEPS.items():
        assert tf.train.load_variable(str(path / "model" / name), "global_step") == n_steps
    return [[line.split() for line in task.output.splitlines()] for task in tasks.values()]


@pytest.mark.parametrize("name", endings.INPUTS)
def test_the_first_input_that_ends_ends_all_at_one_step_with_the_same_weights(lines: list[Lines], name: str) -> None:
    ends = [line for each in lines for line in each if line[:2] == ["END", name]]

    assert len(ends) == 3
    assert {int(step) for _, _, step, _, _ in ends} == {endings.N_STEPS[name]}
    assert len({weights for _, _, _, weights, _ in ends}) == 1


def test_dropout_and_batch_statistics_are_of_each_replica_alone(lines: list[Lines]) -> None:
    masks = [line[2] for each in lines for line in each if line[:2] == ["MASK", "sharded"]]
    statistics = [line[4] for each in lines for line in each if line[:2] == ["END", "sharded"]]

    assert len(set(masks)) == len(masks) == 3 * endings.N_STEPS["sharded"]
    assert len(set(statistics)) == 3
