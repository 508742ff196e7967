"""What the processes of tests.estimator.tasks do: `python -m tests.estimator.runs MODE MODEL_DIR ARGUMENT`."""

import functools
import json
import sys
from typing import Any

import psutil
import tensorflow as tf

from runner import estimator as tfe
from runner.estimator.hooks.early_stopping import read_eval_metrics
from runner.estimator.hooks.input_checkpoint import CheckpointInputPipelineHook
from tests.estimator import embeddings, endings
from tests.estimator.data import classifier, eval_input_fn, iris
from tests.estimator.exporting import RecordingExporter
from tests.waiting import wait_until


def curve(model_dir: str, batch_size: int) -> None:
    """100 steps over the data in order, every loss logged, and the number of threads at both ends."""

    class Threads(tf.compat.v1.train.SessionRunHook):
        def after_run(self, run_context: Any, run_values: Any) -> None:
            self.last = psutil.Process().num_threads()
            self.first = getattr(self, "first", self.last)

    threads = Threads()
    classifier(model_dir, log_step_count_steps=1).train(
        lambda: iris().repeat().batch(batch_size), hooks=[threads], max_steps=100
    )
    print("THREADS", threads.first, threads.last)


def once(model_dir: str, batch_size: int) -> None:
    """One pass over the data, which ends earlier in one task than in the other."""
    classifier(model_dir, log_step_count_steps=1).train(lambda: iris().batch(batch_size))


def forever(model_dir: str, _: Any) -> None:
    """Trains until something ends it."""
    classifier(model_dir, save_checkpoints_steps=50).train(lambda: iris().repeat().batch(50))


def units(model_dir: str, hidden_units: list[int]) -> None:
    """Trains a model that may differ from that of the other tasks."""
    classifier(model_dir, hidden_units=tuple(hidden_units)).train(lambda: iris().repeat().batch(50), max_steps=5)


def context(model_dir: str, _: Any) -> None:
    """An input_fn that shards itself, and a shuffle that must be the same in all tasks."""

    def input_fn(input_context: tf.distribute.InputContext) -> tf.data.Dataset:
        print("CONTEXT", input_context.num_input_pipelines, input_context.input_pipeline_id)
        return iris().shuffle(150).shard(input_context.num_input_pipelines, input_context.input_pipeline_id).batch(75)

    class Labels(tf.compat.v1.train.SessionRunHook):
        def before_run(self, run_context: Any) -> Any:
            return tf.compat.v1.train.SessionRunArgs(tf.compat.v1.get_collection("examples")[0])

        def after_run(self, run_context: Any, run_values: Any) -> None:
            print("EXAMPLES", json.dumps(run_values.results.tolist()))

    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        values = tf.stack(list(features.values()), axis=1)
        tf.compat.v1.add_to_collection("examples", values)
        weight = tf.compat.v1.get_variable("weight", [4, 3], initializer=tf.compat.v1.zeros_initializer())
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=values @ weight))
        optimizer = tf.compat.v1.train.AdamOptimizer(0.01)
        return tfe.EstimatorSpec(
            mode, loss=loss, train_op=optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
        )

    tfe.Estimator(model_fn, model_dir, config=tfe.RunConfig()).train(input_fn, hooks=[Labels()])


def no_optimizer(model_dir: str, _: Any) -> None:
    """Updates a variable without an optimizer."""

    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.zeros_initializer())
        step = tf.compat.v1.train.get_global_step().assign_add(1)
        return tfe.EstimatorSpec(mode, loss=tf.identity(weight), train_op=tf.group(weight.assign_add(1.0), step))

    tfe.Estimator(model_fn, model_dir, config=tfe.RunConfig()).train(lambda: iris().batch(50))


def two_optimizers(model_dir: str, _: Any) -> None:
    """Two optimizers of different kinds, clipped gradients, an embedding, and a loss that neither of them was given."""

    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        table = tf.compat.v1.get_variable("table", [3, 2], initializer=tf.compat.v1.ones_initializer())
        weight = tf.compat.v1.get_variable("weight", [2], initializer=tf.compat.v1.ones_initializer())
        loss = tf.reduce_mean(tf.square(tf.reduce_sum(tf.nn.embedding_lookup(table, labels) * weight, axis=1) - 3.0))
        step = tf.compat.v1.train.get_global_step()
        adam, sgd = tf.compat.v1.train.AdamOptimizer(0.1), tf.compat.v1.train.GradientDescentOptimizer(0.1)
        pairs = [
            (tf.clip_by_norm(gradient, 1.0), variable) for gradient, variable in adam.compute_gradients(loss, [weight])
        ]
        train_op = tf.group(adam.apply_gradients(pairs, step), sgd.minimize(loss, var_list=[table]))
        return tfe.EstimatorSpec(mode, loss=loss * 2.0, train_op=train_op)

    config = tfe.RunConfig(log_step_count_steps=1)
    tfe.Estimator(model_fn, model_dir, config=config).train(lambda: iris().repeat().batch(10), max_steps=20)


