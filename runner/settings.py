"""The settings of every process, read once from the environment variables RUNNER_*."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit, urlunsplit

from runner.errors import SettingsError

__all__ = ["Settings"]

_SCHEMES = ("redis", "rediss", "unix")


def _runtime_dir(environ: Mapping[str, str]) -> Path:
    """Where `runner up` keeps its socket: private to the user, and the same for every command of that user."""
    base = environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "runner" if base else Path(tempfile.gettempdir()) / f"runner-{os.getuid()}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the processes of one installation share.

    Attributes:
        redis_url: redis://, rediss:// or unix:// URL, without a password.
        redis_password: From the file that RUNNER_PASSWORD_FILE names, if any.
        host: Address told to the peers of a task; None means the source address of the connection to Redis.
        ports: First and last port that a task may listen on; None lets the system choose.
        runtime_dir: Where `runner up` puts its socket and its lock.
        lease_secs: A lease that stays unchanged for this long is lost.
        beat_secs: How often a supervisor renews its lease.
        rendezvous_secs: How long a gang may take to claim all of its places.
        grace_secs: Between TERM and KILL for a training process.
    """

    redis_url: str
    runtime_dir: Path
    redis_password: str | None = None
    host: str | None = None
    ports: tuple[int, int] | None = None
    lease_secs: float = 15.0
    beat_secs: float = 1.0
    rendezvous_secs: float = 60.0
    grace_secs: float = 10.0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Reads RUNNER_REDIS_URL, RUNNER_PASSWORD_FILE, RUNNER_HOST and RUNNER_PORTS.

        Args:
            environ: The environment; None means that of this process.

        Raises:
            SettingsError: A value cannot be used; the message names the variable.
        """
        environ = os.environ if environ is None else environ
        runtime_dir = _runtime_dir(environ)
        return cls(
            redis_url=_redis_url(environ.get("RUNNER_REDIS_URL") or f"unix://{runtime_dir}/redis.sock"),
            redis_password=_password(environ.get("RUNNER_PASSWORD_FILE")),
            host=environ.get("RUNNER_HOST") or None,
            ports=_ports(environ.get("RUNNER_PORTS")),
            runtime_dir=runtime_dir,
        )

    @property
    def celery_broker_url(self) -> str:
        """The same Redis in the form that Celery's transport wants, password included."""
        parts = urlsplit(self.redis_url)
        if parts.scheme == "unix":
            user = f":{quote(self.redis_password, safe='')}@" if self.redis_password else ""
            database = dict(pair.partition("=")[::2] for pair in parts.query.split("&")).get("db", "0")
            return f"redis+socket://{user}{parts.path}?virtual_host={database}"
        if self.redis_password is None or "@" in parts.netloc:
            return self.redis_url
        return urlunsplit(parts._replace(netloc=f":{quote(self.redis_password, safe='')}@{parts.netloc}"))


def _redis_url(url: str) -> str:
    if urlsplit(url).scheme not in _SCHEMES:
        raise SettingsError(
            f"RUNNER_REDIS_URL={url!r}: expected a URL that begins with redis://, rediss:// or unix://."
        )
    return url


def _password(path: str | None) -> str | None:
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"RUNNER_PASSWORD_FILE={path!r} cannot be read: {error}.") from error


def _ports(text: str | None) -> tuple[int, int] | None:
    if not text:
        return None
    first, _, last = text.partition("-")
    try:
        ports = int(first), int(last or first)
    except ValueError as error:
        raise SettingsError(f"RUNNER_PORTS={text!r}: expected a range like 20000-20100.") from error
    if not 0 < ports[0] <= ports[1] < 65536:  # noqa: PLR2004 - the largest TCP port
        raise SettingsError(
            f"RUNNER_PORTS={text!r}: expected ports between 1 and 65535, the first one not above the last."
        )
    return ports
