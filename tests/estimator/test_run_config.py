import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from runner.estimator.run_config import RunConfig

# Recorded from tf.estimator of TensorFlow 2.15.1.
CASES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "fixtures" / "tf_config_cases.json").read_text()
)
VALID = [name for name, case in CASES.items() if "result" in case]
INVALID = [name for name, case in CASES.items() if "error" in case]

CLUSTER = {"chief": ["h0:1"], "worker": ["h1:1", "h2:1"], "ps": ["p0:1"]}
LOGGED_ORDER = [
    "_model_dir",
    "_tf_random_seed",
    "_save_summary_steps",
    "_save_checkpoints_steps",
    "_save_checkpoints_secs",
    "_session_config",
    "_keep_checkpoint_max",
    "_keep_checkpoint_every_n_hours",
    "_log_step_count_steps",
    "_train_distribute",
    "_device_fn",
    "_protocol",
    "_eval_distribute",
    "_experimental_distribute",
    "_experimental_max_worker_delay_secs",
    "_session_creation_timeout_secs",
    "_checkpoint_save_graph_def",
    "_service",
    "_cluster_spec",
    "_task_type",
    "_task_id",
    "_global_id_in_cluster",
    "_master",
    "_evaluation_master",
    "_is_chief",
    "_num_ps_replicas",
    "_num_worker_replicas",
]

SetTfConfig = Callable[[Any], None]


@pytest.fixture(autouse=True)
def no_tf_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)


@pytest.fixture
def set_tf_config(monkeypatch: pytest.MonkeyPatch) -> SetTfConfig:
    def set_value(value: Any) -> None:
        monkeypatch.setenv("TF_CONFIG", value if isinstance(value, str) else json.dumps(value))

    return set_value


def task(task_type: Any, index: Any, **extra: Any) -> dict[str, Any]:
    return {"cluster": CLUSTER, "task": {"type": task_type, "index": index}, **extra}


def replaced(**kwargs: Any) -> RunConfig:
    return RunConfig().replace(**kwargs)


@pytest.mark.parametrize("name", VALID)
def test_a_valid_tf_config_gives_the_recorded_properties(name: str, set_tf_config: SetTfConfig) -> None:
    case = CASES[name]
    set_tf_config(case["tf_config"])

    config = RunConfig()

    assert {key: getattr(config, key) for key in case["result"]} == case["result"]
    assert config.cluster_spec.as_dict() == case["cluster"]
    assert str(config.session_config) == case["session_config"]


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_tf_config_gives_the_recorded_error(name: str, set_tf_config: SetTfConfig) -> None:
    case = CASES[name]
    set_tf_config(case["tf_config"])
    model_dir = "DIR/otherdir" if name == "env model_dir conflicting" else None

    with pytest.raises((ValueError, TypeError, AttributeError)) as caught:
        RunConfig(model_dir=model_dir)

    assert [type(caught.value).__name__, str(caught.value)] == case["error"]


