"""What a job is: its specification, validated once and then frozen."""

import base64
import json
import math
import re
import secrets
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from runner.cluster import Place, roster

__all__ = ["DEFAULT_QUEUE", "JobSpec", "Model", "is_entry", "is_job_id", "job_id"]

DEFAULT_QUEUE = "default"

_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_SECRET = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|PRIVATE|ACCESS_KEY|API_KEY", re.IGNORECASE)
# A number before a slash is a port.
_URL_WITH_PASSWORD = re.compile(r"://([^\s/@]*:(?!\d+/)|:)[^\s@]+@")
_MAX_ID = 63
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Model(BaseModel):
    """Base of everything that crosses a process: frozen, strict about unknown fields, JSON in and out."""

    # JSON has no NaN, and a loss that is one must not become null, or be refused, on its way to a person.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class JobSpec(Model):
    """One training job, as the client submits it.

    Attributes:
        entry: "module:function" that makes the Experiment.
        params: Passed to the entry; any JSON object.
        model_dir: Absolute fsspec URL or path.
        workers: Number of worker tasks beside the chief; a job needs 1 + workers slots.
        name: First part of the job's id.
        queue: Celery queue, and the slots that listen on it.
        priority: Jobs of a higher priority are admitted first.
        env: Plain environment variables of the training processes.
        max_failures: How many generations may end in a failure before the job is FAILED.
        code: sha256 of the code snapshot in `<model_dir>/.runner/code/`; None: the entry comes with the environment.
    """

    # The env of a job that is refused may well hold a secret, and errors are printed and logged.
    model_config = ConfigDict(hide_input_in_errors=True)

    entry: str
    params: dict[str, JsonValue] = Field(default_factory=dict)
    model_dir: str
    workers: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?$")]
    queue: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,63}$")] = DEFAULT_QUEUE
    priority: Annotated[int, Field(strict=True)] = 0
    env: dict[str, str] = Field(default_factory=dict)
    max_failures: Annotated[int, Field(strict=True, ge=0)] = 3
    code: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @field_validator("entry")
    @classmethod
    def _entry_names_a_function(cls, value: str) -> str:
        if not is_entry(value):
            raise ValueError(f'expected "module:function", given {value!r}')
        return value

    @field_validator("params")
    @classmethod
    def _params_are_json(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if where := _not_finite(value):
            raise ValueError(f"{where} is not a finite number")
        json.dumps(value, ensure_ascii=False).encode()
        return value

    @field_validator("env")
    @classmethod
    def _env_can_be_set(cls, value: dict[str, str]) -> dict[str, str]:
        if names := sorted(name for name, text in value.items() if not name or "=" in name or "\0" in name + text):
            names = [name.partition("=")[0] for name in names]
            raise ValueError(f"{names!r} cannot be set: a name is empty or has '=' in it, or there is a null byte")
        return value

    @field_validator("env")
    @classmethod
    def _env_holds_no_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        if names := sorted(name for name in value if _SECRET.search(name)):
            raise ValueError(
                f"{', '.join(names)} looks like a secret; set it in the environment of the workers instead"
            )
        if names := sorted(name for name, text in value.items() if _URL_WITH_PASSWORD.search(text)):
            raise ValueError(
                f"{', '.join(names)} holds a URL with a password; set it in the environment of the workers instead"
            )
        return value

    @property
    def roster(self) -> tuple[Place, ...]:
        """All places of the job's cluster."""
        return roster(self.workers)

    def to_json(self) -> str:
        """The specification as JSON; `from_json` reads it back equal."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Raises:
            pydantic.ValidationError: `text` is not a valid specification.
        """
        return cls.model_validate_json(text)


def _not_finite(value: JsonValue, where: str = "") -> str:
    """The path to the first number that JSON cannot say, as in "layers.0.rate"; "" if there is none."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{where}={value}"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next((found for key, each in items if (found := _not_finite(each, f"{where}.{key}".lstrip(".")))), "")


def is_entry(text: str) -> bool:
    """Whether a text has the form "module:function"."""
    return _ENTRY.fullmatch(text) is not None


def is_job_id(text: str) -> bool:
    """Whether `job_id` could have made it, so that it may be part of a key or a path."""
    return _ID.fullmatch(text) is not None


def job_id(name: str) -> str:
    """A new id `<name>-<8 base32>`, at most 63 characters of [a-z0-9-]."""
    suffix = base64.b32encode(secrets.token_bytes(5)).decode("ascii").lower()
    return f"{name[: _MAX_ID - 1 - len(suffix)]}-{suffix}"
