"""BinaryClassHead: loss, metrics, predictions and exports, worked out by hand or recorded from TensorFlow 2.15."""

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.head_examples import (
    FEATURES,
    LOGITS,
    WEIGHTS,
    cross_entropy,
    evaluated,
    evaluated_eagerly,
    exported,
    sigmoid,
)

LABELS = np.array([1, 0, 0, 1])


def test_the_loss_is_the_mean_cross_entropy_of_a_batch() -> None:
    expected = cross_entropy(LABELS[:, np.newaxis], LOGITS)

    loss = tfe.BinaryClassHead().loss(LABELS, LOGITS, FEATURES)
    _, batches = evaluated(tfe.BinaryClassHead(), LOGITS, LABELS)

    assert float(loss) == pytest.approx(expected.mean())
    assert batches == pytest.approx([expected[:2].mean(), expected[2:].mean()])


def test_weights_multiply_losses_and_do_not_divide_them() -> None:
    weighted = WEIGHTS * cross_entropy(LABELS[:, np.newaxis], LOGITS)

    mean = tfe.BinaryClassHead(weight_column="w").loss(LABELS, LOGITS, FEATURES)
    total = tfe.BinaryClassHead(weight_column="w", loss_reduction="sum").loss(LABELS, LOGITS, FEATURES)
    metrics, _ = evaluated(tfe.BinaryClassHead(weight_column="w"), LOGITS, LABELS)

    assert float(mean) == pytest.approx(weighted.sum() / 4)
    assert float(total) == pytest.approx(weighted.sum())
    assert metrics["average_loss"] == pytest.approx(weighted.sum() / WEIGHTS.sum())


def test_a_weight_column_may_normalize_its_values() -> None:
    column = tf.feature_column.numeric_column("w", normalizer_fn=lambda weights: weights / 2)

    half = tfe.BinaryClassHead(weight_column=column).loss(LABELS, LOGITS, FEATURES)

    whole = tfe.BinaryClassHead(weight_column="w").loss(LABELS, LOGITS, FEATURES)
    assert float(half) == pytest.approx(float(whole) / 2)


def test_metrics_are_those_of_all_examples() -> None:
    metrics, _ = evaluated(tfe.BinaryClassHead(), LOGITS, LABELS)

    assert metrics == pytest.approx(
        {
            "accuracy": 0.5,
            "accuracy_baseline": 0.5,
            "auc": 0.75,
            "auc_precision_recall": 0.797267,
            "average_loss": cross_entropy(LABELS[:, np.newaxis], LOGITS).mean(),
            "label/mean": 0.5,
            "precision": 0.5,
            "prediction/mean": sigmoid(LOGITS).mean(),
            "recall": 0.5,
        },
        rel=1e-5,
    )
    assert evaluated_eagerly(tfe.BinaryClassHead(), LOGITS, LABELS) == pytest.approx(metrics)


def test_metrics_at_thresholds_count_weighted_examples_under_the_name_of_the_head() -> None:
    head = tfe.BinaryClassHead(weight_column="w", thresholds=[0.3, 0.9], name="clicks")

    metrics, _ = evaluated(head, LOGITS, LABELS, regularization_losses=[0.25, 0.5])

    # Predicted probabilities are 0.88, 0.27, 0.62 and 0.44, weights 1, 2, 3 and 0.5.
    assert metrics == pytest.approx(
        {
            "accuracy/clicks": 3 / 6.5,
            "accuracy/positive_threshold_0.3/clicks": 3.5 / 6.5,
            "accuracy/positive_threshold_0.9/clicks": 5 / 6.5,
            "accuracy_baseline/clicks": 5 / 6.5,
            "auc/clicks": 0.8,
            "auc_precision_recall/clicks": 0.764434,
            "average_loss/clicks": 0.629023,
            "label/mean/clicks": 1.5 / 6.5,
            "precision/clicks": 1 / 4,
            "precision/positive_threshold_0.3/clicks": 1.5 / 4.5,
            "precision/positive_threshold_0.9/clicks": 0.0,
            "prediction/mean/clicks": 0.539226,
            "recall/clicks": 1 / 1.5,
            "recall/positive_threshold_0.3/clicks": 1.0,
            "recall/positive_threshold_0.9/clicks": 0.0,
            "regularization_loss/clicks": 0.75,
        },
        rel=1e-5,
    )


def test_the_baseline_predicts_the_more_frequent_class() -> None:
    metrics, _ = evaluated(tfe.BinaryClassHead(), LOGITS, np.array([0, 0, 0, 1]))

    assert metrics["accuracy_baseline"] == 0.75


