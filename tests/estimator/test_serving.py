"""An export is whole: it answers in a process that has TensorFlow but not this package."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.data import linear_input_fn, linear_model_fn

SERVER = Path(__file__).with_name("serving.py")
DOCUMENT = Path(__file__).parents[2] / "docs" / "exports.md"
TIMEOUT_SECS = 120
X = np.array([[0.5, -1.0], [1.0, 2.0], [0.0, 0.0]], np.float32)
CATS = ["tabby", "lion", "unknown"]


def input_fn() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(({"x": X, "cat": CATS}, ["a", "b", "c"]))


def serialized_examples() -> list[str]:
    """The input as a client sends it: tf.train.Examples, in base64."""
    return [base64.b64encode(_example(x, cat).SerializeToString()).decode() for x, cat in zip(X, CATS, strict=True)]


def _example(x: Any, cat: str) -> Any:
    features = {
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=x)),
        "cat": tf.train.Feature(bytes_list=tf.train.BytesList(value=[cat.encode()])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


def classifier_of(model_dir: Path, vocabulary: Path) -> tuple[tfe.DNNClassifier, list[Any]]:
    """A trained classifier, one of whose columns has its vocabulary in a file, and its columns."""
    category = tf.feature_column.categorical_column_with_vocabulary_file("cat", str(vocabulary), num_oov_buckets=1)
    columns = [tf.feature_column.numeric_column("x", [2]), tf.feature_column.embedding_column(category, 2)]
    names = ["a", "b", "c"]
    classifier = tfe.DNNClassifier([4], columns, str(model_dir), n_classes=3, label_vocabulary=names)
    return classifier.train(lambda: input_fn().repeat(5)), columns


def ask(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers of a server that has TensorFlow alone."""
    command = [sys.executable, "-I", str(SERVER)]
    server = subprocess.run(
        command, input=json.dumps(requests), text=True, capture_output=True, timeout=TIMEOUT_SECS, check=False
    )
    assert server.returncode == 0, server.stderr
    answers: list[dict[str, Any]] = json.loads(server.stdout.splitlines()[-1])
    return answers


def test_exports_answer_as_predict_does_without_this_package_and_where_they_were_moved_to(tmp_path: Path) -> None:
    vocabulary = tmp_path / "cats.txt"
    vocabulary.write_text("tabby\nlion\n")
    classifier, columns = classifier_of(tmp_path / "classifier", vocabulary)
    linear = tfe.Estimator(linear_model_fn, str(tmp_path / "linear"), params={}).train(linear_input_fn)
    expected = list(classifier.predict(input_fn))
    spec = tf.feature_column.make_parse_example_spec(columns)
    parsed = classifier.export_saved_model(
        str(tmp_path / "exports"), tfe.export.build_parsing_serving_input_receiver_fn(spec)
    )
    features = {"x": tf.constant(X), "cat": tf.constant(CATS)}
    raw = classifier.export_saved_model(str(tmp_path / "raw"), tfe.export.build_raw_serving_input_receiver_fn(features))
    custom = linear.export_saved_model(
        str(tmp_path / "custom"), tfe.export.build_raw_serving_input_receiver_fn({"x": X[:, 0]}, 3)
    )
    moved = Path(parsed.decode()).rename(tmp_path / "moved")
    vocabulary.unlink()

    cats = [base64.b64encode(cat.encode()).decode() for cat in CATS]
    default, predict, from_raw, from_custom = ask(
        {"path": str(moved), "signature": "serving_default", "inputs": {"inputs": serialized_examples()}},
        {"path": str(moved), "signature": "predict", "inputs": {"examples": serialized_examples()}},
        {"path": raw.decode(), "signature": "predict", "inputs": {"x": X.tolist(), "cat": cats}},
        {"path": custom.decode(), "signature": "serving_default", "inputs": {"x": X[:, 0].tolist()}},
    )

    assert (moved / "assets" / "cats.txt").read_text() == "tabby\nlion\n"
    assert default["classes"] == [["a", "b", "c"]] * 3
    probabilities = [each["probabilities"].tolist() for each in expected]
    for name, answer in (("scores", default), ("probabilities", predict), ("probabilities", from_raw)):
        np.testing.assert_allclose(answer[name], probabilities, rtol=1e-6)
    assert predict["classes"] == [[each["classes"][0].decode()] for each in expected]
    weight = tf.train.load_variable(linear.model_dir, "weight")
    assert from_custom["y"] == pytest.approx(weight * X[:, 0])


def test_the_example_of_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cats.txt").write_text("tabby\nlion\n")
    classifier, columns = classifier_of(tmp_path / "classifier", tmp_path / "cats.txt")
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    names = {"tf": tf, "tfe": tfe, "classifier": classifier, "columns": columns, "example": _example(X[0], CATS[0])}

    exec(code, names)

    assert re.fullmatch(rb"export/\d{10}", names["path"])
    assert names["answer"]["scores"].numpy()[0] == pytest.approx(next(classifier.predict(input_fn))["probabilities"])
