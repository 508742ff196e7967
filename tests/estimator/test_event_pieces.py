"""Events of a remote directory: pieces, what is uploaded when, and an outage."""

import re
import threading
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from runner.estimator.events.piece_writer import PieceWriter
from runner.estimator.events.records import frame, split_records
from runner.storage.directory import Condition
from runner.storage.local_directory import LocalDirectory
from runner.storage.urls import open_directory
from tests.estimator.events import scalars
from tests.waiting import wait_until


def scalar(step: int, value: float = 1.0, *, padding: str = "") -> Any:
    values = [tf.compat.v1.Summary.Value(tag=f"loss{padding}", simple_value=value)]
    return tf.compat.v1.Event(step=step, summary=tf.compat.v1.Summary(value=values))


def writer_of(directory: Path, **arguments: Any) -> PieceWriter:
    return PieceWriter(open_directory(str(directory)), **{"upload_every_secs": 0.05, **arguments})


class CountingDirectory(LocalDirectory):
    """Counts what is written."""

    writes = 0

    def write_bytes(self, name: str, data: bytes, *, only: Condition | None = None) -> str:
        self.writes += 1
        return super().write_bytes(name, data, only=only)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("events*"))


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(0, 40))
def test_records_are_read_up_to_the_first_that_is_cut_off(records: list[bytes], missing: int) -> None:
    data = b"".join(map(frame, records))
    data = data[: max(len(data) - missing, 0)]

    read, size_bytes = split_records(data)

    assert read == records[: len(read)]
    assert size_bytes == sum(len(frame(record)) for record in read)
    assert len(read) == len(records) or size_bytes + len(frame(records[len(read)])) > len(data)


@given(st.data())
def test_a_flipped_bit_ends_what_is_read(data: st.DataObject) -> None:
    whole = bytearray(frame(b"first") + frame(b"second"))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= 1 << data.draw(st.integers(0, 7))

    records, _ = split_records(bytes(whole))

    assert records == ([] if position < len(frame(b"first")) else [b"first"])


def test_tensorflow_reads_our_records_and_we_read_its(tmp_path: Path) -> None:
    records = [b"", b"one", bytes(100_000)]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_bytes(b"".join(map(frame, records)))
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for record in records:
            writer.write(record)

    assert list(tf.data.TFRecordDataset(str(ours)).as_numpy_iterator()) == records
    assert split_records(theirs.read_bytes()) == (records, theirs.stat().st_size)


def test_what_is_added_is_uploaded_while_the_writer_is_open(tmp_path: Path) -> None:
    writer = writer_of(tmp_path)

    writer.add_event(scalar(1, 0.5))
    wait_until(lambda: scalars(tmp_path, "loss") == {1: 0.5})
    writer.add_event(scalar(2, 0.25))
    wait_until(lambda: scalars(tmp_path, "loss") == {1: 0.5, 2: 0.25})

    assert len(names_in(tmp_path)) == 1
    writer.close()


def test_a_piece_that_is_not_full_is_uploaded_at_most_every_so_many_seconds(tmp_path: Path) -> None:
    now = [0.0]
    directory = CountingDirectory(str(tmp_path))
    writer = PieceWriter(directory, upload_every_secs=5, clock=lambda: now[0])

    writer.add_event(scalar(1))
    wait_until(lambda: names_in(tmp_path))
    for now[0] in (1.0, 4.99, 5.0):
        writer.add_event(scalar(int(100 * now[0])))
        writer.flush()

    wait_until(lambda: [*scalars(tmp_path, "loss")] == [1, 100, 499, 500])
    assert directory.writes == 2
    writer.close()
    assert directory.writes == 2


