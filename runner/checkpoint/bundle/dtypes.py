"""The dtypes that a bundle stores: their numbers in its protos, and what numpy calls them.

Numbers and names are those of tensorflow/core/framework/types.proto and of tf.DType.name.
"""

from functools import cache

import ml_dtypes
import numpy as np

__all__ = ["STRING", "VARIANT", "dtype_name", "dtype_number", "item_size_bytes", "numpy_dtype"]

STRING = "string"
"""The one readable dtype whose elements differ in size: arrays of `bytes` objects."""

VARIANT = "variant"
"""Objects of C++, such as the state of an iterator: only TensorFlow reads and writes them."""

_NUMBERS = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, STRING: 7, "complex64": 8, "int64": 9,
    "bool": 10, "qint8": 11, "quint8": 12, "qint32": 13, "bfloat16": 14, "qint16": 15, "quint16": 16, "uint16": 17,
    "complex128": 18, "float16": 19, VARIANT: 21, "uint32": 22, "uint64": 23, "float8_e5m2": 24, "float8_e4m3fn": 25,
    "float8_e4m3fnuz": 26, "float8_e4m3b11fnuz": 27, "float8_e5m2fnuz": 28, "int4": 29, "uint4": 30, "int2": 31,
    "uint2": 32, "float4_e2m1fn": 33,
}  # fmt: skip
_NAMES = {number: name for name, number in _NUMBERS.items()}
_UNKNOWN = "dtype "


def dtype_number(name: str) -> int:
    """The number in the protos of the dtype with that name.

    Raises:
        ValueError: There is no such dtype.
    """
    if name in _NUMBERS:
        return _NUMBERS[name]
    if name.removeprefix(_UNKNOWN).isdecimal():
        return int(name.removeprefix(_UNKNOWN))
    raise ValueError(f"dtype {name!r} is not one that a checkpoint stores: {', '.join(sorted(_NUMBERS))}.")


def dtype_name(number: int) -> str:
    """The name of the dtype with that number; `dtype <number>` for one of a later TensorFlow."""
    return _NAMES.get(number, f"{_UNKNOWN}{number}")


@cache
def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """What TensorFlow takes as a numpy array of that dtype; object for strings.

    Raises:
        ValueError: There is no such dtype, or no array can have it.
    """
    if name == STRING:
        return np.dtype(object)
    if name == VARIANT or name not in _NUMBERS:
        readable = ", ".join(sorted(_NUMBERS.keys() - {VARIANT}))
        raise ValueError(f"Tensors of dtype {name!r} are no arrays. Those of these are: {readable}.")
    if name.startswith(("qint", "quint")):  # a structure of one field is how TensorFlow tells them from integers
        return np.dtype([(name, np.dtype(name[1:]))])
    return np.dtype(getattr(ml_dtypes, name, name))


def item_size_bytes(name: str) -> int | None:
    """Size of one stored element; None where elements differ in size, or the dtype is not known."""
    return None if name in {STRING, VARIANT} or name not in _NUMBERS else numpy_dtype(name).itemsize
