"""The registry of message types."""

from __future__ import annotations

from typing import Any

import pytest

from pywebtransport import ConfigurationError, SerializationError
from pywebtransport.serializer import JSONSerializer
from pywebtransport.serializer._messages import MessageCodec
from tests.support.messages import Item, Order


def test_objects_become_type_ids_and_payloads_and_back() -> None:
    codec = MessageCodec(JSONSerializer(), {0: Item, 65535: Order, 7: dict})
    for type_id, obj in ((0, Item("i", 1.0)), (65535, Order(1, "c")), (7, {"a": 1})):
        number, payload = codec.encode(obj)
        assert number == type_id
        assert codec.decode(number, payload) == obj
        assert codec.knows(number)
    assert not codec.knows(1)


def test_the_registry_is_copied() -> None:
    registry: dict[int, type[Any]] = {0: Item}
    codec = MessageCodec(JSONSerializer(), registry)
    registry[1] = Order
    with pytest.raises(SerializationError, match="Order is not in the registry, which has Item"):
        codec.encode(Order(1, "c"))


def test_a_derived_class_is_another_class() -> None:
    class Special(Item):
        pass

    with pytest.raises(SerializationError, match="Special is not in the registry"):
        MessageCodec(JSONSerializer(), {0: Item}).encode(Special("s"))
    with pytest.raises(SerializationError, match="no class"):
        MessageCodec(JSONSerializer(), {}).encode(1)


def test_what_does_not_decode_names_the_type_id() -> None:
    codec = MessageCodec(JSONSerializer(), {3: Item})
    with pytest.raises(SerializationError, match=r"no type ID 4 \(message of 2 bytes\)") as caught:
        codec.decode(4, b"{}")
    assert caught.value.details["type_id"] == 4
    with pytest.raises(SerializationError, match="missing field name") as caught:
        codec.decode(3, b"{}")
    assert caught.value.details == {"path": "Item", "type_id": 3}


@pytest.mark.parametrize(
    ("registry", "words"),
    [
        ({-1: Item}, "type ID -1, not 0 to 65535"),
        ({65536: Item}, "type ID 65536"),
        ({True: Item}, "type ID True"),
        ({"1": Item}, "type ID '1'"),
        ({1: Item("i")}, "a class for type ID 1"),
        ({1: "Item"}, "a class for type ID 1"),
        ({1: Item, 2: Item}, "Item twice, as 1 and 2"),
        ([Item], "must map type IDs to classes"),
        (None, "must map type IDs to classes"),
    ],
    ids=str,
)
def test_wrong_registries_are_refused(registry: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        MessageCodec(JSONSerializer(), registry)
    assert caught.value.config_key == "registry"


def test_what_is_no_serializer_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="serializer must have serialize"):
        MessageCodec(object(), {})  # type: ignore[arg-type]


class Faulty:
    """A serializer of an application, with errors of its own."""

    def serialize(self, *, obj: Any) -> bytes:
        raise LookupError("no rule")

    def deserialize(self, *, data: bytes, obj_type: Any = None) -> Any:
        raise IndexError("too short")


def test_errors_of_a_serializer_become_serialization_errors() -> None:
    codec = MessageCodec(Faulty(), {3: Item})
    with pytest.raises(SerializationError, match="cannot serialize Item: no rule") as caught:
        codec.encode(Item("i"))
    assert isinstance(caught.value.original_exception, LookupError)
    with pytest.raises(SerializationError, match="cannot deserialize Item: too short") as caught:
        codec.decode(3, b"")
    assert isinstance(caught.value.original_exception, IndexError)
    assert caught.value.details["type_id"] == 3
