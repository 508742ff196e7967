"""What the tests of the heads share: four examples, and a head evaluated on them."""

from typing import Any

import numpy as np
import tensorflow as tf

from runner import estimator as tfe

F32 = np.float32
LOGITS = np.array([[2.0], [-1.0], [0.5], [-0.25]], F32)
LOGITS_OF_3 = np.array([[1, 2, 3], [0, 1, -1], [0.5, 0.25, -2], [-1, 0, 0.5]], F32)
WEIGHTS = np.array([[1.0], [2.0], [3.0], [0.5]], F32)
FEATURES = {"w": WEIGHTS[:, 0]}


def sigmoid(logits: Any) -> Any:
    return 1 / (1 + np.exp(-logits))


def cross_entropy(labels: Any, logits: Any) -> Any:
    """Of labels from 0 to 1, elementwise."""
    return -labels * np.log(sigmoid(logits)) - (1 - labels) * np.log(1 - sigmoid(logits))


def softmax(logits: Any) -> Any:
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def evaluated(
    head: tfe.Head, logits: Any, labels: Any, *, features: Any = None, regularization_losses: Any = None
) -> tuple[dict[str, float], list[float]]:
    """The metrics of the head after two batches of two examples, and the loss of each batch."""
    with tf.Graph().as_default():
        dataset = tf.data.Dataset.from_tensor_slices((FEATURES if features is None else features, logits, labels))
        iterator = tf.compat.v1.data.make_initializable_iterator(dataset.batch(2))
        batch = iterator.get_next()
        spec = head.create_estimator_spec(
            batch[0], "eval", batch[1], batch[2], regularization_losses=regularization_losses
        )
        updates = [update for _, update in spec.eval_metric_ops.values()]
        initializers = [tf.compat.v1.local_variables_initializer(), tf.compat.v1.tables_initializer()]
        with tf.compat.v1.Session() as session:
            session.run([*initializers, iterator.initializer])
            losses = [session.run([spec.loss, updates])[0] for _ in range(2)]
            metrics = session.run({key: value for key, (value, _) in spec.eval_metric_ops.items()})
    return metrics, losses


def evaluated_eagerly(head: tfe.Head, logits: Any, labels: Any) -> dict[str, float]:
    metrics = head.update_metrics(head.metrics(), FEATURES, logits, labels)
    return {key: float(metric.result()) for key, metric in metrics.items()}


def exported(head: tfe.Head, logits: Any) -> dict[str, Any]:
    """For each signature of the head: its method, and by output the name of its tensor."""
    with tf.Graph().as_default():
        spec = head.create_estimator_spec(FEATURES, "infer", tf.constant(logits, name="logits"))
        signatures = {
            key: output.as_signature_def({"examples": tf.constant(["?"])})
            for key, output in spec.export_outputs.items()
        }
    return {
        key: (signature.method_name, {name: info.name for name, info in signature.outputs.items()})
        for key, signature in signatures.items()
    }
