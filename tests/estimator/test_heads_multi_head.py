"""MultiHead: several heads on one model, as one."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.head_examples import F32, LOGITS, LOGITS_OF_3, WEIGHTS, evaluated, exported, softmax

LABELS = {"h1": np.array([2, 0, 1, 2]), "h2": np.array([1, 0, 2, -1], F32)}
BOTH = np.hstack([LOGITS_OF_3, LOGITS])
LOSSES = {
    "h1": -np.log(softmax(LOGITS_OF_3)[np.arange(4), LABELS["h1"]]),
    "h2": (WEIGHTS * (LABELS["h2"][:, np.newaxis] - LOGITS) ** 2)[:, 0],
}


def multi_head(head_weights: list[float] | None = None) -> tfe.MultiHead:
    return tfe.MultiHead(
        [tfe.MultiClassHead(3, name="h1"), tfe.RegressionHead(weight_column="w", name="h2")], head_weights
    )


def test_name_and_dimension_are_those_of_the_heads_together() -> None:
    head = multi_head()

    assert (head.name, head.logits_dimension, head.loss_reduction) == ("h1_h2", 4, "sum_over_batch_size")


def test_the_loss_is_the_weighted_sum_of_the_losses() -> None:
    batches = [LOSSES["h1"][rows].mean() * 0.5 + LOSSES["h2"][rows].mean() * 2 for rows in (slice(2), slice(2, 4))]

    _, losses = evaluated(multi_head([0.5, 2.0]), BOTH, LABELS)

    assert losses == pytest.approx(batches)


def test_metrics_are_those_of_the_heads_and_their_losses() -> None:
    metrics, _ = evaluated(multi_head(), BOTH, LABELS, regularization_losses=[0.25, 0.5])

    assert metrics == pytest.approx(
        {
            "accuracy/h1": 0.5,
            "average_loss/h1": LOSSES["h1"].mean(),
            "average_loss/h2": LOSSES["h2"].sum() / 6.5,
            "label/mean/h2": (WEIGHTS[:, 0] * LABELS["h2"]).sum() / 6.5,
            "loss/h1": LOSSES["h1"].mean(),
            "loss/h2": LOSSES["h2"].mean(),
            "prediction/mean/h2": (WEIGHTS * LOGITS).sum() / 6.5,
            "regularization_loss/h1_h2": 0.75,
        }
    )


def test_logits_may_be_given_by_the_name_of_the_head() -> None:
    split, _ = evaluated(multi_head(), {"h1": LOGITS_OF_3, "h2": LOGITS}, LABELS)

    together, _ = evaluated(multi_head(), BOTH, LABELS)
    assert split == pytest.approx(together)


def test_predictions_are_by_name_and_key() -> None:
    predictions = multi_head().predictions(BOTH)

    assert list(predictions) == [
        ("h1", "logits"),
        ("h1", "probabilities"),
        ("h1", "class_ids"),
        ("h1", "classes"),
        ("h1", "all_class_ids"),
        ("h1", "all_classes"),
        ("h2", "predictions"),
    ]
    np.testing.assert_array_equal(predictions["h1", "logits"], LOGITS_OF_3)
    np.testing.assert_array_equal(predictions["h2", "predictions"], LOGITS)


def test_the_first_head_is_exported_as_default_and_all_by_name() -> None:
    signatures = exported(multi_head(), BOTH)

    assert sorted(signatures) == [
        "h1",
        "h1/classification",
        "h1/predict",
        "h2",
        "h2/predict",
        "h2/regression",
        "predict",
        "serving_default",
    ]
    assert signatures["serving_default"] == signatures["h1"] == signatures["h1/classification"]
    assert signatures["h1"] == (
        "tensorflow/serving/classify",
        {"classes": "h1_h2/h1/Tile:0", "scores": "h1_h2/h1/predictions/probabilities:0"},
    )
    assert signatures["h2"] == ("tensorflow/serving/regress", {"outputs": "h1_h2/split_logits/Slice_1:0"})
    assert signatures["predict"] == (
        "tensorflow/serving/predict",
        {
            "h1/logits": "h1_h2/split_logits/Slice:0",
            "h1/probabilities": "h1_h2/h1/predictions/probabilities:0",
            "h1/class_ids": "h1_h2/h1/predictions/ExpandDims:0",
            "h1/classes": "h1_h2/h1/predictions/str_classes:0",
            "h1/all_class_ids": "h1_h2/h1/predictions/Tile:0",
            "h1/all_classes": "h1_h2/h1/predictions/Tile_1:0",
            "h2/predictions": "h1_h2/split_logits/Slice_1:0",
        },
    )


def test_a_multi_head_may_be_part_of_another() -> None:
    outer = tfe.MultiHead([multi_head(), tfe.RegressionHead(name="h3")])
    labels = {"h1_h2": LABELS, "h3": np.zeros(4, F32)}

    metrics, _ = evaluated(outer, np.hstack([BOTH, LOGITS]), labels)

    assert metrics["loss/h3"] == pytest.approx((LOGITS**2).mean())
    assert metrics["loss/h1_h2"] == pytest.approx(metrics["loss/h1"] + metrics["loss/h2"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tfe.MultiHead([]), r"Must specify heads. Given: \[\]"),
        (lambda: tfe.MultiHead([tfe.RegressionHead()]), "All given heads must have name specified. Given: <"),
        (lambda: multi_head([1.0]), r"Given len\(heads\): 2. Given len\(head_weights\): 1."),
        (lambda: tfe.MultiHead([tfe.RegressionHead(name="a")] * 2), r"different names. Given: \['a', 'a'\]"),
        (
            lambda: (
                tfe.MultiHead(
                    [tfe.RegressionHead(name="a"), tfe.RegressionHead(name="b", loss_reduction="sum")]
                ).loss_reduction
            ),
            r"must be the same for different heads. Given: \['sum_over_batch_size', 'sum'\]",
        ),
        (lambda: multi_head().loss(None, BOTH), "You must provide a labels Tensor. Given: None."),
        (lambda: multi_head().loss([1, 2], BOTH), r"labels must be a dict. Given: \[1, 2\]"),
        (lambda: multi_head().loss({"h1": [1]}, BOTH), r"labels has missing values for head\(s\): \['h2'\]"),
        (lambda: multi_head().loss(LABELS, {"h2": LOGITS}), r"logits has missing values for head\(s\): \['h1'\]"),
        (
            lambda: multi_head().loss(LABELS, LOGITS_OF_3),
            r"Could not split logits of shape \[4, 3\] .* dimensions: \[3, 1\]. .* should equal 4 but is 3.",
        ),
        (
            lambda: multi_head().create_estimator_spec({}, "tune", tf.constant(BOTH), LABELS),
            "mode=tune unrecognized",
        ),
    ],
)
def test_heads_logits_and_labels_that_do_not_fit_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
