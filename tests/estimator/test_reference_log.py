"""The log, line by line, compared with that recorded from the real library."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.data import linear_input_fn, linear_model_fn

_v1 = tf.compat.v1


def estimator(model_dir: Any, model_fn: Any = linear_model_fn, **kwargs: Any) -> tfe.Estimator:
    if model_fn is linear_model_fn:
        kwargs = {"params": {"scale": 1.0}, **kwargs}
    return tfe.Estimator(model_fn, str(model_dir), **kwargs)


def shown(log: pytest.LogCaptureFixture) -> list[str]:
    """Level and text of every line, with X for times, dates and floating-point numbers."""
    lines = []
    for record in log.records:
        text = re.sub(r"\d{4}-\d\d-\d\d[T-]\d\d:\d\d:\d\d", "X", record.getMessage())
        text = re.sub(r"\d+\.\d+(e-\d+)?", "X", text)
        if not text.startswith(("Using config", "global_step/sec")):
            lines.append(f"{record.levelname}: {text}")
    return lines


STARTED = ["INFO: Graph was finalized.", "INFO: Running local_init_op.", "INFO: Done running local_init_op."]
MODEL = ["INFO: Calling model_fn.", "INFO: Done calling model_fn."]


def restored(path: str) -> list[str]:
    return [STARTED[0], f"INFO: Restoring parameters from {path}", *STARTED[1:]]


def test_the_log_of_a_training_and_of_one_that_goes_on(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    estimator(tmp_path).train(linear_input_fn, steps=2)
    first = shown(info_log)
    info_log.clear()
    estimator(tmp_path).train(linear_input_fn, max_steps=4)
    estimator(tmp_path).train(linear_input_fn, max_steps=4)

    basename = f"{tmp_path}/model.ckpt"
    assert first == [
        "INFO: Using default config.",
        *MODEL,
        "INFO: Create CheckpointSaverHook.",
        *STARTED,
        f"INFO: Saving checkpoints for 1 into {basename}.",
        "INFO: loss = X, step = 1",
        f"INFO: Saving checkpoints for 2 into {basename}.",
        "INFO: Loss for final step: X.",
    ]
    assert shown(info_log) == [
        "INFO: Using default config.",
        *MODEL,
        "INFO: Create CheckpointSaverHook.",
        *restored(f"{basename}-2"),
        f"INFO: Saving checkpoints for 3 into {basename}.",
        "INFO: loss = X, step = 3",
        f"INFO: Saving checkpoints for 4 into {basename}.",
        "INFO: Loss for final step: X.",
        "INFO: Using default config.",
        "INFO: Skipping training since max_steps has already saved.",
    ]


def test_the_log_of_a_training_with_listeners(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    estimator(tmp_path).train(linear_input_fn, steps=1, saving_listeners=[_v1.train.CheckpointSaverListener()])

    assert [line for line in shown(info_log) if "checkpoint" in line] == [
        "INFO: Calling checkpoint listeners before saving checkpoint 1...",
        f"INFO: Saving checkpoints for 1 into {tmp_path}/model.ckpt.",
        "INFO: Calling checkpoint listeners after saving checkpoint 1...",
    ]


def test_the_log_of_an_evaluation(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    config = tfe.RunConfig()
    estimator(tmp_path, config=config).train(linear_input_fn, steps=2)
    info_log.clear()

    estimator(tmp_path, config=config).evaluate(linear_input_fn, steps=2)

    assert shown(info_log) == [
        *MODEL,
        "INFO: Starting evaluation at X",
        *restored(f"{tmp_path}/model.ckpt-2"),
        "INFO: Evaluation [1/2]",
        "INFO: Evaluation [2/2]",
        "INFO: Inference Time : Xs",
        "INFO: Finished evaluation at X",
        "INFO: Saving dict for global step 2: global_step = 2, loss = X",
        f"INFO: Saving 'checkpoint_path' summary for global step 2: {tmp_path}/model.ckpt-2",
    ]


def test_the_log_of_an_evaluation_and_a_prediction_without_a_checkpoint(
    tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    untrained = estimator(tmp_path, config=tfe.RunConfig())
    info_log.clear()

    untrained.evaluate(lambda: linear_input_fn().take(1))
    evaluation = shown(info_log)
    info_log.clear()
    next(untrained.predict(lambda: {"x": tf.constant([1.0])}))

    none = f"INFO: Could not find trained model in model_dir: {tmp_path}, running initialization to"
    assert evaluation == [
        f"{none} evaluate.",
        *MODEL,
        "INFO: Starting evaluation at X",
        *STARTED,
        "INFO: Inference Time : Xs",
        "INFO: Finished evaluation at X",
        "INFO: Saving dict for global step 0: global_step = 0, loss = X",
    ]
    assert shown(info_log) == [
        f"{none} predict.",
        "WARNING: Input graph does not use tf.data.Dataset or contain a QueueRunner. That means predict yields "
        "forever. This is probably a mistake.",
        *MODEL,
        *STARTED,
    ]


def test_the_log_of_metrics_that_are_no_numbers(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    values = {"array": tf.constant, "bytes": lambda _: tf.constant("abc"), "flag": lambda _: tf.constant(1.0) > 0}

    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        spec = linear_model_fn(features, labels, mode, {})
        ops = {name: (make([1.0, 2.0]), tf.no_op()) for name, make in values.items()}
        return spec._replace(eval_metric_ops=ops)

    metrics = estimator(tmp_path, model_fn).evaluate(linear_input_fn, steps=1)

    assert list(metrics) == ["array", "bytes", "flag", "loss", "global_step"]
    assert shown(info_log)[-4:] == [
        "INFO: Saving dict for global step 0: array = [1. 2.], flag = True, global_step = 0, loss = X",
        "INFO: Summary for np.ndarray is not visible in Tensorboard by default. Consider using a Tensorboard plugin "
        "for visualization (see https://github.com/tensorflow/tensorboard-plugin-example/blob/master/README.md for "
        "more information).",
        "WARNING: Skipping summary for bytes, cannot parse string to Summary.",
        "WARNING: Skipping summary for flag, must be a float, np.float32, np.int64, np.int32 or int or np.ndarray or a "
        "serialized string of Summary.",
    ]


def test_the_log_of_a_loss_that_is_not_a_number(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    with pytest.raises(_v1.train.NanLossDuringTrainingError):
        estimator(tmp_path, params={"scale": np.nan}).train(linear_input_fn)

    assert "ERROR: Model diverged with loss = NaN." in shown(info_log)


def test_the_log_of_params_that_are_not_passed(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    estimator(tmp_path, params=None)

    assert shown(info_log)[-1] == (
        f"WARNING: Estimator's model_fn ({linear_model_fn}) includes params argument, but params are not passed to "
        "Estimator."
    )


def test_the_config_is_shown_as_recorded(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    estimator(tmp_path)

    line = next(message for message in info_log.messages if message.startswith("Using config"))
    assert line == (
        f"Using config: {{'_model_dir': '{tmp_path}', '_tf_random_seed': None, '_save_summary_steps': 100, "
        "'_save_checkpoints_steps': None, '_save_checkpoints_secs': 600, '_session_config': "
        "allow_soft_placement: true\n"
        "graph_options {\n  rewrite_options {\n    meta_optimizer_iterations: ONE\n  }\n}\n"
        ", '_keep_checkpoint_max': 5, '_keep_checkpoint_every_n_hours': 10000, '_log_step_count_steps': 100, "
        "'_train_distribute': None, '_device_fn': None, '_protocol': None, '_eval_distribute': None, "
        "'_experimental_distribute': None, '_experimental_max_worker_delay_secs': None, "
        "'_session_creation_timeout_secs': 7200, '_checkpoint_save_graph_def': True, '_service': None, "
        "'_cluster_spec': ClusterSpec({}), '_task_type': 'worker', '_task_id': 0, '_global_id_in_cluster': 0, "
        "'_master': '', '_evaluation_master': '', '_is_chief': True, '_num_ps_replicas': 0, '_num_worker_replicas': 1}"
    )
