"""What event files say."""

from pathlib import Path

import tensorflow as tf


def scalars(directory: Path, tag: str) -> dict[int, float]:
    """The values of a scalar summary by step, over all event files of a directory."""
    return {
        event.step: value.simple_value
        for path in sorted(directory.glob("events.out.tfevents.*"))
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.tag == tag
    }


def saves(directory: Path) -> list[int]:
    """The steps of the CHECKPOINT entries, over all event files of a directory."""
    return [
        event.step
        for path in sorted(directory.glob("events.out.tfevents.*"))
        for event in tf.compat.v1.train.summary_iterator(str(path))
        if event.session_log.status == tf.compat.v1.SessionLog.CHECKPOINT
    ]
