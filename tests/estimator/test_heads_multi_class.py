"""MultiClassHead: loss, metrics, predictions and exports."""

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.head_examples import (
    FEATURES,
    LOGITS_OF_3,
    WEIGHTS,
    evaluated,
    evaluated_eagerly,
    exported,
    softmax,
)

LABELS = np.array([2, 0, 1, 2])
LOSSES = -np.log(softmax(LOGITS_OF_3)[np.arange(4), LABELS])[:, np.newaxis]


def test_loss_and_metrics_are_those_of_the_softmax() -> None:
    metrics, losses = evaluated(tfe.MultiClassHead(3), LOGITS_OF_3, LABELS)

    assert losses == pytest.approx([LOSSES[:2].mean(), LOSSES[2:].mean()])
    assert metrics == pytest.approx({"accuracy": 0.5, "average_loss": LOSSES.mean()})
    assert evaluated_eagerly(tfe.MultiClassHead(3), LOGITS_OF_3, LABELS) == pytest.approx(metrics)


def test_weights_vocabulary_sum_and_name_go_together() -> None:
    head = tfe.MultiClassHead(
        3, weight_column="w", label_vocabulary=["a", "b", "c"], loss_reduction="sum", name="letter"
    )

    metrics, losses = evaluated(head, LOGITS_OF_3, np.array([["c"], ["a"], ["b"], ["c"]]))

    weighted = WEIGHTS * LOSSES
    assert losses == pytest.approx([weighted[:2].sum(), weighted[2:].sum()])
    assert metrics == pytest.approx({"accuracy/letter": 1.5 / 6.5, "average_loss/letter": weighted.sum() / 6.5})


def test_regularization_losses_are_added_to_the_loss_and_have_a_metric() -> None:
    metrics, losses = evaluated(tfe.MultiClassHead(3), LOGITS_OF_3, LABELS, regularization_losses=[0.25, 0.5])

    assert losses == pytest.approx([LOSSES[:2].mean() + 0.75, LOSSES[2:].mean() + 0.75])
    assert metrics["average_loss"] == pytest.approx(LOSSES.mean())
    assert metrics["regularization_loss"] == 0.75


def test_predictions_have_values_and_types_of_the_original() -> None:
    predictions = tfe.MultiClassHead(3, label_vocabulary=["a", "b", "c"]).predictions(LOGITS_OF_3)

    values = {key: value.numpy() for key, value in predictions.items()}
    np.testing.assert_allclose(values["probabilities"], softmax(LOGITS_OF_3), rtol=1e-6)
    assert values["class_ids"].tolist() == [[2], [1], [0], [2]]
    assert values["classes"].tolist() == [[b"c"], [b"b"], [b"a"], [b"c"]]
    assert values["all_class_ids"].tolist() == [[0, 1, 2]] * 4
    assert values["all_classes"].tolist() == [[b"a", b"b", b"c"]] * 4
    assert {key: value.dtype.name for key, value in predictions.items()} == {
        "logits": "float32",
        "probabilities": "float32",
        "class_ids": "int64",
        "classes": "string",
        "all_class_ids": "int32",
        "all_classes": "string",
    }


def test_a_loss_fn_gets_class_ids() -> None:
    def loss_fn(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return tf.cast(labels, tf.float32) + logits[:, :1]

    head = tfe.MultiClassHead(3, label_vocabulary=["a", "b", "c"], loss_fn=loss_fn)

    loss = head.loss(np.array(["c", "a", "b", "c"]), LOGITS_OF_3, FEATURES)

    assert float(loss) == pytest.approx((LABELS + LOGITS_OF_3[:, 0]).mean())


def test_classes_and_scores_are_exported_under_the_name_of_the_head() -> None:
    signatures = exported(tfe.MultiClassHead(3, name="species"), LOGITS_OF_3)

    classification = (
        "tensorflow/serving/classify",
        {"classes": "species/Tile:0", "scores": "species/predictions/probabilities:0"},
    )
    assert list(signatures) == ["serving_default", "classification", "predict"]
    assert signatures["serving_default"] == signatures["classification"] == classification
    assert signatures["predict"][1]["class_ids"] == "species/predictions/ExpandDims:0"
