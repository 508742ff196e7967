"""Who wrote a checkpoint, as an error about it tells."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.checkpoint.commits import Commit, commit_name
from runner.checkpoint.origin import describe_origin
from runner.storage.urls import open_directory

CODE = "5f0c71d2a84b9e36" * 4


def write_commit(url: str, *, code: str | None) -> str:
    commit = Commit(
        step=200,
        generation=3,
        owner="iris-k2x7a9qd",
        code=code,
        time=datetime(2026, 5, 4, 3, 2, tzinfo=UTC),
        objects={},
        nonce="n",
    )
    open_directory(url).write_bytes(commit_name("model.ckpt-200"), commit.encode())
    return f"{url}/model.ckpt-200"


def test_the_code_of_a_job_is_named_with_the_command_that_unpacks_it(tmp_path: Path) -> None:
    model_dir = tmp_path / "my models"

    assert describe_origin(write_commit(str(model_dir), code=CODE)) == (
        "It was written by generation 3 of iris-k2x7a9qd, 2026-05-04 03:02 UTC, with the code snapshot "
        f"{CODE}: `runner checkpoints '{model_dir}' --code 200 DIR` unpacks it."
    )


def test_a_writer_without_a_code_snapshot_is_named_alone(tmp_path: Path) -> None:
    assert describe_origin(write_commit(str(tmp_path), code=None)) == (
        "It was written by generation 3 of iris-k2x7a9qd, 2026-05-04 03:02 UTC."
    )


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_what_is_not_known_is_left_out(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        open_directory(str(tmp_path)).write_bytes(commit_name("model.ckpt-200"), content)

    assert describe_origin(f"{tmp_path}/model.ckpt-200") == ""
