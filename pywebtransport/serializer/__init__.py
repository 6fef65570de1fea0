"""Serializers: objects to bytes and back, within limits, for messages from strangers."""

from .json import JSONSerializer
from .msgpack import MsgPackSerializer
from .protobuf import ProtobufSerializer

__all__ = ["JSONSerializer", "MsgPackSerializer", "ProtobufSerializer"]
