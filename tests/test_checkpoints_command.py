"""`runner checkpoints` on a path or a URL: what it lists, finds damaged, and downloads. There is no Redis."""

import json
import math
import re
import secrets
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner, Result

from runner.checkpoint.commits import Commit, commit_name
from runner.checkpoint.download import download_checkpoint
from runner.checkpoint.evaluations import record_evaluation
from runner.checkpoint.state import CheckpointState, Claim
from runner.cli import main
from runner.cli.output import size_text, time_span
from runner.errors import CheckpointNotFoundError
from runner.jobs.snapshot import pack, snapshot_name
from runner.storage.directory import Directory
from runner.storage.local_directory import LocalDirectory
from runner.storage.urls import open_directory
from tests.checkpoint.bundles import write_bundle
from tests.seaweed import SeaweedFS, use

Run = Callable[..., Result]

CODE = "0123456789abcdef" * 4


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*arguments: str) -> Result:
        environ = {"RUNNER_REDIS_URL": f"unix://{tmp_path}/no.sock"}
        return CliRunner().invoke(main, ["checkpoints", *arguments], env=environ, prog_name="runner")

    return run


@pytest.fixture(params=["local", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Directory:
    url = str(tmp_path / "model") if request.param == "local" else f"memory://{secrets.token_hex(4)}/model"
    return trained(url)


def trained(url: str) -> Directory:
    """A model_dir with checkpoints of the steps 5 and 10, and one of step 15 that was not published."""
    directory = open_directory(url)
    for step in (5, 10, 15):
        save(directory, step)
    record_evaluation(directory, "model.ckpt-5", {"loss": 0.25, "accuracy": math.nan})
    state = CheckpointState("model.ckpt-10", ("model.ckpt-5", "model.ckpt-10"), claim=Claim(2, "iris-aaaaaaaa", "n"))
    directory.write_bytes("checkpoint", state.encode())
    return directory


def save(directory: Directory, step: int) -> None:
    basename = f"model.ckpt-{step}"
    write_bundle(directory, basename, {"w": np.full((20, 10), step, np.float32), "global_step": np.array(step)})
    directory.write_bytes(f"{basename}.meta", b"graph")
    objects = {entry.name: entry.size_bytes for entry in directory.list() if entry.name.startswith(f"{basename}.")}
    commit = Commit(
        step=step, generation=2, owner="iris-aaaaaaaa", code=CODE, time=datetime.now(UTC), objects=objects, nonce="n"
    )  # fmt: skip
    directory.write_bytes(commit_name(basename), commit.encode())


def flip(directory: Directory, name: str) -> None:
    data = bytearray(directory.read_bytes(name))
    data[len(data) // 2] ^= 4
    directory.write_bytes(name, bytes(data))


def rows(result: Result) -> list[list[str]]:
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return [re.split(r"\s{2,}", line) for line in result.stdout.splitlines()]


def test_a_model_dir_is_listed_with_the_facts_of_each_checkpoint(run: Run, directory: Directory) -> None:
    result = run(directory.url)

    assert result.exit_code == 0, result.output
    header, first, second, third = rows(result)
    assert header == ["STEP", "AGE", "SIZE", "SHARDS", "STATE", "LOSS", "CODE", "PREFIX"]
    assert first[:1] + first[3:] == ["5", "1", "complete", "0.25", CODE[:12], f"{directory.url}/model.ckpt-5"]
    assert re.fullmatch(r"\d s", first[1])
    assert re.fullmatch(r"\d{3} bytes", first[2])
    assert second[-2:] == [f"{directory.url}/model.ckpt-10", "latest"]
    assert third[4] == "orphan"


def test_the_listing_as_json_has_no_number_that_json_lacks(run: Run, directory: Directory) -> None:
    first, second, third = json.loads(run(directory.url, "--json").stdout)

    assert first["metrics"] == {"loss": 0.25, "accuracy": None}
    assert (first["step"], first["shards"], first["code"], first["latest"]) == (5, 1, CODE, False)
    assert second["latest"]
    assert [info["state"] for info in (first, second, third)] == ["complete", "complete", "orphan"]
    assert [info["damage"] for info in (first, second, third)] == [None] * 3


def test_a_relative_path_and_a_directory_named_like_a_job_are_model_dirs(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(LocalDirectory(str(tmp_path / "iris-aaaaaaaa")), 5)
    monkeypatch.chdir(tmp_path)

    for name in ("iris-aaaaaaaa", "./iris-aaaaaaaa", f"file://{tmp_path}/iris-aaaaaaaa"):
        assert "model.ckpt-5" in run(name).stdout


def test_a_directory_that_does_not_exist_is_bad_input(run: Run, tmp_path: Path) -> None:
    result = run(str(tmp_path / "nowhere"))

    assert result.exit_code == 2
    assert f"There is no directory {tmp_path}/nowhere" in result.stderr


def test_checkpoints_on_s3_are_listed_verified_and_downloaded(run: Run, s3_url: str, tmp_path: Path) -> None:
    directory = trained(s3_url)
    flip(directory, "model.ckpt-5.data-00000-of-00001")

    verified = run(s3_url, "--verify")
    downloaded = run(s3_url, "--download", "latest", str(tmp_path / "copy"))

    assert verified.exit_code == 1
    assert f"{s3_url}/model.ckpt-5.data-00000-of-00001 is damaged: tensor w" in verified.stderr
    assert [row[4] for row in rows(verified)[1:]] == ["damaged", "complete", "orphan"]
    assert tf.train.latest_checkpoint(str(tmp_path / "copy")) == downloaded.stdout.strip()


def test_a_store_that_does_not_answer_is_told_from_one_without_checkpoints(
    run: Run, s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(s3.environ(), monkeypatch)
    empty = run(s3.new_url())
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")

    silent = run(s3.new_url(), "--timeout", "0.1")

    assert (empty.exit_code, len(rows(empty))) == (0, 1)
    assert "There is no checkpoint in s3://" in empty.stderr
    assert silent.exit_code == 3
    assert "http://127.0.0.1:9" in silent.stderr
    assert silent.stdout == ""


def test_sound_checkpoints_are_verified(run: Run, directory: Directory) -> None:
    result = run(directory.url, "--verify")

    assert result.exit_code == 0, result.output
    assert [row[4] for row in rows(result)[1:]] == ["complete", "complete", "orphan"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("data-00000-of-00001", "data-00000-of-00001 is damaged: tensor w: its checksum"), ("index", "index is damaged")],
)
def test_a_damaged_checkpoint_is_found_and_named(run: Run, directory: Directory, name: str, message: str) -> None:
    flip(directory, f"model.ckpt-5.{name}")

    table, listing = run(directory.url, "--verify"), run(directory.url, "--verify", "--json")

    assert table.exit_code == listing.exit_code == 1
    assert f"{directory.url}/model.ckpt-5.{message}" in table.stderr
    assert [row[4] for row in rows(table)[1:]] == ["damaged", "complete", "orphan"]
    infos = json.loads(listing.stdout)
    assert message in infos[0]["damage"]
    assert infos[0]["state"] == "damaged"
    assert run(directory.url).exit_code == 0  # which does not read them


@pytest.mark.parametrize("suffix", ["meta", "index", "data-00000-of-00001"])
def test_a_file_that_is_lost_or_shorter_than_recorded_is_seen_without_reading(
    run: Run, directory: Directory, suffix: str
) -> None:
    directory.write_bytes(f"model.ckpt-10.{suffix}", b"half")
    shorter = run(directory.url)
    directory.delete(f"model.ckpt-10.{suffix}")
    lost = run(directory.url)
    verified = run(directory.url, "--verify")

    assert [row[4] for row in rows(shorter)[1:]] == ["complete", "damaged", "orphan"]
    assert [row[4] for row in rows(lost)[1:]] == ["complete", "damaged", "orphan"]
    assert verified.exit_code == 1
    assert "model.ckpt-10" in verified.stderr


def test_what_was_never_published_may_be_incomplete(run: Run, directory: Directory) -> None:
    flip(directory, "model.ckpt-15.data-00000-of-00001")

    result = run(directory.url, "--verify", "--json")

    assert result.exit_code == 0
    assert "tensor w" in json.loads(result.stdout)[2]["damage"]


@pytest.mark.parametrize(("step", "found"), [("5", 5), ("latest", 10)])
def test_a_checkpoint_is_downloaded_for_the_tools_of_tensorflow(
    run: Run, directory: Directory, tmp_path: Path, step: str, found: int
) -> None:
    (tmp_path / "empty").mkdir()

    for name in ("new/folder", "empty"):
        result = run(directory.url, "--download", step, str(tmp_path / name))

        assert result.exit_code == 0, result.output
        latest = tf.train.latest_checkpoint(str(tmp_path / name))
        assert latest == result.stdout.strip() == str(tmp_path / name / f"model.ckpt-{found}")
        np.testing.assert_array_equal(tf.train.load_checkpoint(latest).get_tensor("w"), np.full((20, 10), found))
        assert Path(f"{latest}.meta").read_bytes() == b"graph"
        assert json.loads(run(str(tmp_path / name), "--json").stdout)[0]["latest"]


def test_a_download_overwrites_nothing(run: Run, directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()

    for name in ("mine", "mine/file"):
        result = run(directory.url, "--download", "5", str(tmp_path / name))

        assert result.exit_code == 2
        assert f"{tmp_path}/{name} is there already" in result.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]


def test_a_damaged_checkpoint_is_not_downloaded(run: Run, directory: Directory, tmp_path: Path) -> None:
    flip(directory, "model.ckpt-5.data-00000-of-00001")

    result = run(directory.url, "--download", "5", str(tmp_path / "to" / "copy"))

    assert result.exit_code == 1
    assert f"{directory.url}/model.ckpt-5.data-00000-of-00001 is damaged: tensor w: its checksum" in result.stderr
    assert list((tmp_path / "to").iterdir()) == []


def test_a_step_that_is_not_there_is_told_with_those_that_are(run: Run, directory: Directory, tmp_path: Path) -> None:
    result = run(directory.url, "--download", "6", str(tmp_path / "copy"))

    assert result.exit_code == 1
    assert "There is no checkpoint of step 6; complete ones: [5, 10]" in result.stderr
    assert not (tmp_path / "copy").exists()


def test_a_checkpoint_that_retention_deletes_while_it_is_downloaded_is_none(tmp_path: Path) -> None:
    class Deleting(LocalDirectory):
        def read_into(self, name: str, buffer: memoryview, *, offset: int = 0, tag: str | None = None) -> None:
            self.delete(name)
            super().read_into(name, buffer, offset=offset, tag=tag)

    directory = Deleting(str(tmp_path / "model"), durable=False)
    save(directory, 5)

    with pytest.raises(CheckpointNotFoundError, match="was deleted or replaced while it was downloaded"):
        download_checkpoint(directory, "model.ckpt-5", tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_command_needs_no_tensorflow(tmp_path: Path) -> None:
    save(LocalDirectory(str(tmp_path)), 5)
    source = "import sys; from runner.cli import main; main(sys.argv[1:], standalone_mode=False); print(*sys.modules)"

    output = subprocess.check_output(
        [sys.executable, "-c", source, "checkpoints", str(tmp_path), "--verify"], text=True
    )

    assert "model.ckpt-5" in output
    assert not {"tensorflow", "tf_keras", "keras"} & set(output.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("secs", "text"),
    [
        (-3, "0 s"),
        (59, "59 s"),
        (179.7, "2 min 59 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (3 * 86400 + 4 * 3600, "3 d 4 h"),
    ],
)
def test_a_time_span_is_told_to_two_places(secs: float, text: str) -> None:
    assert time_span(secs) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (4096, "4.0 KiB"), (3 << 29, "1.5 GiB")]
)
def test_a_size_is_told_in_the_largest_unit(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


def test_the_code_that_wrote_a_checkpoint_is_unpacked(run: Run, directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "iris.py").write_text("VERSION = 1")
    snapshot = pack(tmp_path / "code")
    directory.write_bytes(snapshot_name(snapshot.sha256), snapshot.data)
    recorded = Commit.model_validate_json(directory.read_bytes(commit_name("model.ckpt-10")))
    directory.write_bytes(commit_name("model.ckpt-10"), recorded.model_copy(update={"code": snapshot.sha256}).encode())

    result = run(directory.url, "--code", "latest", str(tmp_path / "then"))

    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path}/then: the code that wrote step 10, snapshot {snapshot.sha256[:12]}\n"
    assert (tmp_path / "then" / "iris.py").read_text() == "VERSION = 1"
    again = run(directory.url, "--code", "10", str(tmp_path / "then"))
    assert (again.exit_code, again.stdout) == (2, "")
    assert "is there already" in again.stderr


def test_code_that_is_not_there_is_told(run: Run, directory: Directory, tmp_path: Path) -> None:
    gone, unknown = (run(directory.url, "--code", step, str(tmp_path / "then")) for step in ("5", "7"))

    assert gone.exit_code == 2
    assert f"{CODE}.zip, the code that wrote step 5, is gone" in gone.stderr
    assert unknown.exit_code == 1
    assert "There is no checkpoint of step 7; complete ones: [5, 10]" in unknown.stderr
