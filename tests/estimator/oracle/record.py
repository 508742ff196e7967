"""Writes the model_dirs in tests/fixtures/tf215, and what the real tf.estimator makes of them.

Run in the interpreter of TensorFlow 2.15: `python -m tests.estimator.oracle.record`.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from tests.estimator.oracle import commands
from tests.estimator.oracle.models import MODELS, Library

FIXTURES = Path(__file__).parents[2] / "fixtures" / "tf215"
RECORDED = (
    "DNNLinearCombinedClassifier",
    "DNNRegressor",
    "LinearClassifier",
    "v1.DNNClassifier",
    "v1.DNNClassifier.Adam",
    "v1.DNNLinearCombinedClassifier",
    "v1.LinearClassifier",
)
STEPS_BEFORE = 30
STEPS_AFTER = 20


def record(name: str, directory: Path) -> None:
    library = Library(tf.estimator, tf.compat.v1.estimator, tf.keras.optimizers.legacy)
    model, model_dir = MODELS[name], str(directory / name)
    commands.train(model, library, model_dir, steps=STEPS_BEFORE)
    target = FIXTURES / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in Path(model_dir).glob(f"model.ckpt-{STEPS_BEFORE}.*"):
        if path.suffix != ".meta":
            shutil.copy(path, target)
    shutil.copy(Path(model_dir, "checkpoint"), target)
    metrics = commands.evaluate(model, library, model_dir)
    predictions = commands.predict(model, library, model_dir)[:3]
    commands.train(model, library, model_dir, steps=STEPS_AFTER)
    recorded = {"evaluate": metrics, "predict": predictions, "after": commands.read(model_dir)["values"]}
    (FIXTURES / f"{name}.json").write_text(json.dumps(_short(recorded), sort_keys=True) + "\n")


def _short(value: Any) -> Any:
    """float32 has seven digits."""
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_short(each) for each in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for each in RECORDED:
            record(each, Path(temporary))
