"""Connections to Redis, and Redis's errors as ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from runner.errors import RedisUnavailableError, SettingsError
from runner.settings import Settings
from runner.storage.private import is_private

__all__ = ["connect", "redis_errors"]

_TIMEOUT_SECS = 10.0


def connect(settings: Settings) -> Any:
    """A client for the Redis of these settings; connects at the first command.

    Thread-safe. Every command is tried three times within about a second before it raises. Typed as Any, since
    redis-py's annotations do not know that responses are decoded.

    Raises:
        SettingsError: The socket of `runner up` lies in a directory that is open to others: whoever made it could have
            this process run their code.
    """
    socket = Path(settings.redis_url.removeprefix("unix://"))
    if socket.parent == settings.runtime_dir and settings.runtime_dir.exists() and not is_private(settings.runtime_dir):
        raise SettingsError(
            f"{settings.runtime_dir} is not private to this user, and whoever can reach Redis can run code. "
            "Remove it, `chmod 700` it, or set RUNNER_REDIS_URL."
        )
    return redis.Redis.from_url(
        settings.redis_url,
        password=settings.redis_password,
        decode_responses=True,
        socket_timeout=_TIMEOUT_SECS,
        socket_connect_timeout=_TIMEOUT_SECS,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=3),
    )


@contextmanager
def redis_errors(settings: Settings) -> Iterator[None]:
    """Raises RedisUnavailableError for whatever says that Redis cannot be reached, or will not let us in or write."""
    url = settings.redis_url
    try:
        yield
    except (redis.AuthenticationError, redis.exceptions.AuthorizationError) as error:
        if settings.redis_password is None:
            raise RedisUnavailableError(
                f"Redis at {url} needs a password: set RUNNER_PASSWORD_FILE to a file that holds it."
            ) from error
        raise RedisUnavailableError(
            f"Redis at {url} refused the password: {error}. "
            "Set RUNNER_PASSWORD_FILE to a file that holds the right one."
        ) from error
    except (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError) as error:
        # As good as an outage: it can end, and until then nobody may take what he could not write for written.
        raise RedisUnavailableError(
            f"Redis at {url} takes no writes: {error} Give it more memory, or make it the primary."
        ) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise RedisUnavailableError(
            f"No Redis at {url}: {error} "
            "Start one with `runner up` (or `valkey-server`), or set RUNNER_REDIS_URL to yours."
        ) from error
