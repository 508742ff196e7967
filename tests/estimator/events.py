"""What event files say."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from runner.estimator.events.records import split_records
from runner.storage.directory import Directory


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


def events_in(directory: Directory) -> list[Any]:
    """All events of a directory on any store, file by file in the order of their names."""
    return [
        tf.compat.v1.Event.FromString(record)
        for entry in directory.list()
        if entry.name.startswith("events.out.tfevents.")
        for record in split_records(directory.read_bytes(entry.name))[0]
    ]


def scalars_in(directory: Directory, tag: str) -> dict[int, float]:
    """The values of a scalar summary by step, over all event files of a directory on any store."""
    return {
        event.step: value.simple_value
        for event in events_in(directory)
        for value in event.summary.value
        if value.tag == tag
    }
