"""The Celery app and its settings: `celery -A workers worker`, or `runner worker`."""

import os
import signal
import socket
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

from celery import Celery, bootsteps, signals
from celery.platforms import SecurityWarning
from kombu.asynchronous import get_event_loop

from runner.jobs.spec import DEFAULT_QUEUE
from runner.settings import Settings

__all__ = ["app", "make_app", "run_worker"]

# Apart from the keys of other Celery apps on the same Redis, which may well have a queue of the same name.
_KEY_PREFIX = "runner:celery:"


def make_app(settings: Settings | None = None, *, trainer_command: Sequence[str] | None = None) -> Celery:
    """A Celery app that dispatches tasks or, as a worker, runs them.

    Args:
        settings: None means those of the environment, read at the first use.
        trainer_command: Starts a training process; None means ours.
    """
    app = Celery("workers", include=["workers.tasks"], set_as_current=False)
    app.runner_settings = cache(lambda: settings or Settings.from_environ())
    app.trainer_command = trainer_command
    app.add_defaults(lambda: _configuration(app.runner_settings()))
    app.steps["worker"].add(_SlotsStep)
    return app


def run_worker(app: Celery, *, slots: int, queue: str) -> int:
    """Serves a queue in this process until TERM, INT or QUIT; returns the exit code."""
    # What Celery has against root is pickle, which this worker does not accept.
    warnings.filterwarnings(
        "ignore", message=r"You're running the worker with superuser privileges", category=SecurityWarning
    )
    worker = app.Worker(
        concurrency=slots,
        queues=[queue],
        hostname=f"runner-{os.getpid()}@{socket.gethostname()}",
        loglevel="INFO",
        quiet=True,
        without_gossip=True,
        without_heartbeat=True,
        without_mingle=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _configuration(settings: Settings) -> dict[str, Any]:
    return {
        "broker_url": settings.celery_broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {"global_keyprefix": _KEY_PREFIX, "socket_keepalive": True},
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "task_default_queue": DEFAULT_QUEUE,
        "task_ignore_result": True,
        # A late acknowledgement would be redelivered after the visibility timeout of an hour, training or not.
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        # A message must never wait behind a task of hours: another worker may be free.
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        # The pool's threads only watch over processes.
        "worker_pool": "threads",
        "worker_concurrency": 1,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_soft_shutdown_timeout": 0.0,
    }


class _SlotsStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Gives the worker its slots: before it consumes the first message, until its pool has stopped."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        # Imported here since who only dispatches has no use for it.
        from workers.slots import Slots  # noqa: PLC0415
        from workers.supervisor import TRAINER_COMMAND  # noqa: PLC0415

        worker.app.slots = self.slots = Slots(
            worker.app.runner_settings(),
            queue_name=next(iter(worker.app.amqp.queues.consume_from)),
            count=worker.concurrency,
            environ=os.environ,
            command=worker.app.trainer_command or TRAINER_COMMAND,
        )
        signals.worker_ready.connect(self._on_ready)
        signals.worker_shutting_down.connect(self._on_shutting_down)
        signals.task_postrun.connect(self._on_slot_free)

    def stop(self, worker: Any) -> None:
        # Also reached without a signal, when Celery itself gives up.
        worker.app.slots.close()

    def terminate(self, worker: Any) -> None:
        worker.app.slots.close()

    def _on_ready(self, **_: Any) -> None:
        # Celery would start the worker anew when its terminal is closed, and wait for its tasks first.
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
        self.slots.announce()

    def _on_shutting_down(self, **_: Any) -> None:
        self.slots.drain()

    def _on_slot_free(self, **_: Any) -> None:
        # With the prefetch disabled the loop looks for free slots only when it wakes, and sleeps for up to 10 seconds.
        get_event_loop().call_soon(lambda: None)


app = make_app()
