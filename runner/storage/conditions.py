"""Whether a condition of a write holds, for the stores in which we compare it ourselves."""

from runner.errors import ConditionFailedError
from runner.storage.directory import Condition, IfAbsent, IfUnchanged

__all__ = ["check_condition"]


def check_condition(only: Condition | None, tag: str | None, where: str) -> None:
    """Returns if a condition holds.

    Args:
        only: The condition; None always holds.
        tag: That the object has now; None: there is no object.
        where: Path or URL of the object, for the message.

    Raises:
        ConditionFailedError: It does not hold.
    """
    match only:
        case IfAbsent() if tag is not None:
            raise ConditionFailedError(f"{where} exists already.")
        case IfUnchanged() if tag is None:
            raise ConditionFailedError(f"{where} has been deleted.")
        case IfUnchanged(expected) if tag != expected:
            raise ConditionFailedError(f"{where} has been replaced by another writer.")
