"""One call of predict(): predictions over an input, with the weights of a checkpoint, given out as they are made."""

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from runner.estimator.evaluation import open_local_session
from runner.estimator.events import remote_writers
from runner.estimator.hooks.outputs import check_outputs
from runner.estimator.inputs.batch import Batch, call_input_fn, make_batch
from runner.estimator.model_fn import EstimatorSpec, ModeKeys
from runner.estimator.run_config import RunConfig
from runner.estimator.session import HookedSession
from runner.estimator.warm_start import WarmStartSettings, warm_start

__all__ = ["Prediction"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")


@dataclass
class Prediction:
    """What predict() was asked to do.

    Attributes:
        model_dir: Where checkpoints are.
        config: The estimator's.
        params: The estimator's.
        call_model_fn: (features, labels, mode) -> EstimatorSpec.
        input_fn: The user's.
        checkpoint_path: Prefix to restore; None predicts with the initial weights.
        is_latest: It was looked up, not asked for by name: see `open_local_session`.
        warm_start_settings: Where the initial weights come from, if there are any.
        predict_keys: Which predictions; None means all.
        hooks: The user's.
        yield_single_examples: Yield one example at a time, not a batch.
    """

    model_dir: str
    config: RunConfig
    params: dict[str, Any]
    call_model_fn: Callable[[Any, Any, str], EstimatorSpec]
    input_fn: Callable[..., Any]
    checkpoint_path: str | None
    is_latest: bool = False
    warm_start_settings: WarmStartSettings | None = None
    predict_keys: Sequence[Any] | str | None = None
    hooks: Sequence[Any] = ()
    yield_single_examples: bool = True

    def run(self) -> Generator[Any, None, None]:
        """Predicts.

        Yields:
            Predictions: by name as in the model_fn's dict, or the value alone if it returned a single tensor.
        """
        with remote_writers():
            yield from self._run()

    def _run(self) -> Generator[Any, None, None]:
        with ExitStack() as stack, tf.Graph().as_default() as graph, graph.device(self.config.device_fn):
            session, predictions, hooks = self._open(until_initialized=stack)
        # The graph is left before a value is given out: the caller has a default graph of its own.
        with HookedSession(session, hooks) as hooked:
            while not hooked.should_stop():
                values = hooked.run(predictions)
                yield from _examples(values) if self.yield_single_examples else [values]

    def _open(self, *, until_initialized: ExitStack) -> tuple[Any, Any, list[Any]]:
        """A session that is ready, what to fetch from it, and the hooks."""
        if self.config.tf_random_seed is not None:
            _v1.set_random_seed(self.config.tf_random_seed)
        _v1.train.create_global_step()
        batch = self._batch()
        spec = self.call_model_fn(batch.features, None, ModeKeys.PREDICT)
        if self.checkpoint_path is None and self.warm_start_settings is not None:
            warm_start(self.warm_start_settings, until_initialized)
        predictions = _select(spec.predictions, self.predict_keys)
        hooks = [*batch.hooks, *self.hooks, *spec.prediction_hooks]
        check_outputs(hooks)
        for hook in hooks:
            hook.begin()
        session, _ = open_local_session(
            spec.scaffold,
            model_dir=self.model_dir,
            config=self.config,
            checkpoint_path=self.checkpoint_path,
            is_latest=self.is_latest,
        )
        return session, predictions, hooks

    def _batch(self) -> Batch:
        with tf.device("/cpu:0"):
            result = call_input_fn(
                self.input_fn,
                mode=ModeKeys.PREDICT,
                params=self.params,
                config=self.config,
                input_context=tf.distribute.InputContext(),  # of the only one that reads
            )
            batch = make_batch(result)
        if not batch.hooks and not _ends(batch.features):
            _logger.warning(
                "Input graph does not use tf.data.Dataset or contain a QueueRunner. That means predict yields forever. "
                "This is probably a mistake."
            )
        return batch


def _ends(features: Any) -> bool:
    """Whether features come from something that can end, as far as the tensors themselves tell."""
    tensors = [value for value in tf.nest.flatten(features) if isinstance(value, tf.Tensor)]
    return any(tensor.op.type == "IteratorGetNext" for tensor in tensors) or bool(
        _v1.get_collection(_v1.GraphKeys.QUEUE_RUNNERS)
    )


def _select(predictions: Any, keys: Sequence[str] | str | None) -> Any:
    if isinstance(predictions, dict) and not predictions:
        raise ValueError("Missing predictions.")  # without a fetch the input would never be read to its end
    if not keys:
        return predictions
    if not isinstance(predictions, dict):
        raise ValueError("predict_keys argument is not valid in case of non-dict predictions.")  # noqa: TRY004
    wanted = [keys] if isinstance(keys, str) else keys
    selected = {key: value for key, value in predictions.items() if key in wanted}
    if not selected:
        raise ValueError(f"Expected to run at least one output from {predictions.keys()}, provided {keys}.")
    return selected


def _examples(values: Any) -> Iterator[Any]:
    """Takes a batch of predictions apart."""
    if not isinstance(values, dict):
        yield from values
        return
    lengths = {key: np.shape(value)[0] for key, value in values.items()}
    for key, length in lengths.items():
        if length != next(iter(lengths.values())):
            raise ValueError(
                f"Batch length of predictions should be same. {key} has different batch length than others."
            )
    for index in range(next(iter(lengths.values()), 0)):
        yield {key: value[index] for key, value in values.items()}
