"""Whether a checkpoint fits a model: compared by name, shape and dtype before anything is assigned.

TensorFlow's Saver does not compare the shapes of resource variables, so that a model of another size would silently run
with the weights of the old one.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from runner.checkpoint.bundle.reader import BundleReader
from runner.checkpoint.origin import describe_origin

__all__ = ["TensorSpecs", "check_compatible", "stored_tensors", "wanted_tensors", "wanted_variables"]

_logger = logging.getLogger("tensorflow")

TensorSpecs = Mapping[str, tf.TensorSpec]
"""Name in the checkpoint -> shape and dtype; an unknown shape fits every one."""


@dataclass(frozen=True)
class _Difference:
    misfits: list[str]
    missing: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        parts = {
            "Tensors of another shape or dtype": self.misfits,
            "Tensors missing from the checkpoint": self.missing,
            "Unexpected tensors in the checkpoint": self.unexpected,
        }
        return "\n".join(
            f"{title}:\n" + "\n".join(f"  {line}" for line in lines) for title, lines in parts.items() if lines
        )


def wanted_tensors(saver: Any) -> TensorSpecs:
    """What a built tf.compat.v1.train.Saver restores."""
    return {spec.name: spec for name, variable in _named(saver) for spec in _specs(name, variable)}


def wanted_variables(saver: Any) -> Mapping[str, Any]:
    """The variables that a built Saver restores, by their names in the checkpoint.

    Those that make up a tensor only together, and what is no variable, such as a table, are left out.
    """
    return {
        spec.name: variable
        for name, variable in _named(saver)
        if isinstance(variable, tf.Variable)
        for spec in _specs(name, variable)
        if spec.shape.is_compatible_with(variable.shape)
    }


def _named(saver: Any) -> Iterable[tuple[str | None, Any]]:
    variables = saver._var_list  # noqa: SLF001 - the Saver has no public way to tell
    return variables.items() if isinstance(variables, dict) else [(None, variable) for variable in variables or ()]


def _specs(name: str | None, variable: Any) -> Iterator[tf.TensorSpec]:
    if hasattr(variable, "specs"):  # a SaveableObject, such as a table or an iterator
        for spec in variable.specs:
            # To ask for the tensor itself may add an operation to the graph, which is finished by then.
            tensor = spec._tensor  # noqa: SLF001
            shape = getattr(variable, "_var_shape", None) if callable(tensor) else tensor.shape
            yield tf.TensorSpec(shape, spec.dtype, name=spec.name)
    elif isinstance(variable, (list, tuple)) or hasattr(variable, "_get_partitions"):
        for part in variable:
            yield from _specs(name, part)
    elif (part := getattr(variable, "_save_slice_info", None)) is not None:
        yield tf.TensorSpec(part.full_shape, variable.dtype.base_dtype, name=name or part.full_name)
    else:
        yield tf.TensorSpec(variable.shape, variable.dtype.base_dtype, name=name or variable.op.name)


def stored_tensors(reader: BundleReader) -> TensorSpecs:
    """What a checkpoint holds, by its index."""
    return {
        name: tf.TensorSpec(entry.shape, tf.as_dtype(entry.dtype), name=name) for name, entry in reader.entries.items()
    }


def check_compatible(prefix: str, *, wanted: TensorSpecs, stored: TensorSpecs, training: bool) -> None:
    """Compares a checkpoint with what a model wants, and changes nothing.

    Args:
        prefix: The checkpoint, for the messages.
        wanted: See `wanted_tensors`.
        stored: See `stored_tensors`; under the names that the model wants.
        training: Tensors that the model does not want are worth one warning; otherwise they are the rule, since only
            training has slots.

    Raises:
        tf.errors.InvalidArgumentError: A tensor has another shape or dtype; the message lists all differences.
        tf.errors.NotFoundError: Tensors are missing, and nothing else is wrong; likewise.
    """
    difference = _compare(wanted, stored)
    if difference.misfits:
        first = difference.misfits[0]
        raise tf.errors.InvalidArgumentError(None, None, f"{first}\n{difference}{_advice(prefix)}")
    if difference.missing:
        first = f"Key {difference.missing[0].split()[0]} not found in checkpoint"
        raise tf.errors.NotFoundError(None, None, f"{first}\n{difference}{_advice(prefix)}")
    if difference.unexpected and training:
        _logger.warning("%s\nThey are not restored, and not saved again. Checkpoint: %s", difference, prefix)


def _advice(prefix: str) -> str:
    advice = (
        f"Checkpoint: {prefix}. The model is not the one that wrote it: use the code and the parameters that did, or "
        "another model_dir."
    )
    return "\n" + " ".join(filter(None, (advice, describe_origin(prefix))))


def _compare(wanted: TensorSpecs, stored: TensorSpecs) -> _Difference:
    both = sorted(wanted.keys() & stored.keys())
    misfits = [_misfit(wanted[name], stored[name]) for name in both if not _fits(wanted[name], stored[name])]
    missing = [_describe(wanted[name]) for name in sorted(wanted.keys() - stored.keys())]
    unexpected = [_describe(stored[name]) for name in sorted(stored.keys() - wanted.keys())]
    return _Difference(misfits, missing, unexpected)


def _fits(wanted: tf.TensorSpec, stored: tf.TensorSpec) -> bool:
    return wanted.dtype == stored.dtype and wanted.shape.is_compatible_with(stored.shape)


def _misfit(wanted: tf.TensorSpec, stored: tf.TensorSpec) -> str:
    if wanted.shape.is_compatible_with(stored.shape):
        dtypes = f"expected dtype {wanted.dtype.name} does not equal original dtype {stored.dtype.name}"
        return f"tensor_name = {wanted.name}; {dtypes}"
    return (
        f"tensor_name = {wanted.name}; shape in shape_and_slice spec {_shape(wanted)} "
        f"does not match the shape stored in checkpoint: {_shape(stored)}"
    )


def _describe(spec: tf.TensorSpec) -> str:
    return f"{spec.name} {spec.dtype.name} {_shape(spec)}"


def _shape(spec: tf.TensorSpec) -> str:
    # As the C++ side writes it: [3,4], without blanks.
    return str(spec.shape).replace("(", "[").replace(",)", "]").replace(")", "]").replace(" ", "")
