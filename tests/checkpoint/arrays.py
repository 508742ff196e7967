"""Arrays of all dtypes that a checkpoint stores."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from runner.checkpoint.bundle.dtypes import STRING, VARIANT, dtype_name, numpy_dtype

Arrays = Mapping[str, np.ndarray[Any, Any]]
DTYPES = [
    name for name in map(dtype_name, range(64)) if not name.startswith("dtype ") and name not in {STRING, VARIANT}
]  # fmt: skip
LESS_THAN_A_BYTE = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4_e2m1fn": 4}


def dtype_of(array: np.ndarray[Any, Any]) -> str:
    """The name of an array's dtype as TensorFlow has it."""
    if array.dtype == object:
        return STRING
    return array.dtype.names[0] if array.dtype.names else array.dtype.name


def random_array(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    """Random bytes as an array of that dtype."""
    size = int(np.prod(shape)) * numpy_dtype(dtype).itemsize
    data = np.frombuffer(random.Random(seed).randbytes(size), np.uint8)
    if dtype == "bool":
        data = data % 2
    if bits := LESS_THAN_A_BYTE.get(dtype):
        data = data % (1 << bits)
    return data.view(numpy_dtype(dtype)).reshape(shape)


def content(value: Any) -> list[bytes] | bytes:
    """What tells two arrays apart, NaNs included."""
    array = np.asarray(value, object if isinstance(value, bytes) else None)
    return list(array.reshape(-1)) if array.dtype == object else array.tobytes()


def names() -> st.SearchStrategy[str]:
    plain = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
    # A long common beginning is what the prefix compression of the index is for.
    return st.one_of(plain, plain.map(lambda name: "dense/kernel/" * 20 + name))


def arrays() -> st.SearchStrategy[np.ndarray[Any, Any]]:
    shapes = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
    dense = st.builds(random_array, st.sampled_from(DTYPES), shapes, st.integers(0, 2**32))
    strings = npst.arrays(object, shapes, elements=st.binary(max_size=300), fill=st.nothing())
    return dense | strings


def bundles() -> st.SearchStrategy[dict[str, np.ndarray[Any, Any]]]:
    return st.dictionaries(names(), arrays(), min_size=1, max_size=12)
