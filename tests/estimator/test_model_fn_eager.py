import tensorflow as tf

from runner.estimator.model_fn import EstimatorSpec, ModeKeys


def test_an_eager_spec_has_no_graph_to_check() -> None:
    spec = EstimatorSpec(ModeKeys.TRAIN, loss=tf.constant([1.0]), train_op=tf.constant(2.0))

    assert float(spec.loss) == 1.0
