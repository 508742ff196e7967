"""Partitioners as an argument: taken, and not used."""

import logging
from typing import Any

__all__ = ["warn_of_partitioner"]

_logger = logging.getLogger("tensorflow")


def warn_of_partitioner(name: str, partitioner: Any) -> None:
    """Says in the log that a partitioner has no effect: no variable is spread over parameter servers.

    Args:
        name: Of the argument.
        partitioner: What was given; None is nothing to warn of.
    """
    if partitioner is not None:
        _logger.warning("%s is not used: every task holds whole variables, and none is a parameter server.", name)