@pytest.mark.parametrize(
    ("tf_config", "message"),
    [
        ({"model_dir": ""}, "model_dir in TF_CONFIG should be non-empty."),
        ({"service": [1]}, "If \"service\" is set in TF_CONFIG, it must be a dict. Given <class 'list'>"),
        (task("worker", "x"), "invalid literal for int() with base 10: 'x'"),
        (
            {"cluster": {"master": ["a:1"], "worker": ["b:1"]}, "task": {"type": "evaluator", "index": 0}},
            "If `master` node exists in `cluster`, task_type `evaluator` is not supported.",
        ),
        (
            {"cluster": {"master": ["a:1", "b:1"]}, "task": {"type": "master", "index": 0}},
            'The "cluster" in TF_CONFIG must have only one "master" node.',
        ),
        (
            {"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 3}},
            "3 is not a valid task_id for task_type chief in the cluster_spec:\nClusterSpec({'chief': ['a:1']})\n\n"
            "Note that these values may be coming from the TF_CONFIG environment variable.",
        ),
    ],
)
def test_further_invalid_tf_configs_give_the_messages_of_the_original(
    tf_config: dict[str, Any], message: str, set_tf_config: SetTfConfig
) -> None:
    set_tf_config(tf_config)

    with pytest.raises((ValueError, TypeError)) as caught:
        RunConfig()

    assert str(caught.value) == message


def test_a_session_master_does_not_excuse_a_task_that_is_not_in_the_cluster(set_tf_config: SetTfConfig) -> None:
    set_tf_config(task("worker", 7, session_master="grpc://x:1"))

    with pytest.raises(ValueError, match="7 is not a valid task_id for task_type worker"):
        RunConfig()


def test_masters_of_a_local_task_come_from_tf_config(set_tf_config: SetTfConfig) -> None:
    set_tf_config({"session_master": "s", "eval_session_master": "e"})

    config = RunConfig()

    assert (config.master, config.evaluation_master) == ("s", "e")


def test_only_an_evaluator_takes_the_evaluation_master(set_tf_config: SetTfConfig) -> None:
    set_tf_config(task("evaluator", 0, session_master="s", eval_session_master="e"))

    config = RunConfig()

    assert (config.master, config.evaluation_master) == ("", "e")


def test_global_ids_follow_the_names_of_the_task_types_between_chief_and_ps(set_tf_config: SetTfConfig) -> None:
    cluster = {"worker": ["d:1"], "chief": ["a:1"], "aaa": ["b:1", "c:1"]}
    set_tf_config({"cluster": cluster, "task": {"type": "worker", "index": 0}})

    assert RunConfig().global_id_in_cluster == 3


def test_a_sparse_cluster_keeps_the_ids_of_its_tasks(set_tf_config: SetTfConfig) -> None:
    cluster = {"chief": ["a:1"], "worker": {"1": "b:1"}}
    set_tf_config({"cluster": cluster, "task": {"type": "worker", "index": 1}})

    config = RunConfig()

    assert (config.master, config.global_id_in_cluster, config.num_worker_replicas) == ("grpc://b:1", 2, 2)


def test_a_hole_of_a_sparse_cluster_is_no_task(set_tf_config: SetTfConfig) -> None:
    cluster = {"chief": ["a:1"], "worker": {"1": "b:1"}}
    set_tf_config({"cluster": cluster, "task": {"type": "worker", "index": 0}})

    with pytest.raises(ValueError, match=r"^0 is not a valid task_id for task_type worker"):
        RunConfig()


def test_tf_config_and_its_model_dir_are_logged(set_tf_config: SetTfConfig, caplog: pytest.LogCaptureFixture) -> None:
    set_tf_config({"model_dir": "/x"})

    with caplog.at_level(logging.INFO, logger="tensorflow"):
        RunConfig(model_dir="/x")

    assert caplog.messages == [
        "TF_CONFIG environment variable: {'model_dir': '/x'}",
        "Using model_dir in TF_CONFIG: /x",
    ]


def test_nothing_is_logged_without_tf_config(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tensorflow"):
        RunConfig()

    assert caplog.messages == []


@pytest.mark.parametrize("tf_config", ["{}", json.dumps(task("chief", 0)), json.dumps(task("evaluator", 0))])
def test_vars_are_in_the_order_that_is_logged(tf_config: str, set_tf_config: SetTfConfig) -> None:
    set_tf_config(tf_config)

    config = RunConfig(save_checkpoints_steps=10).replace(model_dir="/tmp/x")

    assert list(vars(config)) == LOGGED_ORDER


def test_a_given_session_config_is_kept_in_a_cluster(set_tf_config: SetTfConfig) -> None:
    set_tf_config(task("chief", 0))
    session_config = tf.compat.v1.ConfigProto(log_device_placement=True)

    assert RunConfig(session_config=session_config).session_config == session_config


@pytest.mark.parametrize(
    ("arguments", "schedule"),
    [
        ({}, (None, 600)),
        ({"save_checkpoints_steps": 7}, (7, None)),
        ({"save_checkpoints_steps": 0}, (0, None)),
        ({"save_checkpoints_secs": 7}, (None, 7)),
        ({"save_checkpoints_steps": None}, (None, None)),
        ({"save_checkpoints_secs": None}, (None, None)),
        ({"save_checkpoints_steps": None, "save_checkpoints_secs": 5}, (None, 5)),
    ],
)
def test_one_schedule_excludes_the_other(arguments: dict[str, Any], schedule: tuple[Any, Any]) -> None:
    config = RunConfig(**arguments)

    assert (config.save_checkpoints_steps, config.save_checkpoints_secs) == schedule


@pytest.mark.parametrize(
    ("changes", "schedule"),
    [
        ({"save_checkpoints_steps": 5}, (5, None)),
        ({"save_checkpoints_secs": 5}, (None, 5)),
        ({"save_checkpoints_steps": None}, (None, 600)),
        ({"save_checkpoints_secs": None}, (None, None)),
        ({"save_checkpoints_steps": 4, "save_checkpoints_secs": None}, (4, None)),
    ],
)
def test_replacing_one_schedule_clears_the_other(changes: dict[str, Any], schedule: tuple[Any, Any]) -> None:
    config = RunConfig().replace(**changes)

    assert (config.save_checkpoints_steps, config.save_checkpoints_secs) == schedule


@pytest.mark.parametrize("make", [RunConfig, replaced])
def test_two_schedules_are_refused(make: Callable[..., RunConfig]) -> None:
    with pytest.raises(ValueError, match=r"^`save_checkpoints_steps` and `save_checkpoints_secs` cannot be both set.$"):
        make(save_checkpoints_steps=1, save_checkpoints_secs=1)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("save_summary_steps", -1, "save_summary_steps should be >= 0"),
        ("save_checkpoints_steps", -1, "save_checkpoints_steps should be >= 0"),
        ("save_checkpoints_secs", -1, "save_checkpoints_secs should be >= 0"),
        ("session_config", 1, "session_config must be instance of ConfigProto"),
        ("keep_checkpoint_max", -1, "keep_checkpoint_max should be >= 0"),
        ("keep_checkpoint_every_n_hours", 0, "keep_checkpoint_every_n_hours should be > 0"),
        ("log_step_count_steps", 0, "log_step_count_steps should be > 0"),
        ("tf_random_seed", 1.0, "tf_random_seed must be integer."),
        ("experimental_max_worker_delay_secs", 1.5, "experimental_max_worker_delay_secs must be an integer if set."),
        ("session_creation_timeout_secs", 0, "session_creation_timeout_secs should be > 0"),
        ("device_fn", "/cpu:0", 'device_fn must be callable with exactly one argument "op".'),
        ("device_fn", lambda node: node, 'device_fn must be callable with exactly one argument "op".'),
        ("device_fn", lambda op, other: (op, other), 'device_fn must be callable with exactly one argument "op".'),
        ("protocol", "http", "protocol should be grpc or grpc+verbs"),
    ],
)
@pytest.mark.parametrize("make", [RunConfig, replaced])
def test_a_bad_value_gives_the_message_of_the_original(
    make: Callable[..., RunConfig], name: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011, the whole message is compared
        make(**{name: value})

    assert str(caught.value) == message


@pytest.mark.parametrize(
    "name",
    [
        "save_summary_steps",
        "keep_checkpoint_max",
        "keep_checkpoint_every_n_hours",
        "log_step_count_steps",
        "session_creation_timeout_secs",
    ],
)
def test_none_switches_a_setting_off(name: str) -> None:
    arguments: dict[str, Any] = {name: None}

    assert getattr(RunConfig(**arguments), name) is None


def test_an_empty_model_dir_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^model_dir should be non-empty.$"):
        RunConfig(model_dir="")


def test_a_path_becomes_the_string_that_it_names() -> None:
    config = RunConfig(model_dir=Path("/a"))

    assert config.model_dir == "/a"
    assert config.replace(model_dir=Path("/b")).model_dir == "/b"


def test_a_device_fn_may_have_bound_its_other_arguments() -> None:
    def device_fn(op: Any, device: str) -> str:
        return f"{device}:{op}"

    bound = functools.partial(device_fn, device="/cpu:0")

    assert RunConfig(device_fn=bound).device_fn is bound


def test_only_listed_properties_are_replaced() -> None:
    with pytest.raises(
        ValueError, match=r"^Replacing task_id is not supported. Allowed properties are \['model_dir', "
    ):
        RunConfig().replace(task_id=1)


def test_replace_leaves_the_original_as_it_was() -> None:
    config = RunConfig(session_config=tf.compat.v1.ConfigProto())

    config.replace(model_dir="/x").session_config.log_device_placement = True

    assert config.model_dir is None
    assert not config.session_config.log_device_placement


def test_arguments_may_be_positional_as_in_the_original() -> None:
    config = RunConfig("/d", 1, 2)

    assert (config.model_dir, config.tf_random_seed, config.save_summary_steps) == ("/d", 1, 2)


def test_strategies_are_stored() -> None:
    config = RunConfig(train_distribute="train", eval_distribute="eval")

    assert (config.train_distribute, config.eval_distribute) == ("train", "eval")


def test_experimental_distribute_stands_for_both_strategies() -> None:
    config = RunConfig(experimental_distribute=SimpleNamespace(train_distribute="train", eval_distribute="eval"))

    assert (config.train_distribute, config.eval_distribute) == ("train", "eval")


def test_a_strategy_is_given_in_one_way_only() -> None:
    both = SimpleNamespace(train_distribute="train", eval_distribute=None)

    with pytest.raises(ValueError, match=r"Either `train_distribute` or`experimental_distribute.train_distribute` can"):
        RunConfig(train_distribute="other", experimental_distribute=both)
