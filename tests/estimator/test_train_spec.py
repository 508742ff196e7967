import functools
from typing import Any

import pytest
import tensorflow as tf

from runner.estimator.train_spec import EvalSpec, TrainSpec


def input_fn() -> None:
    """Never called here."""


class NamedExporter:
    def __init__(self, name: str | None) -> None:
        self.name = name

    def export(self) -> None:
        """Never called here."""


def test_train_spec_defaults_are_those_of_the_original() -> None:
    spec = TrainSpec(input_fn)

    assert spec._asdict() == {"input_fn": input_fn, "max_steps": None, "hooks": (), "saving_listeners": ()}


def test_eval_spec_defaults_are_those_of_the_original() -> None:
    spec = EvalSpec(input_fn)

    assert spec._asdict() == {
        "input_fn": input_fn,
        "steps": 100,
        "name": None,
        "hooks": (),
        "exporters": (),
        "start_delay_secs": 120,
        "throttle_secs": 600,
    }


@pytest.mark.parametrize("steps", [0, -1])
def test_max_steps_must_be_positive(steps: int) -> None:
    with pytest.raises(ValueError, match=f"^Must specify max_steps > 0, given: {steps}$"):
        TrainSpec(input_fn, max_steps=steps)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", 0, "Must specify steps > 0, given: 0"),
        ("start_delay_secs", -1, "Must specify start_delay_secs >= 0, given: -1"),
        ("throttle_secs", -1, "Must specify throttle_secs >= 0, given: -1"),
    ],
)
def test_numbers_of_an_evaluation_must_be_in_range(field: str, value: int, message: str) -> None:
    arguments: dict[str, Any] = {field: value}

    with pytest.raises(ValueError, match=f"^{message}$"):
        EvalSpec(input_fn, **arguments)


def test_an_evaluation_may_take_all_of_its_input_without_a_pause() -> None:
    spec = EvalSpec(input_fn, steps=None, start_delay_secs=0, throttle_secs=0)

    assert (spec.steps, spec.start_delay_secs, spec.throttle_secs) == (None, 0, 0)


@pytest.mark.parametrize("spec", [TrainSpec, EvalSpec])
def test_input_fn_must_be_callable(spec: Any) -> None:
    with pytest.raises(TypeError, match=r"^`input_fn` must be callable, given: 3$"):
        spec(3)


@pytest.mark.parametrize("spec", [TrainSpec, EvalSpec])
def test_hooks_must_be_session_run_hooks(spec: Any) -> None:
    with pytest.raises(TypeError, match=r"^All hooks must be `SessionRunHook` instances, given: 2$"):
        spec(input_fn, hooks=[2])


@pytest.mark.parametrize("spec", [TrainSpec, EvalSpec])
def test_a_partial_function_and_an_iterator_of_hooks_are_accepted(spec: Any) -> None:
    hook = tf.compat.v1.train.SessionRunHook()

    assert spec(functools.partial(input_fn), hooks=iter([hook])).hooks == (hook,)


def test_saving_listeners_must_be_listeners() -> None:
    with pytest.raises(
        TypeError, match=r"^All saving_listeners must be `CheckpointSaverListener` instances, given: 3$"
    ):
        TrainSpec(input_fn, saving_listeners=[3])


def test_saving_listeners_become_a_tuple() -> None:
    listener = tf.compat.v1.train.CheckpointSaverListener()

    assert TrainSpec(input_fn, saving_listeners=[listener]).saving_listeners == (listener,)


def test_the_name_of_an_evaluation_is_a_string() -> None:
    name: Any = 3

    with pytest.raises(TypeError, match=r"^`name` must be string, given: 3$"):
        EvalSpec(input_fn, name=name)


@pytest.mark.parametrize("name", ["test", "", None])
def test_an_evaluation_may_have_a_name(name: str | None) -> None:
    assert EvalSpec(input_fn, name=name).name == name


def test_one_exporter_or_any_iterable_of_them_is_accepted() -> None:
    exporter = NamedExporter("a")

    assert EvalSpec(input_fn, exporters=exporter).exporters == (exporter,)
    assert EvalSpec(input_fn, exporters=iter([exporter])).exporters == (exporter,)


@pytest.mark.parametrize("exporters", [3, "ab", [3]])
def test_what_cannot_export_is_no_exporter(exporters: Any) -> None:
    with pytest.raises(TypeError) as caught:
        EvalSpec(input_fn, exporters=exporters)

    assert str(caught.value) == (
        f"`exporters` must be an Exporter, an iterable of Exporter, or `None`, found {exporters}."
    )


@pytest.mark.parametrize("name", [None, ""])
def test_an_exporter_needs_a_name(name: str | None) -> None:
    with pytest.raises(
        ValueError, match=r"^An Exporter cannot have a name that is `None` or empty. All exporter names: "
    ):
        EvalSpec(input_fn, exporters=[NamedExporter(name)])


def test_exporters_have_different_names() -> None:
    with pytest.raises(ValueError, match=r"^`exporters` must have unique names. .* All exporter names: \['a', 'a'\]$"):
        EvalSpec(input_fn, exporters=[NamedExporter("a"), NamedExporter("a")])