def test_a_full_piece_is_followed_by_the_next_and_each_begins_with_the_file_version(tmp_path: Path) -> None:
    writer = writer_of(tmp_path, piece_bytes=1000, upload_every_secs=1e6)

    for step in range(30):
        writer.add_event(scalar(step, padding="-" * 90))
    writer.close()

    names = names_in(tmp_path)
    assert [int(name.rpartition(".")[2]) for name in names] == list(range(len(names)))
    assert len(names) == 4
    for name in names:
        events = [*tf.compat.v1.train.summary_iterator(str(tmp_path / name))]
        assert [event.file_version for event in events] == ["brain.Event:2"] + [""] * (len(events) - 1)
    assert [*scalars(tmp_path, "loss" + "-" * 90)] == list(range(30))


def test_names_sort_by_the_time_of_their_writer_and_by_its_pieces(tmp_path: Path) -> None:
    for now_ns in (1_700_000_000_000_000_007, 1_700_000_000_100_000_000, 1_700_000_001_000_000_000):
        writer = writer_of(tmp_path, piece_bytes=1, now_ns=lambda now_ns=now_ns: now_ns)
        for _ in range(11):
            writer.add_event(scalar(now_ns % 10**9))
        writer.close()

    names = names_in(tmp_path)
    assert len(names) == 33
    steps = [scalar_step(tmp_path / name) for name in names]
    assert steps == [7] * 11 + [100_000_000] * 11 + [0] * 11
    assert all(re.fullmatch(r"events\.out\.tfevents\.170000000[01]\..+\.\d{9}\.\d+\.\d{5}", name) for name in names)


def scalar_step(path: Path) -> int:
    return [*tf.compat.v1.train.summary_iterator(str(path))][-1].step


def test_two_writers_of_one_moment_do_not_share_a_file(tmp_path: Path) -> None:
    writers = [writer_of(tmp_path) for _ in range(5)]
    for step, writer in enumerate(writers):
        writer.add_event(scalar(step))
    for writer in writers:
        writer.close()

    assert len(names_in(tmp_path)) == 5
    assert sorted(scalars(tmp_path, "loss")) == [0, 1, 2, 3, 4]


def test_a_writer_without_events_leaves_nothing(tmp_path: Path) -> None:
    writer = writer_of(tmp_path / "model")
    writer.flush()
    writer.close()

    assert not (tmp_path / "model").exists()


def test_a_closed_writer_ignores_events_until_it_is_opened_again(tmp_path: Path) -> None:
    writer = writer_of(tmp_path)
    writer.add_event(scalar(1))
    writer.close()
    writer.add_event(scalar(2))
    writer.close()
    writer.reopen()
    writer.reopen()
    writer.add_event(scalar(3))
    writer.close()

    assert len(names_in(tmp_path)) == 2
    assert [*scalars(tmp_path, "loss")] == [1, 3]
    assert not [thread for thread in threading.enumerate() if thread.name == "event-upload"]


def test_an_outage_loses_no_event_and_is_told_once(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    model_dir = tmp_path / "model"
    model_dir.write_text("in the way of the directory")  # as if the store failed
    writer = writer_of(model_dir, piece_bytes=1000, upload_every_secs=0.001)

    for step in range(100):
        writer.add_event(scalar(step))
    wait_until(lambda: "cannot be uploaded" in info_log.text)
    for step in range(100, 200):
        writer.add_event(scalar(step))
    model_dir.unlink()
    wait_until(lambda: len(scalars(model_dir, "loss")) == 200)
    writer.close()

    assert [*scalars(model_dir, "loss")] == list(range(200))
    assert info_log.text.count("cannot be uploaded") == 1
    assert info_log.text.count("are uploaded again, none is lost") == 1


def test_what_cannot_be_uploaded_at_the_end_is_kept_and_named(
    tmp_path: Path, info_log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model_dir = tmp_path / "model"
    model_dir.write_text("in the way of the directory")
    writer = writer_of(model_dir, piece_bytes=1000, upload_every_secs=1e6)

    for step in range(100):
        writer.add_event(scalar(step))
    writer.close()

    match = re.search(r"could not be uploaded. They are in (\S+) on this machine", info_log.text)
    assert match
    assert [*scalars(Path(match[1]), "loss")] == list(range(100))
    writer.close()
    assert info_log.text.count("could not be uploaded") == 1
