"""One session with hooks: the order in which a graph is finished, a session made ready, and hooks are told."""

import contextlib
import math
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import tensorflow as tf

from runner.estimator.hooks.step_hook import StepHook
from runner.estimator.prepared import PreparedRuns

__all__ = ["HookedSession", "create_session"]

_v1 = tf.compat.v1

_END_OF_INPUT = (tf.errors.OutOfRangeError, StopIteration)
_STOP_GRACE_SECS = 120


def create_session(
    scaffold: Any,
    *,
    restore: Callable[[Any], None] | None = None,
    config: Any = None,
) -> Any:
    """Opens a session on the finalized default graph and makes it ready: initialized or restored, local state set up.

    Args:
        scaffold: A finalized tf.compat.v1.train.Scaffold.
        restore: Called with the session in place of the scaffold's initialization; None initializes.
        config: tf.compat.v1.ConfigProto, or None.

    Raises:
        RuntimeError: The model is not ready afterwards; the message names the variables that are not initialized.
    """
    manager = _SessionManager(
        local_init_op=scaffold.local_init_op,
        ready_op=scaffold.ready_op,
        ready_for_local_init_op=scaffold.ready_for_local_init_op,
        graph=tf.compat.v1.get_default_graph(),
    )
    try:
        return manager.prepare_session(
            "",
            init_op=None if restore else scaffold.init_op,
            init_feed_dict=None if restore else scaffold.init_feed_dict,
            init_fn=restore or scaffold.init_fn,
            config=config,
        )
    except BaseException:
        if manager.session is not None:
            manager.session.close()
        raise


class _SessionManager(tf.compat.v1.train.SessionManager):
    """TensorFlow's own, which keeps the session that it opens even if it cannot make it ready."""

    session: Any = None

    def _restore_checkpoint(self, *args: Any, **kwargs: Any) -> tuple[Any, bool]:
        self.session, is_restored = super()._restore_checkpoint(*args, **kwargs)
        return self.session, is_restored


class HookedSession:
    """A session whose every run passes the hooks, as tf.compat.v1.train.SingularMonitoredSession does.

    Unlike MonitoredSession it never opens a new session by itself after an error, which the peers of a cluster would
    know nothing of. Used as a context manager: hooks' `end` runs if the block ends without an error or at the end of
    the input, which is then no error.

    Args:
        session: A session that is ready.
        hooks: tf.compat.v1.train.SessionRunHook, told in this order; `begin` was called before the graph was finalized.
        before_close: Called before the session is closed, whatever ended it.
    """

    def __init__(self, session: Any, hooks: Sequence[Any], *, before_close: Callable[[], None] = lambda: None) -> None:
        self.session = session
        self._hooks = list(hooks)
        self._before_close = before_close
        self._prepared = PreparedRuns(session)
        self._should_stop = False
        self._coordinator = _v1.train.Coordinator(clean_stop_exception_types=_END_OF_INPUT)

    def __enter__(self) -> Self:
        try:
            with self.session.graph.as_default():
                if _v1.get_collection(_v1.GraphKeys.QUEUE_RUNNERS):
                    _v1.train.start_queue_runners(sess=self.session, coord=self._coordinator)
                for hook in self._hooks:
                    hook.after_create_session(self.session, self._coordinator)
        except BaseException:
            self._close()
            raise
        return self

    def should_stop(self) -> bool:
        """Whether a hook, or a thread of the input, asked for the end."""
        return self._should_stop or self._coordinator.should_stop()

    def run(self, fetches: Any) -> Any:
        """Runs one step, with the session's graph as the default one for the hooks.

        Args:
            fetches: As for tf.compat.v1.Session.run.

        Returns:
            The values of `fetches`; what the hooks fetched goes to them.
        """
        with self.session.graph.as_default():
            return self._run(fetches)

    def _run(self, fetches: Any) -> Any:
        context = _v1.train.SessionRunContext(original_args=_v1.train.SessionRunArgs(fetches), session=self.session)
        options, metadata = _v1.RunOptions(), _v1.RunMetadata()
        requests = {hook: args for hook in self._hooks if (args := hook.before_run(context)) is not None}
        feeds: dict[Any, Any] = {}
        for args in requests.values():
            _merge_feeds(feeds, args.feed_dict or {})
            if args.options is not None:
                options.MergeFrom(args.options)
        wanted = [fetches, [args.fetches if args.fetches is not None else [] for args in requests.values()]]
        if feeds or options.ByteSize():
            results = self.session.run(wanted, feed_dict=feeds, options=options, run_metadata=metadata)
        else:
            results = self._prepared.run(wanted)
        # None for a hook that fetched nothing, such as one that feeds only.
        values = {
            hook: value
            for (hook, args), value in zip(requests.items(), results[1], strict=True)
            if args.fetches is not None
        }
        for hook in self._hooks:
            run_values = _v1.train.SessionRunValues(values.get(hook), options=options, run_metadata=metadata)
            hook.after_run(context, run_values)
        self._should_stop = self._should_stop or context.stop_requested
        return results[0]

    def next_due(self, step: int) -> float:
        """The first step after `step` whose run has to pass the hooks; infinity if none of them waits for one."""
        return min((_next_due(hook, step) for hook in self._hooks), default=math.inf)

    def pass_over(self, runs: int, step: int, loss: Any) -> None:
        """Tells the hooks of runs that did not pass them; see StepHook.passed_over."""
        for hook in self._hooks:
            if isinstance(hook, StepHook):
                hook.passed_over(runs, step, loss)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        ended = kind is None or issubclass(kind, _END_OF_INPUT)
        try:
            if ended:
                with self.session.graph.as_default():
                    for hook in self._hooks:
                        hook.end(self.session)
        finally:
            self._close()
        return ended

    def _close(self) -> None:
        try:
            self._before_close()
        finally:
            self._close_session()

    def _close_session(self) -> None:
        self._coordinator.request_stop()
        try:
            # What a thread of the input raised was raised by the run that waited for it.
            with contextlib.suppress(*_END_OF_INPUT, tf.errors.CancelledError):
                self._coordinator.join(stop_grace_period_secs=_STOP_GRACE_SECS, ignore_live_threads=True)
        finally:
            self.session.close()


def _next_due(hook: Any, step: int) -> float:
    if isinstance(hook, StepHook):
        return hook.next_due(step)
    base = _v1.train.SessionRunHook
    # Looked up in the hook itself, which may have functions of its own, as a mock has.
    own = [getattr(method, "__func__", None) for method in (hook.before_run, hook.after_run)]
    return math.inf if own == [base.before_run, base.after_run] else step + 1


def _merge_feeds(feeds: dict[Any, Any], more: dict[Any, Any]) -> None:
    if conflicts := [tensor for tensor in more if tensor in feeds]:
        raise RuntimeError(f"Same tensor is fed by two hooks. Conflict(s): {conflicts}")
    feeds.update(more)
