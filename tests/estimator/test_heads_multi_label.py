"""MultiLabelHead: loss, metrics, predictions and exports, worked out by hand or recorded from TensorFlow 2.15."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.head_examples import (
    LOGITS_OF_3,
    WEIGHTS,
    cross_entropy,
    evaluated,
    evaluated_eagerly,
    exported,
    sigmoid,
)

LABELS = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 1]])
LOSSES = cross_entropy(LABELS, LOGITS_OF_3).mean(axis=-1, keepdims=True)


def sparse(values: list[Any]) -> tf.compat.v1.SparseTensorValue:
    """The labels as lists of classes: two, none, two and three of them."""
    indices = np.array([[0, 0], [0, 1], [2, 0], [2, 1], [3, 0], [3, 1], [3, 2]])
    return tf.compat.v1.SparseTensorValue(indices, np.array(values), np.array([4, 3]))


def test_the_loss_is_the_mean_over_classes_and_examples() -> None:
    metrics, losses = evaluated(tfe.MultiLabelHead(3), LOGITS_OF_3, LABELS)

    assert losses == pytest.approx([LOSSES[:2].mean(), LOSSES[2:].mean()])
    assert metrics == pytest.approx(
        {"auc": 0.428571, "auc_precision_recall": 0.602212, "average_loss": LOSSES.mean()}, rel=1e-5
    )
    assert evaluated_eagerly(tfe.MultiLabelHead(3), LOGITS_OF_3, LABELS) == pytest.approx(metrics)


@pytest.mark.parametrize(
    ("labels", "vocabulary"),
    [(sparse([0, 2, 1, 2, 0, 1, 2]), None), (sparse(list("acbcabc")), ["a", "b", "c"])],
    ids=["ids", "names"],
)
def test_sparse_labels_are_the_classes_of_an_example(labels: Any, vocabulary: list[str] | None) -> None:
    head = tfe.MultiLabelHead(3, label_vocabulary=vocabulary, loss_reduction="sum")

    metrics, losses = evaluated(head, LOGITS_OF_3, labels)

    assert losses == pytest.approx([LOSSES[:2].sum(), LOSSES[2:].sum()])
    assert metrics["auc"] == pytest.approx(0.428571, rel=1e-5)


def test_classes_and_thresholds_have_metrics_of_their_own() -> None:
    head = tfe.MultiLabelHead(
        3,
        weight_column="w",
        thresholds=[0.5, 0.75],
        label_vocabulary=["a", "b", "c"],
        classes_for_class_based_metrics=["a", "c"],
        name="tags",
    )

    metrics, _ = evaluated(head, LOGITS_OF_3, sparse(list("acbcabc")))

    probabilities = (WEIGHTS * sigmoid(LOGITS_OF_3)).sum(axis=0) / WEIGHTS.sum()
    assert metrics == pytest.approx(
        {
            "accuracy/positive_threshold_0.5/tags": (1 * 2 / 3 + 2 * 2 / 3 + 3 / 3 + 0.5 / 3) / 6.5,
            "accuracy/positive_threshold_0.75/tags": 0.512821,
            "auc/a/tags": 0.666667,
            "auc/c/tags": 0.333333,
            "auc/tags": 0.365789,
            "auc_precision_recall/a/tags": 0.733191,
            "auc_precision_recall/c/tags": 0.724871,
            "auc_precision_recall/tags": 0.479038,
            "average_loss/tags": (WEIGHTS * LOSSES).sum() / 6.5,
            "precision/positive_threshold_0.5/tags": 5.5 / 11.5,
            "precision/positive_threshold_0.75/tags": 0.5,
            "probability_mean/a/tags": probabilities[0],
            "probability_mean/c/tags": probabilities[2],
            "recall/positive_threshold_0.5/tags": 5.5 / 9.5,
            "recall/positive_threshold_0.75/tags": 1 / 9.5,
        },
        rel=1e-5,
    )


def test_classes_without_a_vocabulary_are_named_by_their_ids() -> None:
    head = tfe.MultiLabelHead(3, classes_for_class_based_metrics=[1])

    metrics, _ = evaluated(head, LOGITS_OF_3, LABELS)

    assert metrics["probability_mean/class1"] == pytest.approx(sigmoid(LOGITS_OF_3)[:, 1].mean())
    assert metrics["auc/class1"] == 0.0
    assert metrics["auc_precision_recall/class1"] == pytest.approx(0.306853, rel=1e-5)


def test_predictions_have_values_and_types_of_the_original() -> None:
    predictions = tfe.MultiLabelHead(3).predictions(LOGITS_OF_3)

    assert list(predictions) == ["logits", "probabilities", "classes"]
    np.testing.assert_allclose(predictions["probabilities"], sigmoid(LOGITS_OF_3), rtol=1e-6)
    assert predictions["classes"].numpy().tolist() == [[b"0", b"1", b"2"]] * 4


def test_a_loss_fn_gets_indicators() -> None:
    def loss_fn(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(labels, tf.float32), axis=-1, keepdims=True)

    labels = tf.SparseTensor.from_value(sparse([0, 2, 1, 2, 0, 1, 2]))

    loss = tfe.MultiLabelHead(3, loss_fn=loss_fn).loss(labels, LOGITS_OF_3)

    assert float(loss) == 7 / 4


def test_all_classes_and_their_scores_are_exported() -> None:
    signatures = exported(tfe.MultiLabelHead(3), LOGITS_OF_3)

    classification = (
        "tensorflow/serving/classify",
        {"classes": "head/Tile:0", "scores": "head/predictions/probabilities:0"},
    )
    assert signatures == {
        "serving_default": classification,
        "classification": classification,
        "predict": (
            "tensorflow/serving/predict",
            {
                "logits": "logits:0",
                "probabilities": "head/predictions/probabilities:0",
                "classes": "head/predictions/Tile:0",
            },
        ),
    }
