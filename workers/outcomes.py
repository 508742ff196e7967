"""What an error in a training process says of its task, and so of its job. Needs no TensorFlow."""

from runner.errors import ModelDirInUseError, PeerLostError, StaleGenerationError
from runner.jobs.state import Outcome, OutcomeKind

__all__ = ["outcome_of"]


def outcome_of(error: BaseException, *, is_ready: bool, step: int | None = None) -> Outcome:
    """How a task ends that raised an error.

    Args:
        error: What was raised.
        is_ready: Whether the session was ready, its state initialized or restored.
        step: global_step after the last completed step.
    """
    if isinstance(error, ModelDirInUseError):
        kind = OutcomeKind.MODEL_DIR_TAKEN
    elif isinstance(error, StaleGenerationError):
        # The coordinator took it for lost, and rightly so: whoever stopped it for so long has resumed it.
        kind = OutcomeKind.LOST
    elif isinstance(error, PeerLostError):
        kind = OutcomeKind.PEER_LOST
    elif is_ready or _is_transient(error):
        kind = OutcomeKind.FAILED
    else:
        # Before the first step it is the entry, the graph, or a checkpoint that does not fit: another try ends alike.
        kind = OutcomeKind.CONFIG_ERROR
    return Outcome(kind=kind, message=f"{type(error).__name__}: {error}", step=step)


def _is_transient(error: BaseException) -> bool:
    """Whether it is an error that another try may not see."""
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return False
    # Of TensorFlow's errors INVALID_ARGUMENT (3) and NOT_FOUND (5) are a checkpoint or a graph that does not fit.
    code = getattr(error, "error_code", None)
    return isinstance(error, (OSError, MemoryError)) or code not in (None, 3, 5)
