"""The Estimator API on current TensorFlow: `from runner import estimator as tfe`.

Importing it loads TensorFlow.
"""

from runner.estimator.canned.dnn import DNNClassifier
from runner.estimator.estimator import Estimator
from runner.estimator.experiment import Experiment
from runner.estimator.model_fn import EstimatorSpec, ModeKeys
from runner.estimator.run_config import RunConfig
from runner.estimator.train_spec import EvalSpec, TrainSpec
from runner.estimator.warm_start import VocabInfo, WarmStartSettings

__all__ = [
    "DNNClassifier",
    "Estimator",
    "EstimatorSpec",
    "EvalSpec",
    "Experiment",
    "ModeKeys",
    "RunConfig",
    "TrainSpec",
    "VocabInfo",
    "WarmStartSettings",
]
