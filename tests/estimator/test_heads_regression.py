"""RegressionHead, PoissonRegressionHead and LogisticRegressionHead: loss, metrics, predictions and exports."""

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.head_examples import (
    F32,
    FEATURES,
    LOGITS,
    WEIGHTS,
    cross_entropy,
    evaluated,
    evaluated_eagerly,
    exported,
    sigmoid,
)

LABELS = np.array([1, 0, 2, -1], F32)
LOGITS_OF_2 = np.array([[1, 2], [0, 1], [0.5, -2], [-1, 0.5]], F32)
LABELS_OF_2 = np.array([[1, 1], [2, 2], [3, 3], [-1, 0]])


def test_the_loss_is_the_mean_squared_error() -> None:
    errors = (LABELS[:, np.newaxis] - LOGITS) ** 2

    metrics, losses = evaluated(tfe.RegressionHead(), LOGITS, LABELS)

    assert losses == pytest.approx([errors[:2].mean(), errors[2:].mean()])
    assert metrics == pytest.approx({"average_loss": errors.mean(), "label/mean": 0.5, "prediction/mean": 0.3125})
    assert evaluated_eagerly(tfe.RegressionHead(), LOGITS, LABELS) == pytest.approx(metrics)


def test_the_weight_of_an_example_is_that_of_all_its_values() -> None:
    errors = WEIGHTS * (LABELS_OF_2 - LOGITS_OF_2) ** 2

    metrics, losses = evaluated(tfe.RegressionHead(2, weight_column="w", name="size"), LOGITS_OF_2, LABELS_OF_2)

    assert losses == pytest.approx([errors[:2].mean(), errors[2:].mean()])
    assert metrics == pytest.approx(
        {
            "average_loss/size": errors.sum() / (2 * 6.5),
            "label/mean/size": (WEIGHTS * LABELS_OF_2).sum() / (2 * 6.5),
            "prediction/mean/size": (WEIGHTS * LOGITS_OF_2).sum() / (2 * 6.5),
        }
    )


def test_each_value_may_have_a_weight_of_its_own() -> None:
    weights = np.array([[1, 2], [3, 4], [0, 1], [1, 0.5]], F32)
    column = tf.feature_column.numeric_column("w", shape=(2,))
    head = tfe.RegressionHead(2, weight_column=column, loss_reduction="sum")

    metrics, losses = evaluated(head, LOGITS_OF_2, LABELS_OF_2, features={"w": weights})

    errors = weights * (LABELS_OF_2 - LOGITS_OF_2) ** 2
    assert losses == pytest.approx([errors[:2].sum(), errors[2:].sum()])
    assert metrics["average_loss"] == pytest.approx(errors.sum() / weights.sum())
    assert metrics["label/mean"] == pytest.approx((weights * LABELS_OF_2).sum() / weights.sum())


def test_a_loss_fn_and_an_inverse_link_fn_take_the_place_of_the_usual_ones() -> None:
    head = tfe.RegressionHead(
        loss_fn=lambda labels, logits: tf.abs(labels - logits), inverse_link_fn=lambda logits: 2 * logits
    )

    metrics, _ = evaluated(head, LOGITS, LABELS)
    predictions = head.predictions(LOGITS)

    assert metrics["average_loss"] == pytest.approx(np.abs(LABELS[:, np.newaxis] - LOGITS).mean())
    assert metrics["prediction/mean"] == pytest.approx(2 * LOGITS.mean())
    np.testing.assert_array_equal(predictions["predictions"], 2 * LOGITS)
    np.testing.assert_array_equal(predictions["logits"], LOGITS)


def test_the_loss_of_counts_is_the_poisson_loss() -> None:
    labels = np.array([1, 0, 3, 2], F32)[:, np.newaxis]
    expected = np.exp(LOGITS) - labels * LOGITS
    # Stirling's approximation of log(labels!), which the original leaves out for labels of 0 and 1.
    stirling = np.zeros_like(labels)
    large = labels[2:]
    stirling[2:] = large * np.log(large) - large + 0.5 * np.log(2 * np.pi * large)

    full, _ = evaluated(tfe.PoissonRegressionHead(), LOGITS, labels)
    short, _ = evaluated(tfe.PoissonRegressionHead(compute_full_loss=False), LOGITS, labels)

    assert full["average_loss"] == pytest.approx((expected + stirling).mean(), rel=1e-6)
    assert full["prediction/mean"] == pytest.approx(np.exp(LOGITS).mean())
    assert short["average_loss"] == pytest.approx(expected.mean(), rel=1e-6)


def test_the_loss_of_probabilities_is_the_cross_entropy() -> None:
    labels = np.array([1, 0, 0.5, 1], F32)
    expected = WEIGHTS * cross_entropy(labels[:, np.newaxis], LOGITS)

    metrics, losses = evaluated(tfe.LogisticRegressionHead("w"), LOGITS, labels)

    assert losses == pytest.approx([expected[:2].mean(), expected[2:].mean()])
    assert metrics == pytest.approx(
        {
            "average_loss": expected.sum() / 6.5,
            "label/mean": (WEIGHTS[:, 0] * labels).sum() / 6.5,
            "prediction/mean": (WEIGHTS * sigmoid(LOGITS)).sum() / 6.5,
        }
    )


@pytest.mark.parametrize(
    ("head", "outputs"),
    [
        (tfe.RegressionHead(), {"predictions": "logits:0"}),
        (tfe.PoissonRegressionHead(), {"predictions": "head/predictions/Exp:0", "logits": "logits:0"}),
        (tfe.LogisticRegressionHead(), {"predictions": "head/predictions/Sigmoid:0", "logits": "logits:0"}),
    ],
    ids=["regression", "poisson", "logistic"],
)
def test_predictions_are_exported(head: tfe.Head, outputs: dict[str, str]) -> None:
    regression = ("tensorflow/serving/regress", {"outputs": outputs["predictions"]})

    assert exported(head, LOGITS) == {
        "serving_default": regression,
        "regression": regression,
        "predict": ("tensorflow/serving/predict", outputs),
    }


def test_labels_of_one_dimension_less_are_one_value_each() -> None:
    flat = tfe.RegressionHead().loss(LABELS, LOGITS, FEATURES)
    column = tfe.RegressionHead().loss(LABELS[:, np.newaxis], LOGITS, FEATURES)

    assert float(flat) == float(column)


def test_metrics_of_several_heads_may_be_in_one_dict() -> None:
    unnamed, named = tfe.RegressionHead(), tfe.RegressionHead(name="b")
    metrics = {**named.metrics(), **unnamed.metrics()}

    unnamed.update_metrics(metrics, {}, LOGITS, LABELS)
    named.update_metrics(metrics, {}, LOGITS + 1, LABELS + 2)

    assert float(metrics["prediction/mean"].result()) == pytest.approx(0.3125)
    assert float(metrics["prediction/mean/b"].result()) == pytest.approx(1.3125)
    assert float(metrics["label/mean/b"].result()) == pytest.approx(2.5)
