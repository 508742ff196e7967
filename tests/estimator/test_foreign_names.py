"""Names of the v1 classes are found under the names that our models want, for every recorded pair of the two."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import tensorflow as tf

from runner.checkpoint.compatibility import TensorSpecs
from runner.checkpoint.foreign import find_foreign_names

SCHEMA = json.loads((Path(__file__).parent.parent / "fixtures" / "schema.json").read_text())


def specs(*names: str, shapes: Mapping[str, Sequence[int]] | None = None) -> TensorSpecs:
    return {name: tf.TensorSpec((shapes or {}).get(name, []), tf.float32, name=name) for name in names}


def recorded(key: str) -> TensorSpecs:
    return {name: tf.TensorSpec(shape, dtype, name=name) for name, shape, dtype in SCHEMA[key]["vars"]}


PAIRS = sorted(
    key.removeprefix("v1.") for key in SCHEMA if key.startswith("v1.") and key.replace("v1.", "v2.", 1) in SCHEMA
)


@pytest.mark.parametrize("pair", PAIRS)
def test_every_tensor_of_a_v2_class_is_found_in_a_checkpoint_of_the_v1_class(pair: str) -> None:
    wanted, stored = recorded(f"v2.{pair}"), recorded(f"v1.{pair}")

    names = find_foreign_names(wanted, stored)

    translated = names.translate(wanted, stored)
    assert {name: (spec.shape, spec.dtype) for name, spec in translated.items()} == {
        name: (spec.shape, spec.dtype) for name, spec in wanted.items()
    }
    assert all(stored[source].shape == wanted[name].shape for name, source in names.sources.items())
    assert all(wanted[name].shape == [] for name in names.initial)
    assert len({*names.sources.values()}) == len(names.sources)
    assert not any(name.endswith(("/accumulator", "/linear", "/m", "/v", "/rms")) for name in names.initial)


def test_there_are_pairs_of_every_family_and_optimizer() -> None:
    for part in (
        "DNNClassifier_3",
        "DNNRegressor",
        "LinearClassifier",
        "DNNLinearCombined",
        "Adam",
        "RMSProp",
        "SGD",
        "Ftrl",
    ):
        assert any(part in pair for pair in PAIRS)


@pytest.mark.parametrize("key", [key for key in SCHEMA if key.startswith("v2.")])
def test_a_checkpoint_of_the_same_class_needs_no_other_names(key: str) -> None:
    assert not find_foreign_names(recorded(key), recorded(key))


@pytest.mark.parametrize("lost", ["training/Adagrad/learning_rate", "training/Adagrad/dnn/logits/bias/accumulator"])
def test_what_a_checkpoint_of_tf_keras_lacks_is_not_made_up(lost: str) -> None:
    wanted = recorded("v2.DNNClassifier_3")

    names = find_foreign_names(wanted, {name: spec for name, spec in wanted.items() if name != lost})

    assert not names


def test_a_table_that_was_never_trained_begins_with_new_slots() -> None:
    stored = specs("a_b_shared_embedding", "dnn/w", "training/Adam/decay", "training/Adam/dnn/w/m")
    slots = specs("training/Adam/a_b_shared_embedding/m", "training/Adam/a_b_shared_embedding/v")

    names = find_foreign_names({**stored, **slots}, stored)

    assert names.initial == slots.keys()
    assert not names.sources


@pytest.mark.parametrize(
    "stored",
    [
        ("training/Adam/decay", "training/Adam/dnn/w/m"),
        ("table", "training/Adam/decay"),
        ("table", "training/Adagrad/decay", "training/Adagrad/dnn/w/accumulator"),
        ("table", "training/Adam/decay", "training/Adam/dnn/w/m", "training/Adam/table/v"),
    ],
    ids=["no table", "no slots at all", "slots of another optimizer", "half of its slots"],
)
def test_slots_that_are_missing_for_another_reason_stay_missing(stored: tuple[str, ...]) -> None:
    wanted = specs("table", "training/Adam/table/m")

    assert not find_foreign_names(wanted, specs(*stored))


def test_evaluation_wants_no_slots_and_no_other_names() -> None:
    stored = recorded("v1.DNNClassifier_3")
    wanted = {name: spec for name, spec in stored.items() if not name.endswith("/Adagrad")}

    assert not find_foreign_names(wanted, stored)


def test_an_optimizer_of_v1_here_lacks_only_the_name_of_the_part_and_the_scope_of_the_powers() -> None:
    stored = specs("a/w", "a/w/t_0/Adam", "a/w/t_0/Adam_1", "a/head/beta1_power", "a/head/beta2_power")
    wanted = specs("a/w", "a/w/Adam", "a/w/Adam_1", "beta1_power", "beta2_power")

    assert find_foreign_names(wanted, stored).sources == {
        "a/w/Adam": "a/w/t_0/Adam",
        "a/w/Adam_1": "a/w/t_0/Adam_1",
        "beta1_power": "a/head/beta1_power",
        "beta2_power": "a/head/beta2_power",
    }


def test_two_adams_keep_their_powers_apart() -> None:
    stored = specs("w", "w/Adam", "head/beta1_power", "head/beta1_power_1")

    names = find_foreign_names(specs("w", "w/Adam", "training/beta1_power", "training/beta1_power_1"), stored)

    assert names.sources == {
        "training/beta1_power": "head/beta1_power",
        "training/beta1_power_1": "head/beta1_power_1",
    }


@pytest.mark.parametrize("scope", ["Adagrad", "training/Adagrad", "training_2/Adagrad", "training/Adagrad_1"])
def test_the_scope_and_the_number_of_the_optimizer_do_not_matter(scope: str) -> None:
    wanted = specs("w", "global_step", f"{scope}/w/accumulator", f"{scope}/decay", f"{scope}/iter")

    names = find_foreign_names(wanted, specs("w", "global_step", "w/t_0/Adagrad"))

    assert names.sources == {f"{scope}/w/accumulator": "w/t_0/Adagrad", f"{scope}/iter": "global_step"}
    assert names.initial == {f"{scope}/decay"}


def test_a_centered_rmsprop_has_its_momentum_last() -> None:
    stored = specs("w", "w/RMSProp", "w/RMSProp_1", "w/RMSProp_2")

    names = find_foreign_names(specs("w", *(f"RMSprop/w/{slot}" for slot in ("rms", "mg", "momentum"))), stored)

    assert names.sources == {
        "RMSprop/w/rms": "w/RMSProp",
        "RMSprop/w/mg": "w/RMSProp_1",
        "RMSprop/w/momentum": "w/RMSProp_2",
    }


def test_the_pieces_of_a_variable_in_several_parts_are_not_taken_for_the_whole() -> None:
    stored = specs("linear/w", "linear/w/part_0/Ftrl", "linear/w/part_1/Ftrl")

    assert not find_foreign_names(specs("linear/w", "linear/w/Ftrl"), stored)


def test_the_momentum_of_v1_is_not_that_of_tf_keras_which_has_the_learning_rate_in_it() -> None:
    wanted = specs("w", "training/SGD/w/momentum", "training/SGD/momentum")

    names = find_foreign_names(wanted, specs("w", "w/t_0/Momentum"))

    assert names.sources == {}
    assert names.initial == {"training/SGD/momentum"}


def test_variables_that_look_like_slots_of_others_are_left_alone() -> None:
    stored = specs("a", "a/b/Adam", "c/Adam")

    assert not find_foreign_names(specs("a", "a/Adam", "c"), stored)
