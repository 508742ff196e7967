"""The `checkpoint` file: read and written as by TensorFlow, below a claim that TensorFlow does not see."""

from pathlib import Path

import pytest
import tensorflow as tf
from google.protobuf import text_format  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.python.training.checkpoint_state_pb2 import CheckpointState as Proto

from runner.checkpoint.state import UNPUBLISHED, CheckpointState, Claim, parse_state

CLAIM = Claim(3, "iris-k2x7a9qd", "5f0c71d2")
PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda path: path != UNPUBLISHED
)
TIMES = st.floats(min_value=0.001, max_value=1e11)


def as_tensorflow_reads(data: bytes) -> Proto:
    return text_format.Parse(data.decode(), Proto())


@given(latest=PATHS, others=st.lists(st.tuples(PATHS, TIMES)), preserved=TIMES)
def test_the_text_below_the_claim_is_byte_for_byte_that_of_tensorflow(
    latest: str, others: list[tuple[str, float]], preserved: float
) -> None:
    listed = [*others, (latest, 1795384000.25)]
    paths, timestamps = tuple(path for path, _ in listed), tuple(time for _, time in listed)
    proto = Proto(
        model_checkpoint_path=latest,
        all_model_checkpoint_paths=paths,
        all_model_checkpoint_timestamps=timestamps,
        last_preserved_timestamp=preserved,
    )
    state = CheckpointState(latest, paths, timestamps, last_preserved=preserved, kept=("model.ckpt-1",), claim=CLAIM)

    data = state.encode()

    claim, kept, text = data.split(b"\n", 2)
    assert claim == b"# runner: generation 3 iris-k2x7a9qd 5f0c71d2"
    assert kept == b'# runner: kept ["model.ckpt-1"]'
    assert text.decode() == text_format.MessageToString(proto)
    assert as_tensorflow_reads(data) == proto
    assert parse_state(data) == state


@given(latest=PATHS)
def test_a_path_is_read_from_both_ways_to_escape_it(latest: str) -> None:
    proto = Proto(model_checkpoint_path=latest)

    for as_utf8 in (True, False):
        assert parse_state(text_format.MessageToString(proto, as_utf8=as_utf8).encode()).latest == latest


@pytest.mark.parametrize(
    "text", ["", "\n", "# nothing\n", 'model_checkpoint_path: ""\n', 'model_checkpoint_path: "model.ckpt-2\n', "\xff\0"]
)
def test_a_file_that_is_empty_or_damaged_publishes_nothing(text: str) -> None:
    assert parse_state(text.encode("latin-1")) == CheckpointState(None)


@pytest.mark.parametrize("text", ["model_checkpoint_path:'model.ckpt-2'", ' model_checkpoint_path : "model.ckpt-2" '])
def test_a_file_that_was_edited_by_hand_is_read(text: str) -> None:
    assert parse_state(text.encode()).latest == "model.ckpt-2"


@given(st.binary())
def test_no_bytes_are_too_strange_to_be_read(data: bytes) -> None:
    state = parse_state(data)

    assert parse_state(state.encode()).named == state.named


def test_a_claim_leaves_the_text_of_a_foreign_file_as_it_is() -> None:
    text = b"model_checkpoint_path: '/data/m\\303\\266dell-1'\n# by hand\n"
    state = parse_state(text)

    once = state.claimed_by(Claim(0, "a", "b")).rewrite(text)
    twice = parse_state(once).claimed_by(CLAIM).rewrite(once)

    assert twice == b"# runner: generation 3 iris-k2x7a9qd 5f0c71d2\n" + text
    assert parse_state(twice).claim == CLAIM


def test_tensorflow_finds_no_checkpoint_where_there_is_only_a_claim(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(CheckpointState(None, claim=CLAIM).encode())

    assert tf.train.latest_checkpoint(str(tmp_path)) is None
    assert parse_state((tmp_path / "checkpoint").read_bytes()) == CheckpointState(None, claim=CLAIM)


@pytest.mark.parametrize(("owner", "nonce"), [("", "a"), ("two words", "a"), ("a", "line\n"), ("a", "")])
def test_a_claim_that_would_not_be_read_back_is_refused(owner: str, nonce: str) -> None:
    with pytest.raises(ValueError, match="without blanks"):
        Claim(1, owner, nonce)
