"""Serializers convert objects to bytes and back, with limits for untrusted messages."""

from .json import JSONSerializer
from .msgpack import MsgPackSerializer
from .protobuf import ProtobufSerializer

__all__ = ["JSONSerializer", "MsgPackSerializer", "ProtobufSerializer"]
