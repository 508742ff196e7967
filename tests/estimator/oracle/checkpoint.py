"""Checkpoints compared, and rewritten."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["SLOTS_OF_V1", "assert_same", "drop_tensors", "named_as_here", "reset_slots"]

RTOL, ATOL = 1e-4, 1e-5
"""Between two builds of TensorFlow, of what 20 steps move by 0.02 and more."""

SLOTS_OF_V1 = {
    r"(.+?)/(?:t_0/|part_0/)?Adadelta": r"training/Adadelta/\1/accum_grad",
    r"(.+?)/(?:t_0/|part_0/)?Adadelta_1": r"training/Adadelta/\1/accum_var",
    r"(.+?)/(?:t_0/|part_0/)?Momentum": r"\1/Momentum",
    r"(.+?)/(?:t_0/|part_0/)?Adagrad": r"training/Adagrad/\1/accumulator",
    r"(.+?)/(?:t_0/|part_0/)?Adam": r"training/Adam/\1/m",
    r"(.+?)/(?:t_0/|part_0/)?Adam_1": r"training/Adam/\1/v",
    r"(.+?)/(?:t_0/|part_0/)?Ftrl": r"training/Ftrl/\1/accumulator",
    r"(.+?)/(?:t_0/|part_0/)?Ftrl_1": r"training/Ftrl/\1/linear",
    r"(.+?)/(?:t_0/|part_0/)?RMSProp": r"training/RMSprop/\1/rms",
}
"""Slots of the v1 classes, and what the canned estimators call them here."""


def named_as_here(values: Mapping[str, Any]) -> dict[str, Any]:
    """The model variables, global_step, and the slots that there are here, under our names."""
    named = {}
    two_adams = "dnn/logits/bias/Adam" in values and "linear/linear_model/bias_weights/Adam" in values
    for name, value in values.items():
        matches = [match.expand(ours) for theirs, ours in SLOTS_OF_V1.items() if (match := re.fullmatch(theirs, name))]
        if matches:
            slot = matches[0]
            named[slot.replace("/Adam/linear/", "/Adam_1/linear/") if two_adams else slot] = value
        elif not re.search(r"beta[12]_power|RMSProp_", name):
            named[name] = value
    return named


def assert_same(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Every expected tensor is there, with the same values up to the tolerance."""
    assert expected.keys() <= actual.keys()
    for name, value in expected.items():
        if np.asarray(value).dtype.kind in "US":
            assert list(actual[name]) == list(value), name
        else:
            np.testing.assert_allclose(actual[name], value, rtol=RTOL, atol=ATOL, err_msg=name)


def reset_slots(model_dir: Path) -> None:
    """Rewrites the latest checkpoint with what it would have as slots if there had been no training."""
    prefix, values = _latest(model_dir)
    for name, value in values.items():
        if name.endswith(("/accumulator", "/Adagrad", "/Ftrl")):
            values[name] = np.full_like(value, 0.1)
        elif name.endswith(("/linear", "/m", "/v", "/Ftrl_1", "/Adam", "/Adam_1")):
            values[name] = np.zeros_like(value)
    _write(prefix, values)


def drop_tensors(model_dir: Path, pattern: str) -> None:
    """Rewrites the latest checkpoint without the tensors whose names match."""
    prefix, values = _latest(model_dir)
    _write(prefix, {name: value for name, value in values.items() if not re.fullmatch(pattern, name)})


def _latest(model_dir: Path) -> tuple[str, dict[str, Any]]:
    prefix = tf.train.latest_checkpoint(str(model_dir))
    reader = tf.train.load_checkpoint(prefix)
    return prefix, {name: reader.get_tensor(name) for name in sorted(reader.get_variable_to_shape_map())}


def _write(prefix: str, values: Mapping[str, Any]) -> None:
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=list(values), shape_and_slices=[""] * len(values), tensors=list(values.values())
    )
