"""The doorbell: a message that tells some worker of a queue to claim a place."""

from typing import Any, Protocol

import kombu.exceptions
import redis

from runner.cluster import Place
from runner.errors import RedisUnavailableError
from runner.settings import Settings
from workers.celery import make_app

__all__ = ["TASK_NAME", "CeleryDispatcher", "Dispatcher"]

TASK_NAME = "workers.run_task"

# Celery would try for minutes to connect, and the coordinator has its own back-off.
_TRANSPORT_OPTIONS = {"max_retries": 1, "interval_start": 0, "interval_max": 0.2, "connect_retries_timeout": 2}


class Dispatcher(Protocol):
    """Sends the messages of a coordinator. They may be lost or come twice: the store decides who runs."""

    def send(self, job_id: str, generation: int, place: Place, queue: str) -> None:
        """Asks a worker of the queue to claim a place.

        Raises:
            RedisUnavailableError: The message could not be sent.
        """

    def close(self) -> None:
        """Closes the connections."""


class CeleryDispatcher:
    """Sends the Celery task "workers.run_task": JSON, no result, no retries.

    Args:
        settings: Where Redis, Celery's broker, is.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.redis_url
        self._app: Any = make_app(settings)
        options = {**self._app.conf.broker_transport_options, **_TRANSPORT_OPTIONS}
        self._app.conf.broker_transport_options = options

    def send(self, job_id: str, generation: int, place: Place, queue: str) -> None:
        """Puts one message on a queue."""
        kwargs = {
            "job_id": job_id,
            "generation": generation,
            "task_type": str(place.task_type),
            "index": place.index,
        }
        try:
            self._app.send_task(
                TASK_NAME, kwargs=kwargs, queue=queue, serializer="json", ignore_result=True, retry=False
            )
        except (kombu.exceptions.OperationalError, redis.RedisError, OSError) as error:
            raise RedisUnavailableError(f"No message could be sent through Redis at {self._url}: {error}") from error

    def close(self) -> None:
        """Closes the connections to the broker."""
        self._app.close()
