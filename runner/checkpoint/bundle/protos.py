"""The messages in a bundle's index, as tensorflow/core/protobuf/tensor_bundle.proto defines them.

They are built in a pool of their own: TensorFlow, where it is loaded too, registers its own under the same names.
"""

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

__all__ = ["entry_message", "header_message"]

_PACKAGE = "runner.bundle"
_Field = descriptor_pb2.FieldDescriptorProto
_INT32, _INT64, _FIXED32, _BYTES = _Field.TYPE_INT32, _Field.TYPE_INT64, _Field.TYPE_FIXED32, _Field.TYPE_BYTES
_BOOL = _Field.TYPE_BOOL

# Message -> field -> number and type; a message's name as the type, in a list if repeated. Enums are read as integers.
_MESSAGES: dict[str, dict[str, tuple[int, Any]]] = {
    "Dim": {"size": (1, _INT64)},
    "Shape": {"dim": (2, ["Dim"]), "unknown_rank": (3, _BOOL)},
    "Extent": {"start": (1, _INT64), "length": (2, _INT64)},
    "Slice": {"extent": (1, ["Extent"])},
    "Version": {"producer": (1, _INT32), "min_consumer": (2, _INT32), "bad_consumers": (3, [_INT32])},
    # TensorFlow has no field 1000 and skips it: there we put what makes the bytes of every index unlike all others.
    "Header": {
        "num_shards": (1, _INT32), "endianness": (2, _INT32), "version": (3, "Version"), "nonce": (1000, _BYTES),
    },
    "Entry": {
        "dtype": (1, _INT32), "shape": (2, "Shape"), "shard_id": (3, _INT32), "offset": (4, _INT64),
        "size": (5, _INT64), "crc32c": (6, _FIXED32), "slices": (7, ["Slice"]),
    },
}  # fmt: skip


def header_message() -> Any:
    """A new, empty BundleHeaderProto: the value of the key "" of an index."""
    return _classes()["Header"]()


def entry_message() -> Any:
    """A new, empty BundleEntryProto: the value of every other key."""
    return _classes()["Entry"]()


@cache
def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="runner/bundle.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


def _add_field(message: Any, name: str, number: int, kind: Any) -> None:
    label = _Field.LABEL_REPEATED if isinstance(kind, list) else _Field.LABEL_OPTIONAL
    kind = kind[0] if isinstance(kind, list) else kind
    field = message.field.add(name=name, number=number, label=label)
    if isinstance(kind, str):
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = kind
    if name == "length":  # a member of a oneof, so that 0 differs from nothing
        message.oneof_decl.add(name="has_length")
        field.oneof_index = 0
