"""The namespace tf.estimator.experimental."""

from typing import TYPE_CHECKING, NoReturn

from runner.estimator.canned.logit_fns import call_logit_fn
from runner.estimator.canned.rnn import RNNClassifier, RNNEstimator
from runner.estimator.canned.sdca import LinearSDCA
from runner.estimator.export.receivers import build_raw_supervised_input_receiver_fn
from runner.estimator.hooks.early_stopping import (
    make_early_stopping_hook,
    stop_if_higher_hook,
    stop_if_lower_hook,
    stop_if_no_decrease_hook,
    stop_if_no_increase_hook,
)
from runner.estimator.hooks.in_memory_evaluator import InMemoryEvaluatorHook
from runner.estimator.hooks.stop_at_checkpoint_step import make_stop_at_checkpoint_step_hook
from runner.estimator.out_of_scope import explain as _explain

__all__ = [
    "InMemoryEvaluatorHook",
    "LinearSDCA",
    "RNNClassifier",
    "RNNEstimator",
    "build_raw_supervised_input_receiver_fn",
    "call_logit_fn",
    "make_early_stopping_hook",
    "make_stop_at_checkpoint_step_hook",
    "stop_if_higher_hook",
    "stop_if_lower_hook",
    "stop_if_no_decrease_hook",
    "stop_if_no_increase_hook",
]

if not TYPE_CHECKING:  # else every name would seem to be there

    def __getattr__(name: str) -> NoReturn:
        raise AttributeError(_explain(__name__, name))
