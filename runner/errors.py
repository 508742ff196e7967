"""The error tree. Every error of the project derives from RunnerError and from the builtin a caller would expect."""

__all__ = [
    "CheckpointDamagedError",
    "CheckpointError",
    "CheckpointExistsError",
    "CheckpointNotFoundError",
    "CheckpointPathError",
    "CheckpointSupersededError",
    "CodeSnapshotError",
    "ConditionFailedError",
    "DataUrlError",
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
    "ObjectNotFoundError",
    "PeerLostError",
    "RedisUnavailableError",
    "RunnerError",
    "SettingsError",
    "StaleEpochError",
    "StaleGenerationError",
    "StorageError",
    "StoreAccessError",
    "StoreFullError",
    "StoreUnavailableError",
    "TrainerStartError",
    "WaitTimeoutError",
]


class RunnerError(Exception):
    """Base of all errors that the project raises itself."""


class SettingsError(RunnerError, ValueError):
    """An environment variable RUNNER_* has a value that cannot be used."""


class ModelDirError(RunnerError, ValueError):
    """A model_dir cannot be used: not a URL that fsspec knows, its package not installed, or not writable."""


class DataUrlError(RunnerError, ValueError):
    """A URL of training data cannot be used: not a URL that fsspec knows, or its package not installed."""


class ModelDirInUseError(ModelDirError):
    """Another job that has not ended yet uses the model_dir, or another writer has taken it over."""


class StorageError(RunnerError, OSError):
    """A store did not do what it was asked for."""


class ObjectNotFoundError(StorageError, FileNotFoundError):
    """The store says that it has no object of that name."""


class ConditionFailedError(StorageError, FileExistsError):
    """An object is not, or no longer, as the condition of a request wants it; nothing was changed."""


class StoreUnavailableError(StorageError, ConnectionError):
    """A store does not answer, or only with transient errors, although it was asked again and again."""


class StoreAccessError(StorageError, PermissionError):
    """A store refuses a request for want of permission, or does not accept the credentials."""


class StoreFullError(StorageError):
    """A disk is full, or a quota used up."""


class CheckpointError(RunnerError):
    """A checkpoint cannot be read or written."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """No complete checkpoint answers the request."""


class CheckpointPathError(CheckpointNotFoundError, ValueError):
    """A path or URL that was given for a checkpoint is that of none."""


class CheckpointDamagedError(CheckpointError, ValueError):
    """The bytes of a checkpoint are not those that were written, or some of its files are not there."""


class CheckpointExistsError(CheckpointError, FileExistsError):
    """A checkpoint of that step is published: it is never replaced."""


class CheckpointSupersededError(CheckpointError, RuntimeError):
    """An older generation wrote the `checkpoint` file first; the fence has been raised over it since.

    Attributes:
        latest: The basename of what it published, to restore from; None if that is nothing, so that the save that was
            refused can be written again, from its first object.
    """

    def __init__(self, message: str, *, latest: str | None) -> None:
        super().__init__(message)
        self.latest = latest


class StaleGenerationError(CheckpointError, RuntimeError):
    """A later generation of the same job writes the model_dir: this one must end, and has nothing more to say."""


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