def test_labels_may_be_probabilities() -> None:
    labels = np.array([0.25, 0.5, 0.75, 1.0], np.float32)

    metrics, _ = evaluated(tfe.BinaryClassHead(weight_column="w"), LOGITS, labels)

    weighted = WEIGHTS * cross_entropy(labels[:, np.newaxis], LOGITS)
    assert metrics["average_loss"] == pytest.approx(weighted.sum() / WEIGHTS.sum())
    assert metrics["label/mean"] == pytest.approx((WEIGHTS[:, 0] * labels).sum() / WEIGHTS.sum())


def test_labels_are_looked_up_in_the_vocabulary() -> None:
    head = tfe.BinaryClassHead(label_vocabulary=["no", "yes"])

    metrics, _ = evaluated(head, LOGITS, np.array(["yes", "no", "no", "yes"]))

    assert metrics == pytest.approx(evaluated(tfe.BinaryClassHead(), LOGITS, LABELS)[0])


def test_predictions_have_values_and_types_of_the_original() -> None:
    predictions = tfe.BinaryClassHead(label_vocabulary=("no", "yes")).predictions(LOGITS)

    values = {key: value.numpy() for key, value in predictions.items()}
    np.testing.assert_array_equal(values["logits"], LOGITS)
    np.testing.assert_allclose(values["logistic"], sigmoid(LOGITS), rtol=1e-6)
    np.testing.assert_allclose(values["probabilities"], np.hstack([1 - sigmoid(LOGITS), sigmoid(LOGITS)]), rtol=1e-6)
    assert values["class_ids"].tolist() == [[1], [0], [1], [0]]
    assert values["classes"].tolist() == [[b"yes"], [b"no"], [b"yes"], [b"no"]]
    assert values["all_class_ids"].tolist() == [[0, 1]] * 4
    assert values["all_classes"].tolist() == [[b"no", b"yes"]] * 4
    assert {key: value.dtype.name for key, value in predictions.items()} == {
        "logits": "float32",
        "logistic": "float32",
        "probabilities": "float32",
        "class_ids": "int64",
        "classes": "string",
        "all_class_ids": "int32",
        "all_classes": "string",
    }


def test_predictions_are_those_asked_for() -> None:
    assert list(tfe.BinaryClassHead().predictions(LOGITS, ["logistic"])) == ["logistic"]


def test_a_loss_fn_gets_labels_as_numbers_and_the_features() -> None:
    def loss_fn(labels: tf.Tensor, logits: tf.Tensor, features: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.abs(labels - logits) * features["scale"][:, tf.newaxis]

    head = tfe.BinaryClassHead(label_vocabulary=["no", "yes"], loss_fn=loss_fn)
    features = {"scale": np.full(4, 10, np.float32)}

    metrics, _ = evaluated(head, LOGITS, np.array(["yes", "no", "no", "yes"]), features=features)

    assert metrics["average_loss"] == pytest.approx(10 * np.abs(LABELS[:, np.newaxis] - LOGITS).mean())


def test_logits_may_have_more_dimensions() -> None:
    logits, labels = LOGITS.reshape(2, 2, 1), LABELS.reshape(2, 2)

    loss = tfe.BinaryClassHead(weight_column="w").loss(labels, logits, {"w": WEIGHTS.reshape(2, 2)})

    assert float(loss) == pytest.approx(float((WEIGHTS * cross_entropy(LABELS[:, np.newaxis], LOGITS)).mean()))


def test_classes_scores_and_probability_are_exported() -> None:
    predictions = "head/predictions"
    classification = (
        "tensorflow/serving/classify",
        {"classes": "head/Tile:0", "scores": f"{predictions}/probabilities:0"},
    )

    signatures = exported(tfe.BinaryClassHead(), LOGITS)

    assert signatures == {
        "serving_default": classification,
        "classification": classification,
        "regression": ("tensorflow/serving/regress", {"outputs": f"{predictions}/logistic:0"}),
        "predict": (
            "tensorflow/serving/predict",
            {
                "logits": "logits:0",
                "logistic": f"{predictions}/logistic:0",
                "probabilities": f"{predictions}/probabilities:0",
                "class_ids": f"{predictions}/ExpandDims:0",
                "classes": f"{predictions}/str_classes:0",
                "all_class_ids": f"{predictions}/Tile:0",
                "all_classes": f"{predictions}/Tile_1:0",
            },
        ),
    }
