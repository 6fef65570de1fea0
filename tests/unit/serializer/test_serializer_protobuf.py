"""Protocol Buffers: classes, required fields, limits, hostile bytes."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport import ConfigurationError, SerializationError, Serializer
from pywebtransport.serializer import ProtobufSerializer


def required_class() -> type[Message]:
    """``message Strict { required int32 id = 1; optional Strict inner = 2; }`` (proto2)."""
    file = descriptor_pb2.FileDescriptorProto(name="strict.proto", package="pywebtransport_test")
    strict = file.message_type.add(name="Strict")
    field = descriptor_pb2.FieldDescriptorProto
    strict.field.add(name="id", number=1, type=field.TYPE_INT32, label=field.LABEL_REQUIRED)
    strict.field.add(
        name="inner",
        number=2,
        type=field.TYPE_MESSAGE,
        type_name=".pywebtransport_test.Strict",
        label=field.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("pywebtransport_test.Strict")
    return message_factory.GetMessageClass(descriptor)


STRICT = required_class()


def test_messages_survive() -> None:
    serializer = ProtobufSerializer(message_class=Struct)
    assert isinstance(serializer, Serializer)
    message = Struct()
    message.update({"a": 1, "b": ["x", None]})
    data = serializer.serialize(obj=message)
    assert data == message.SerializeToString()
    assert serializer.deserialize(data=data) == message
    assert serializer.deserialize(bytearray(data), Struct) == message  # type: ignore[arg-type]


def test_other_classes_are_refused() -> None:
    serializer = ProtobufSerializer(Struct)
    for obj in (Timestamp(), "text", None, Struct):
        with pytest.raises(SerializationError, match="expected a Struct message"):
            serializer.serialize(obj)
    for kind in (Timestamp, dict, 5, Message):
        with pytest.raises(SerializationError, match="as obj_type"):
            serializer.deserialize(b"", kind)


def test_with_the_base_class_each_message_names_its_own() -> None:
    serializer = ProtobufSerializer(Message)
    stamp = Timestamp(seconds=5)
    assert serializer.deserialize(serializer.serialize(stamp), Timestamp) == stamp
    assert serializer.deserialize(serializer.serialize(Struct()), Struct) == Struct()
    with pytest.raises(SerializationError, match="needs obj_type"):
        serializer.deserialize(b"")
    with pytest.raises(SerializationError, match="as obj_type"):
        serializer.deserialize(b"", Message)
    with pytest.raises(SerializationError, match="as obj_type"):
        serializer.deserialize(b"", str)


def test_required_fields_are_required_both_ways() -> None:
    serializer = ProtobufSerializer(STRICT)
    with pytest.raises(SerializationError, match="cannot write Strict") as caught:
        serializer.serialize(STRICT())
    assert caught.value.original_exception is not None
    with pytest.raises(SerializationError, match="required") as caught:
        serializer.deserialize(b"")
    whole = STRICT(id=1)  # type: ignore[call-arg]
    assert serializer.deserialize(serializer.serialize(whole)) == whole
    inner = STRICT(id=1).SerializePartialToString() + b"\x12\x00"  # type: ignore[call-arg]
    with pytest.raises(SerializationError, match=r"required.*inner\.id"):
        serializer.deserialize(inner)


def test_unknown_fields_are_kept() -> None:
    serializer = ProtobufSerializer(Timestamp)
    data = b"\x08\x05\x98\x06\x01"
    assert serializer.serialize(serializer.deserialize(data)) == data


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0a\x05ab",
        b"\x07",
        b"\x00\x00",
        b"\x80" * 11,
        b"\x0b" * 5000,
    ],
    ids=lambda data: data[:6].hex(),
)
def test_malformed_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SerializationError, match="malformed Struct message") as caught:
        ProtobufSerializer(Struct).deserialize(data)
    assert caught.value.original_exception is not None


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(SerializationError):
        ProtobufSerializer(Value).deserialize(b"\x1a\x01\xff")


def test_depth_is_limited_by_the_package() -> None:
    data = b""
    for _ in range(5000):
        length = len(data)
        size = bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14])
        data = b"\x12" + size + data
    with pytest.raises(SerializationError):
        ProtobufSerializer(STRICT).deserialize(b"\x08\x01" + data)


def test_what_nests_deeper_than_can_be_read_is_not_written() -> None:
    serializer = ProtobufSerializer(Value)
    for levels in (20, 50, 51, 150):
        value = inner = Value()
        for _ in range(levels):
            inner = inner.list_value.values.add()
        inner.number_value = 1
        try:
            data = serializer.serialize(value)
        except SerializationError:
            assert levels > 50
        else:
            assert serializer.deserialize(data) == value
            assert levels <= 50


def test_size_is_limited_both_ways() -> None:
    serializer = ProtobufSerializer(Value, max_size=10)
    assert serializer.deserialize(serializer.serialize(Value(string_value="x" * 8)))
    with pytest.raises(SerializationError, match="11 bytes is larger than max_size=10"):
        serializer.serialize(Value(string_value="x" * 9))
    with pytest.raises(SerializationError, match="11 bytes is larger than max_size=10"):
        serializer.deserialize(bytes(11))


@pytest.mark.parametrize("message_class", [str, Struct(), None, "Struct"], ids=repr)
def test_what_is_no_class_of_messages_is_refused(message_class: Any) -> None:
    with pytest.raises(ConfigurationError, match="message_class"):
        ProtobufSerializer(message_class)


def test_impossible_limit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_size"):
        ProtobufSerializer(Struct, max_size=0)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("google.protobuf")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r'pip install "protobuf>=4\.25"'):
        ProtobufSerializer(Struct)


@given(st.binary(), st.sampled_from([Struct, Value, ListValue, Timestamp, STRICT]))
def test_any_bytes_are_read_or_refused(data: bytes, kind: type[Message]) -> None:
    with contextlib.suppress(SerializationError):
        message = ProtobufSerializer(kind).deserialize(data)
        assert isinstance(message, kind)


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.text() | st.integers(0, 99)))
def test_any_struct_survives(value: dict[str, Any]) -> None:
    message = Struct()
    message.update(value)
    serializer = ProtobufSerializer(Struct)
    assert serializer.deserialize(serializer.serialize(message)) == message
