"""install(): what a script written for the original finds under the names of TensorFlow, each in its own process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

SCRIPTS = Path(__file__).parent
INSTALL = "from runner.estimator import install; install()\n"


def run(source: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, "-W", "always::RuntimeWarning", "-c", source, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**env, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environment},
        timeout=240,
    )


def run_script(prelude: str, script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    source = prelude + f"import runpy; runpy.run_path({str(SCRIPTS / script)!r}, run_name='__main__')"
    return run(source, str(tmp_path), str(tmp_path / "metrics.json"))


@pytest.mark.parametrize("before", ["", "import tensorflow as tf\n"], ids=["first", "after TensorFlow"])
def test_an_unchanged_script_runs(tmp_path: Path, before: str) -> None:
    process = run_script(before + INSTALL, "script.py", tmp_path)

    assert process.returncode == 0, process.stderr
    assert "RuntimeWarning" not in process.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["package"] == "runner.estimator.estimator"
    assert metrics["canned"]["global_step"] == metrics["custom"]["global_step"] == 40
    assert metrics["custom"]["accuracy"] > 0.8
    # Keras 2: the layers' variables are in the checkpoint, and the statistics of the normalization have moved.
    mean = tf.train.load_variable(str(tmp_path / "custom"), "normalization/moving_mean")
    assert np.abs(mean).max() > 0


def test_an_unchanged_script_for_tensorflow_1_runs(tmp_path: Path) -> None:
    process = run_script(INSTALL, "script_v1.py", tmp_path)

    assert process.returncode == 0, process.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["package"] == "runner.estimator.v1.dnn"
    assert metrics["canned"]["global_step"] == metrics["custom"]["global_step"] == 40
    assert metrics["canned"]["accuracy"] > 0.9
    assert metrics["custom"]["accuracy"] > 0.9
    assert metrics["canned"]["loss"] == pytest.approx(16 * metrics["canned"]["average_loss"])  # a sum, as it was
    assert "entropy = " in process.stderr


def test_keras_3_in_use_before_is_left_alone_and_warned_of() -> None:
    process = run(
        "import tensorflow as tf; layer = tf.keras.layers.Layer\n"
        + INSTALL
        + "import keras; assert tf.keras.layers.Layer is layer; assert issubclass(layer, keras.Layer)\n"
        "import runner.estimator; assert tf.estimator is runner.estimator"
    )

    assert process.returncode == 0, process.stderr
    assert "RuntimeWarning: tf.keras is Keras 3" in process.stderr
    assert "set TF_USE_LEGACY_KERAS=1 in the environment before the program starts" in process.stderr


def test_an_import_from_keras_3_before_is_warned_of() -> None:
    process = run("from tensorflow.keras.layers import Dense\n" + INSTALL)

    assert process.returncode == 0, process.stderr
    assert "RuntimeWarning: tf.keras is Keras 3" in process.stderr


def test_the_namespaces_resolve_and_calling_twice_changes_nothing() -> None:
    process = run(
        INSTALL
        + "import os, sys, tensorflow as tf; assert os.environ['TF_USE_LEGACY_KERAS'] == '1'\n"
        + "before = dict(sys.modules), list(tf.__path__)\n"
        + "tf.estimator.install()\n"
        + "assert before == (dict(sys.modules), list(tf.__path__))\n"
        + "import runner.estimator as ours, runner.estimator.v1 as v1, tensorflow.compat.v1 as tf1\n"
        + "assert tf.estimator is tf.compat.v2.estimator is ours\n"
        + "assert tf1.estimator is tf.compat.v1.estimator is v1\n"
        + "assert tf1.compat.v1.estimator is tf.compat.v2.compat.v1.estimator is v1\n"
        + "assert tf1.compat.v2.estimator is tf.compat.v2.compat.v2.estimator is ours\n"
        + "import tensorflow.compat.v1.estimator, tensorflow.compat.v2.estimator, tensorflow.compat.v1.layers\n"
        + "from tensorflow.compat.v1.estimator.inputs import numpy_input_fn, pandas_input_fn\n"
        + "assert tf.compat.v1.estimator.inputs.numpy_input_fn is numpy_input_fn\n"
        + "from tensorflow.estimator.inputs import numpy_input_fn as in_v2; assert in_v2 is numpy_input_fn\n"
        + "from tensorflow.compat.v1.nn import rnn_cell; from tensorflow.compat.v1 import keras\n"
        + "import tf_keras; assert issubclass(rnn_cell.BasicLSTMCell, tf_keras.layers.Layer)\n"
        + "assert issubclass(keras.layers.Dense, tf_keras.layers.Layer)\n"
    )

    assert process.returncode == 0, process.stderr
    assert "RuntimeWarning" not in process.stderr


def test_model_to_estimator_says_that_it_is_out_of_scope() -> None:
    process = run(INSTALL + "import tensorflow as tf; tf.keras.estimator.model_to_estimator")

    assert "AttributeError" in process.stderr
    assert "Models of Keras are out of scope here: write a model_fn" in process.stderr


def test_a_choice_of_keras_in_the_environment_is_respected_and_warned_of() -> None:
    process = run(INSTALL + "import os; assert os.environ['TF_USE_LEGACY_KERAS'] == '0'", TF_USE_LEGACY_KERAS="0")

    assert process.returncode == 0, process.stderr
    assert "RuntimeWarning: tf.keras is Keras 3" in process.stderr
