"""The Estimator API on current TensorFlow, the names of tf.estimator: `from runner import estimator as tfe`.

Importing it loads TensorFlow.
"""

from typing import TYPE_CHECKING, NoReturn

from runner.estimator import experimental, export
from runner.estimator.add_metrics import add_metrics
from runner.estimator.canned.baseline import BaselineClassifier, BaselineEstimator, BaselineRegressor
from runner.estimator.canned.dnn import DNNClassifier, DNNEstimator, DNNRegressor
from runner.estimator.canned.dnn_linear_combined import (
    DNNLinearCombinedClassifier,
    DNNLinearCombinedEstimator,
    DNNLinearCombinedRegressor,
)
from runner.estimator.canned.linear import LinearClassifier, LinearEstimator, LinearRegressor
from runner.estimator.estimator import Estimator
from runner.estimator.experiment import Experiment, KeepBest
from runner.estimator.export.exporters import BestExporter, Exporter, FinalExporter, LatestExporter
from runner.estimator.heads import (
    BinaryClassHead,
    Head,
    LogisticRegressionHead,
    MultiClassHead,
    MultiHead,
    MultiLabelHead,
    PoissonRegressionHead,
    RegressionHead,
)
from runner.estimator.hooks.session_run_hooks import (
    CheckpointSaverHook,
    CheckpointSaverListener,
    FeedFnHook,
    FinalOpsHook,
    GlobalStepWaiterHook,
    LoggingTensorHook,
    NanLossDuringTrainingError,
    NanTensorHook,
    ProfilerHook,
    SecondOrStepTimer,
    SessionRunArgs,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
    StepCounterHook,
    StopAtStepHook,
    SummarySaverHook,
)
from runner.estimator.inputs.parsing import classifier_parse_example_spec, regressor_parse_example_spec
from runner.estimator.install import install
from runner.estimator.model_fn import EstimatorSpec, ModeKeys
from runner.estimator.out_of_scope import explain as _explain
from runner.estimator.run_config import RunConfig
from runner.estimator.train_and_evaluate import train_and_evaluate
from runner.estimator.train_spec import EvalSpec, TrainSpec
from runner.estimator.warm_start import VocabInfo, WarmStartSettings

__all__ = [
    "BaselineClassifier",
    "BaselineEstimator",
    "BaselineRegressor",
    "BestExporter",
    "BinaryClassHead",
    "CheckpointSaverHook",
    "CheckpointSaverListener",
    "DNNClassifier",
    "DNNEstimator",
    "DNNLinearCombinedClassifier",
    "DNNLinearCombinedEstimator",
    "DNNLinearCombinedRegressor",
    "DNNRegressor",
    "Estimator",
    "EstimatorSpec",
    "EvalSpec",
    "Experiment",
    "Exporter",
    "FeedFnHook",
    "FinalExporter",
    "FinalOpsHook",
    "GlobalStepWaiterHook",
    "Head",
    "KeepBest",
    "LatestExporter",
    "LinearClassifier",
    "LinearEstimator",
    "LinearRegressor",
    "LoggingTensorHook",
    "LogisticRegressionHead",
    "ModeKeys",
    "MultiClassHead",
    "MultiHead",
    "MultiLabelHead",
    "NanLossDuringTrainingError",
    "NanTensorHook",
    "PoissonRegressionHead",
    "ProfilerHook",
    "RegressionHead",
    "RunConfig",
    "SecondOrStepTimer",
    "SessionRunArgs",
    "SessionRunContext",
    "SessionRunHook",
    "SessionRunValues",
    "StepCounterHook",
    "StopAtStepHook",
    "SummarySaverHook",
    "TrainSpec",
    "VocabInfo",
    "WarmStartSettings",
    "add_metrics",
    "classifier_parse_example_spec",
    "experimental",
    "export",
    "install",
    "regressor_parse_example_spec",
    "train_and_evaluate",
]

if not TYPE_CHECKING:  # else every name would seem to be there

    def __getattr__(name: str) -> NoReturn:
        raise AttributeError(_explain(__name__, name))
