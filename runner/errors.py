"""The error tree. Every error of the project derives from RunnerError and from the builtin a caller would expect."""

__all__ = [
    "CheckpointError",
    "CheckpointNotFoundError",
    "CodeSnapshotError",
    "EntryError",
    "InvalidExperimentError",
    "JobCancelledError",
    "JobFailedError",
    "JobNotFoundError",
    "JobSpecError",
    "LocalStackError",
    "LocalStackInUseError",
    "ModelDirError",
    "ModelDirInUseError",
    "PeerLostError",
    "RedisUnavailableError",
    "RunnerError",
    "SettingsError",
    "StaleEpochError",
    "TrainerStartError",
    "WaitTimeoutError",
]


class RunnerError(Exception):
    """Base of all errors that the project raises itself."""


class SettingsError(RunnerError, ValueError):
    """An environment variable RUNNER_* has a value that cannot be used."""


class ModelDirError(RunnerError, ValueError):
    """A model_dir cannot be used: not a URL that fsspec knows, not supported, or not writable."""


class ModelDirInUseError(ModelDirError):
    """Another job that has not ended yet uses the model_dir."""


class CheckpointError(RunnerError):
    """A checkpoint cannot be read or written."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """No complete checkpoint answers the request."""


class EntryError(RunnerError, ValueError):
    """An entry "module:function" does not name a function that a task could import."""


class InvalidExperimentError(RunnerError, TypeError):
    """An entry did not return a valid Experiment for the config it was given."""


class CodeSnapshotError(RunnerError, ValueError):
    """The working directory cannot be packed into, or unpacked from, a code snapshot."""


class PeerLostError(RunnerError, ConnectionError):
    """Another task of the cluster ended or fell silent in mid-training: this task is a victim, not the cause."""


class JobNotFoundError(RunnerError, LookupError):
    """No job has that id."""


class JobSpecError(RunnerError, ValueError):
    """What is given for, or recorded of, a job cannot be used: the message names it and says what to do."""


class JobFailedError(RunnerError, RuntimeError):
    """A job ended as FAILED."""


class JobCancelledError(RunnerError, RuntimeError):
    """A job ended as CANCELLED."""


class TrainerStartError(RunnerError, OSError):
    """No training process could be started on this machine."""


class WaitTimeoutError(RunnerError, TimeoutError):
    """A job did not end within the time that the caller gave it."""


class RedisUnavailableError(RunnerError, ConnectionError):
    """Redis does not answer at the configured URL."""


class StaleEpochError(RunnerError, RuntimeError):
    """A coordinator wrote with the epoch of a leader that has been replaced."""


class LocalStackError(RunnerError, RuntimeError):
    """A process of the embedded stack did not start, or ended by itself."""


class LocalStackInUseError(LocalStackError, ValueError):
    """Another embedded stack runs in the same directory."""