def stop_by_listener(model_dir: str, _: Any) -> None:
    """The chief alone is told to stop."""

    class Listener(tf.compat.v1.train.CheckpointSaverListener):
        def before_save(self, session: Any, global_step_value: int) -> None:
            print("BEFORE", global_step_value)

        def after_save(self, session: Any, global_step_value: int) -> bool:
            print("AFTER", global_step_value)
            return global_step_value in (0, 4)

    classifier(model_dir, save_checkpoints_steps=2).train(
        lambda: iris().repeat().batch(50), saving_listeners=[Listener()], max_steps=1000
    )


def fail_at(model_dir: str, step: int | None) -> None:
    """Raises after that step, or trains for ever."""

    class Failing(tf.compat.v1.train.SessionRunHook):
        steps = 0

        def after_run(self, run_context: Any, run_values: Any) -> None:
            self.steps += 1
            if self.steps == step:
                raise RuntimeError("by the hook")

    classifier(model_dir).train(lambda: iris().repeat().batch(50), hooks=[Failing()])


def meet(model_dir: str, timeout_secs: int | None) -> None:
    """Waits for the other task that long, or never comes."""
    if timeout_secs:
        classifier(model_dir, session_creation_timeout_secs=timeout_secs).train(lambda: iris().batch(50))


def tensors(model_dir: str, _: Any) -> None:
    """An input that cannot be dealt out."""
    classifier(model_dir).train(lambda: tf.compat.v1.data.make_one_shot_iterator(iris().batch(50)).get_next(), steps=1)


def wrong_optimizer(model_dir: str, kind: str) -> None:
    """Optimizers that cannot be averaged where they apply."""

    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.ones_initializer())
        optimizer, step = tf.compat.v1.train.GradientDescentOptimizer(0.1), tf.compat.v1.train.get_global_step()
        loss = tf.square(weight)
        if kind == "sync":
            sync = tf.compat.v1.train.SyncReplicasOptimizer(optimizer, replicas_to_aggregate=2)
            return tfe.EstimatorSpec(mode, loss=loss, train_op=sync.minimize(loss, step))
        pairs = optimizer.compute_gradients(loss)
        train_op = tf.cond(loss > 0, lambda: optimizer.apply_gradients(pairs, step), tf.no_op)
        return tfe.EstimatorSpec(mode, loss=loss, train_op=train_op)

    tfe.Estimator(model_fn, model_dir, config=tfe.RunConfig()).train(lambda: iris().batch(50))


def twice(model_dir: str, _: Any) -> None:
    """Two trainings in one process, with gradients of other dtypes and variables on other devices."""

    def model_fn(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> tfe.EstimatorSpec:
        weight = tf.compat.v1.get_variable("weight", [3], params["dtype"], tf.compat.v1.ones_initializer())
        loss = tf.reduce_sum(tf.square(weight))
        step = tf.compat.v1.train.get_global_step()
        train_op = tf.compat.v1.train.GradientDescentOptimizer(0.1).minimize(loss, step)
        return tfe.EstimatorSpec(mode, loss=loss, train_op=train_op)

    for name, dtype in (("a", tf.float64), ("b", tf.float32), ("c", tf.float16)):
        config = tfe.RunConfig(device_fn=lambda op: "/cpu:0")
        estimator = tfe.Estimator(model_fn, f"{model_dir}/{name}", config=config, params={"dtype": dtype})
        estimator.train(lambda: iris().repeat().batch(50), steps=3)
        print("EAGER", float(tf.add(1.0, 1.0)))


def warm(model_dir: str, warm_start_from: str) -> None:
    """Starts with the weight of another model, which does not change."""

    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.ones_initializer())
        optimizer, step = tf.compat.v1.train.GradientDescentOptimizer(0.0), tf.compat.v1.train.get_global_step()
        return tfe.EstimatorSpec(mode, loss=tf.square(weight), train_op=optimizer.minimize(tf.square(weight), step))

    estimator = tfe.Estimator(model_fn, model_dir, config=tfe.RunConfig(), warm_start_from=warm_start_from)
    estimator.train(lambda: iris().repeat().batch(50), steps=2)


