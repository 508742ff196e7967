"""What an error in a training process says of its task."""

import pytest
import tensorflow as tf

from runner.errors import (
    CheckpointNotFoundError,
    EntryError,
    ModelDirError,
    ModelDirInUseError,
    PeerLostError,
    StaleGenerationError,
    StoreAccessError,
    StoreUnavailableError,
)
from runner.jobs.state import OutcomeKind
from workers.outcomes import outcome_of


@pytest.mark.parametrize(
    ("error", "before_training", "in_training"),
    [
        (ModelDirError("no bucket 'models'"), OutcomeKind.CONFIG_ERROR, OutcomeKind.FAILED),
        (StoreAccessError("AccessDenied"), OutcomeKind.CONFIG_ERROR, OutcomeKind.FAILED),
        (StoreUnavailableError("no answer"), OutcomeKind.FAILED, OutcomeKind.FAILED),
        (ModelDirInUseError("claimed by another"), OutcomeKind.MODEL_DIR_TAKEN, OutcomeKind.MODEL_DIR_TAKEN),
        (StaleGenerationError("generation 2 goes on"), OutcomeKind.LOST, OutcomeKind.LOST),
        (CheckpointNotFoundError("gone"), OutcomeKind.CONFIG_ERROR, OutcomeKind.FAILED),
        (EntryError("no function"), OutcomeKind.CONFIG_ERROR, OutcomeKind.FAILED),
        (PeerLostError("gone"), OutcomeKind.PEER_LOST, OutcomeKind.PEER_LOST),
        (MemoryError(), OutcomeKind.FAILED, OutcomeKind.FAILED),
        (tf.errors.InvalidArgumentError(None, None, "shape"), OutcomeKind.CONFIG_ERROR, OutcomeKind.FAILED),
        (tf.errors.UnavailableError(None, None, "gone"), OutcomeKind.FAILED, OutcomeKind.FAILED),
        (ValueError("bad label"), OutcomeKind.CONFIG_ERROR, OutcomeKind.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_charged_to_what_another_try_would_not_see(
    error: Exception, before_training: OutcomeKind, in_training: OutcomeKind
) -> None:
    before, after = outcome_of(error, is_ready=False), outcome_of(error, is_ready=True, step=7)

    assert (before.kind, after.kind) == (before_training, in_training)
    assert after.step == 7
    assert str(error) in after.message
