"""Contenders that run the steps of our graph in a session of TensorFlow's own.

`python -m benchmarks.session_contenders {monitored,callable,server} {iris,mnist}`
"""

import sys
import tempfile
from typing import Any

import tensorflow as tf

from benchmarks.turns import serve
from benchmarks.workloads import WORKLOADS
from runner import estimator as tfe
from runner.estimator.run_config import default_session_config

__all__ = ["main"]

_v1 = tf.compat.v1


def _build(what: str, model_dir: str) -> tuple[Any, Any, Any]:
    """The graph of a training.

    Returns:
        The op that begins the input, that of a step, and the loss.
    """
    workload = WORKLOADS[what]
    _v1.train.create_global_step()
    with tf.device("/cpu:0"):
        iterator = _v1.data.make_initializable_iterator(workload.input_fn())
    classifier = workload.classifier(tfe, model_dir)
    spec = classifier.model_fn(*iterator.get_next(), tfe.ModeKeys.TRAIN, classifier.config)
    return iterator.initializer, spec.train_op, spec.loss


def monitored(what: str) -> None:
    """MonitoredTrainingSession with its default hooks."""
    with tempfile.TemporaryDirectory() as model_dir, tf.Graph().as_default():
        initializer, train_op, loss = _build(what, model_dir)
        scaffold = _v1.train.Scaffold(local_init_op=tf.group(_v1.train.Scaffold.default_local_init_op(), initializer))
        with _v1.train.MonitoredTrainingSession(checkpoint_dir=model_dir, scaffold=scaffold) as session:

            def run(steps: int) -> None:
                for _ in range(steps):
                    session.run([train_op, loss])

            serve(run)


def prepared(what: str, target: str) -> None:
    """Session.make_callable and a bare loop."""
    with tempfile.TemporaryDirectory() as model_dir, tf.Graph().as_default():
        initializer, train_op, loss = _build(what, model_dir)
        with _v1.Session(target, config=default_session_config()) as session:
            session.run([_v1.global_variables_initializer(), _v1.local_variables_initializer(), initializer])
            step = session.make_callable([train_op, loss])

            def run(steps: int) -> None:
                for _ in range(steps):
                    step()

            serve(run)


def main(who: str, what: str) -> None:
    """Takes turns at the work until there are none left."""
    if who == "monitored":
        monitored(what)
    elif who == "server":
        prepared(what, tf.distribute.Server.create_local_server().target)
    else:
        prepared(what, "")


if __name__ == "__main__":
    main(*sys.argv[1:])
