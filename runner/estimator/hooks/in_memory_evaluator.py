"""A hook that evaluates the weights of a training as they are, without a checkpoint."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from runner.estimator.arguments import checked_hooks
from runner.estimator.estimator import Estimator
from runner.estimator.evaluation import Evaluation
from runner.estimator.hooks.step_hook import StepHook
from runner.estimator.session import create_session

__all__ = ["InMemoryEvaluatorHook"]

_v1 = tf.compat.v1


class InMemoryEvaluatorHook(StepHook):
    """Evaluates before the first step, every `every_n_iter` steps after it, and at the end.

    The graph of the evaluation is built once. Each evaluation copies the variables that both graphs have, by name, and
    writes its metrics as `evaluate` does.

    Args:
        estimator: The estimator that trains with the hook, in one process.
        input_fn: See Estimator.evaluate, as for the next three.
        steps: Number of batches; None means all of the input.
        hooks: tf.compat.v1.train.SessionRunHook, of the evaluations.
        name: Writes to `eval_<name>/`.
        every_n_iter: Interval in steps.

    Raises:
        ValueError: every_n_iter is not positive, or the estimator trains in a cluster. When the training starts: the
            model_fn has a saver, an init_fn, or something to save that is no variable.
    """

    def __init__(
        self,
        estimator: Estimator,
        input_fn: Callable[..., Any],
        steps: int | None = None,
        hooks: Sequence[Any] | None = None,
        name: str | None = None,
        every_n_iter: int = 100,
    ) -> None:
        if every_n_iter is None or every_n_iter <= 0:
            raise ValueError(f"invalid every_n_iter={every_n_iter}.")
        config = estimator.config
        if config.num_ps_replicas > 0 or config.num_worker_replicas > 1:
            raise ValueError("InMemoryEvaluator supports only single machine (aka Local) setting.")
        self._every_n_iter = every_n_iter
        self._evaluation = Evaluation(
            model_dir=estimator.model_dir,
            config=config,
            params=estimator.params,
            call_model_fn=lambda features, labels, mode: estimator.model_fn(features, labels, mode, config),
            input_fn=input_fn,
            eval_dir=estimator.eval_dir(name),
            checkpoint_path=None,
            hooks=checked_hooks(hooks),
            steps=steps,
        )

    def begin(self) -> None:
        """Builds the graph of the evaluation."""
        self._iterations_since = 0
        self._graph = tf.Graph()
        with self._graph.as_default(), self._graph.device(self._evaluation.config.device_fn):
            self._model = self._evaluation.build()
        if self._model.scaffold.saver is not None:
            raise ValueError("InMemoryEvaluator does not support custom saver")
        if self._model.scaffold.init_fn is not None:
            raise ValueError("InMemoryEvaluator does not support custom init_fn")

    def after_create_session(self, session: Any, coord: Any) -> None:  # noqa: ARG002 - signature of the base
        """Evaluates the weights that the training begins with."""
        if _v1.get_collection(_v1.GraphKeys.SAVEABLE_OBJECTS):
            raise ValueError("InMemoryEvaluator does not support saveables other than global variables.")
        trained = {variable.name: variable for variable in _v1.global_variables()}
        with self._graph.as_default():
            evaluated = {variable.name: variable for variable in _v1.global_variables() if variable.name in trained}
            self._placeholders = {
                name: _v1.placeholder(variable.dtype.base_dtype, variable.shape) for name, variable in evaluated.items()
            }
            self._load_op = tf.group(
                *(_v1.assign(variable, self._placeholders[name]) for name, variable in evaluated.items())
            )
        self._trained = {name: trained[name] for name in evaluated}
        self._evaluate(session)

    def next_due(self, step: int) -> float:
        """The next step that is evaluated."""
        return step + max(self._every_n_iter - self._iterations_since, 1)

    def passed_over(self, runs: int, step: int, loss: Any) -> None:  # noqa: ARG002 - signature of the base
        """Counts the runs."""
        self._iterations_since += runs

    def after_run(self, run_context: Any, run_values: Any) -> None:  # noqa: ARG002 - signature of the base
        """Evaluates, if it is time."""
        self._iterations_since += 1
        if self._iterations_since >= self._every_n_iter:
            self._evaluate(run_context.session)

    def end(self, session: Any) -> None:
        """Evaluates the last weights."""
        self._evaluate(session)

    def _evaluate(self, train_session: Any) -> None:
        self._iterations_since = 0
        values = train_session.run(self._trained)
        feeds = {placeholder: values[name] for name, placeholder in self._placeholders.items()}
        scaffold = self._model.scaffold

        def load(session: Any) -> None:
            session.run(scaffold.init_op, feed_dict=scaffold.init_feed_dict)
            session.run(self._load_op, feed_dict=feeds)

        def open_session() -> Any:
            scaffold.finalize()
            return create_session(scaffold, restore=load, config=self._evaluation.config.session_config)

        with self._graph.as_default():
            self._evaluation.evaluate(self._model, open_session)
