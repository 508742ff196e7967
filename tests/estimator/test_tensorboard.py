"""Events in S3, on a real server: what TensorBoard, the real one too, shows of them, and an outage."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner.estimator.events import EventFile
from runner.storage.urls import open_directory
from tests.estimator.events import scalars_in
from tests.seaweed import SeaweedFS, running_seaweed, use
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
Look = Callable[[], dict[int, float]]
v1 = tf.compat.v1


@contextmanager
def tensorboard(logdir: str, s3: SeaweedFS) -> Iterator[Look]:
    """A process that looks at a scalar `loss` whenever it is asked to, as TensorBoard does every few seconds."""
    environ = {**os.environ, **s3.environ(), "FSSPEC_S3": '{"use_listings_cache": false}'}
    command = [sys.executable, "-m", "tests.estimator.tensorboard", logdir, "loss"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def look() -> dict[int, float]:
            stdin.write("\n")
            stdin.flush()
            return dict(json.loads(stdout.readline()))

        yield look
        stdin.close()
        assert process.wait(60) == 0


def scalar(step: int, value: float) -> Any:
    return v1.Event(step=step, summary=v1.Summary(value=[v1.Summary.Value(tag="loss", simple_value=value)]))


def seconds_until(look: Look, expected: dict[int, float]) -> float:
    start = time.monotonic()
    while (seen := look()) != expected:
        assert time.monotonic() - start < 60, seen
    return time.monotonic() - start


@pytest.fixture
def look(s3: SeaweedFS, s3_url: str) -> Iterator[Look]:
    with tensorboard(s3_url, s3) as look:
        yield look


def test_scalars_are_there_within_10_seconds_while_the_writer_is_open(look: Look, s3_url: str) -> None:
    look()  # from here on it only has to look again
    with EventFile(s3_url) as events:
        waits = []
        expected = {}
        for step in (1, 2):
            expected[step] = 1 / step
            events.writer.add_event(scalar(step, 1 / step))
            waits.append(seconds_until(look, expected))

    assert max(waits) < 10


def test_steps_that_are_repeated_after_a_restart_replace_those_of_before(look: Look, s3_url: str) -> None:
    for start, value in ((1, 0.5), (3, 0.25)):
        with EventFile(s3_url) as events:
            events.writer.add_session_log(v1.SessionLog(status=v1.SessionLog.START), start)
            for step in range(start, start + 4):
                events.writer.add_event(scalar(step, value))

    assert look() == {1: 0.5, 2: 0.5, 3: 0.25, 4: 0.25, 5: 0.25, 6: 0.25}


def test_an_outage_of_the_server_delays_events_but_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_seaweed(tmp_path) as seaweed:
        use(seaweed.environ(), monkeypatch)
        url = seaweed.new_url()
        directory = open_directory(url)
        with EventFile(url) as events:
            events.writer.add_event(scalar(1, 0.5))
            wait_until(lambda: scalars_in(directory, "loss"))
            seaweed.kill()

            start = time.monotonic()
            for step in range(2, 1002):
                events.writer.add_event(scalar(step, 0.5))
                events.writer.flush()
            took_secs = time.monotonic() - start

            seaweed.start()

        assert scalars_in(directory, "loss") == dict.fromkeys(range(1, 1002), 0.5)
        assert took_secs < 5  # none of them waited for the server, which may take a minute
