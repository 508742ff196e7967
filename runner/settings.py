"""The settings of every process, read once from the environment variables RUNNER_*."""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

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
        redis_password: From the file that RUNNER_PASSWORD_FILE names, or else from RUNNER_REDIS_URL.
        host: Address told to the peers of a task; None means the source address of the connection to Redis.
        ports: First and last port that a task may listen on; None lets the system choose.
        runtime_dir: Where `runner up` puts its socket and its lock.
        lease_secs: A lease that stays unchanged for this long is lost.
        beat_secs: How often a supervisor renews its lease.
        rendezvous_secs: How long a gang may take to claim all of its places.
        grace_secs: Between TERM and KILL for a training process.
        cache_dir: What may be deleted at any time, and costs only a download: training data.
        data_cache_bytes: How much training data it holds at most.
        s3_requests: What moves the bytes of S3 objects: "own" requests, or "s3fs" where a store or proxy refuses those.
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
    cache_dir: Path = Path("~/.cache/runner")
    data_cache_bytes: int = 100 << 30
    s3_requests: Literal["own", "s3fs"] = "own"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Reads RUNNER_REDIS_URL, _PASSWORD_FILE, _HOST, _PORTS, _CACHE_DIR, _DATA_CACHE_BYTES and _S3_REQUESTS.

        Args:
            environ: The environment; None means that of this process.

        Raises:
            SettingsError: A value cannot be used; the message names the variable.
        """
        environ = os.environ if environ is None else environ
        runtime_dir = _runtime_dir(environ)
        url, password = _redis(environ.get("RUNNER_REDIS_URL") or f"unix://{runtime_dir}/redis.sock")
        return cls(
            redis_url=url,
            redis_password=_password(environ.get("RUNNER_PASSWORD_FILE")) or password,
            host=environ.get("RUNNER_HOST") or None,
            ports=_ports(environ.get("RUNNER_PORTS")),
            runtime_dir=runtime_dir,
            cache_dir=Path(environ.get("RUNNER_CACHE_DIR") or cls.cache_dir),
            data_cache_bytes=_bytes(environ.get("RUNNER_DATA_CACHE_BYTES")) or cls.data_cache_bytes,
            s3_requests=_s3_requests(environ.get("RUNNER_S3_REQUESTS") or "own"),
        )

    @property
    def celery_broker_url(self) -> str:
        """The same Redis in the form that Celery's transport wants, password included."""
        parts = urlsplit(self.redis_url)
        user, _, host = parts.netloc.rpartition("@")
        if self.redis_password:
            user = f"{user}:{quote(self.redis_password, safe='')}"
        credentials = f"{user}@" if user else ""
        query = dict(pair.partition("=")[::2] for pair in parts.query.split("&") if pair)
        if parts.scheme == "unix":
            return f"redis+socket://{credentials}{parts.path}?virtual_host={query.get('db', '0')}"
        if parts.scheme == "rediss":
            # Celery's transport would talk to whoever answers, where redis-py wants a valid certificate.
            query.setdefault("ssl_cert_reqs", "required")
        return urlunsplit(parts._replace(netloc=credentials + host, query="&".join(map("=".join, query.items()))))


def _redis(url: str) -> tuple[str, str | None]:
    """A URL without its password, which has no place in messages and logs, and the password."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SettingsError(f"RUNNER_REDIS_URL={_without_secrets(url)!r} is not a URL: {error}.") from None
    _refuse_astray_passwords(parts)
    credentials = parts.netloc.rpartition("@")[0]
    user, _, password = credentials.partition(":")
    if password:
        url = url.replace(f"{credentials}@", f"{user}@" if user else "", 1)
    try:
        is_usable = parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or parts.scheme not in _SCHEMES:
        raise SettingsError(
            f"RUNNER_REDIS_URL={_without_secrets(url)!r}: expected a URL that begins with redis://, rediss:// or "
            "unix://, and a port, if any, between 1 and 65535."
        )
    return url, unquote(password) or None


def _refuse_astray_passwords(parts: SplitResult) -> None:
    """Refuses a password where it would not be found, and so become part of messages."""
    # A unix socket has no host, and its path may have an "@" in it.
    is_unix = parts.scheme == "unix"
    is_astray = bool(parts.netloc.rpartition("@")[2]) if is_unix else "@" in parts.path + parts.fragment
    if is_astray or "@" in parts.query or "password=" in parts.query:
        raise SettingsError(
            "RUNNER_REDIS_URL cannot be used: it has a password, or something like one, out of place. Put the password "
            "into a file and its path into RUNNER_PASSWORD_FILE, or write '/', '?', '#' and '@' in it as %2F, %3F, %23 "
            "and %40. A unix:// URL needs three slashes."
        )


def _without_secrets(url: str) -> str:
    return re.sub(r"^(\w*://)?.*@", r"\1...@", url, flags=re.DOTALL)


def _password(path: str | None) -> str | None:
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"RUNNER_PASSWORD_FILE={path!r} cannot be read: {error}.") from error


def _bytes(text: str | None) -> int | None:
    if not text:
        return None
    try:
        size_bytes = int(float(text))  # 2e9 is easier to read than 2000000000
    except (ValueError, OverflowError):
        size_bytes = 0
    if size_bytes <= 0:
        raise SettingsError(f"RUNNER_DATA_CACHE_BYTES={text!r}: expected a number of bytes such as 20e9.")
    return size_bytes


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


def _s3_requests(text: str) -> Literal["own", "s3fs"]:
    match text:
        case "own" | "s3fs":
            return text
    raise SettingsError(f"RUNNER_S3_REQUESTS={text!r}: expected 'own' or 's3fs'.")