def sparse(model_dir: str, _: Any) -> None:
    """One pass over the ids with each optimizer."""
    for name in embeddings.OPTIMIZERS:
        embeddings.train(f"{model_dir}/{name}", optimizer=name, batch_size=embeddings.BATCH_SIZE)


class PrintingExporter(RecordingExporter):
    """Prints its calls, for the test that started the process."""

    def export(self, **options: Any) -> bytes:
        exported = super().export(**options)
        print("EXPORTED", json.dumps(self.calls[-1]))
        return exported


def evaluated(model_dir: str, _: Any) -> None:
    """Trains to step 30; after each save but the first the chief holds all until it was evaluated."""
    estimator = classifier(model_dir, save_checkpoints_steps=10)

    class Waiting(tf.compat.v1.train.CheckpointSaverListener):
        def after_save(self, session: Any, global_step_value: int) -> None:
            if global_step_value:
                wait_until(lambda: global_step_value in read_eval_metrics(estimator.eval_dir()), timeout_secs=120)

    tfe.train_and_evaluate(
        estimator,
        tfe.TrainSpec(lambda: iris().repeat().batch(50), max_steps=30, saving_listeners=[Waiting()]),
        tfe.EvalSpec(eval_input_fn, start_delay_secs=0, throttle_secs=0, exporters=PrintingExporter("printed")),
    )


def mastered(model_dir: str, _: Any) -> None:
    """Trains to step 5, and evaluates amid that if it is the master."""
    tfe.train_and_evaluate(
        classifier(model_dir, save_checkpoints_steps=2),
        tfe.TrainSpec(lambda: iris().repeat().batch(50), max_steps=5),
        tfe.EvalSpec(eval_input_fn, throttle_secs=0, exporters=PrintingExporter("printed")),
    )


def stop_by_hooks(model_dir: str, _: Any) -> None:
    """Four trainings without max_steps, each of which hooks end or make go on."""

    class Noting(tf.compat.v1.train.SessionRunHook):
        """Prints the sum of the labels of each step, and the last step."""

        def before_run(self, run_context: Any) -> Any:
            return tf.compat.v1.train.SessionRunArgs(tf.compat.v1.get_collection("labels")[0])

        def after_run(self, run_context: Any, run_values: Any) -> None:
            print("READ", name, run_values.results)

        def end(self, session: Any) -> None:
            print("END", name, session.run(tf.compat.v1.train.get_global_step()))

    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        tf.compat.v1.add_to_collection("labels", tf.reduce_sum(labels))
        weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.ones_initializer())
        optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.1)
        train_op = optimizer.minimize(tf.square(weight), tf.compat.v1.train.get_global_step())
        return tfe.EstimatorSpec(mode, loss=tf.square(weight), train_op=train_op)

    def labels() -> tf.data.Dataset:
        return tf.data.Dataset.range(1000).map(lambda value: ({"x": value}, value)).batch(1)

    for name, directory in (("early", "a"), ("checkpoint", "b"), ("input", "c"), ("input again", "c")):
        estimator = tfe.Estimator(model_fn, f"{model_dir}/{directory}", config=tfe.RunConfig())
        answers = iter([False, False, True])
        stop_early = tfe.experimental.make_early_stopping_hook(
            estimator, functools.partial(next, answers), run_every_secs=None, run_every_steps=2
        )
        stop_at_checkpoint = tfe.experimental.make_stop_at_checkpoint_step_hook(estimator, 4)
        hooks = {
            "early": [stop_early],
            "checkpoint": [stop_at_checkpoint, tfe.GlobalStepWaiterHook(3)],
        }.get(name, [CheckpointInputPipelineHook(estimator), tfe.StopAtStepHook(num_steps=2)])
        estimator.train(labels, hooks=[*hooks, Noting()])


def end(model_dir: str, _: Any) -> None:
    """Trains with each kind of input until it ends."""
    endings.train(model_dir)


if __name__ == "__main__":
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.INFO)
    _, mode, directory, argument = sys.argv
    globals()[mode](directory, json.loads(argument))
