"""Classes that emit events: with members of their own, with ``__slots__``, with a compiled base."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytest

from pywebtransport import (
    EventEmitter,
    WebTransportClient,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.connection import WebTransportConnection
from pywebtransport.datagram import WebTransportDatagramTransport


def listens(emitter: EventEmitter) -> bool:
    emitter.on("a", lambda _: None)
    return emitter.listener_count("a") == 1


@pytest.mark.parametrize(
    "cls",
    [
        WebTransportClient,
        WebTransportConnection,
        WebTransportDatagramTransport,
        WebTransportReceiveStream,
        WebTransportSendStream,
        WebTransportSession,
        WebTransportStream,
    ],
)
def test_classes_of_the_library_are_emitters(cls: type) -> None:
    assert EventEmitter in cls.__mro__
    assert cls.on is EventEmitter.on  # type: ignore[attr-defined]


def test_an_emitter_as_it_is() -> None:
    emitter = EventEmitter(max_listeners=3)
    assert isinstance(emitter, EventEmitter)
    assert not hasattr(emitter, "__dict__")
    assert listens(emitter)


@pytest.mark.parametrize("slots", [(), "name", ("name",), ["name"], ("name", "_emitter")])
def test_slots_of_any_kind(slots: object) -> None:
    small = type("Small", (EventEmitter,), {"__slots__": slots})
    smaller = type("Smaller", (small,), {"__slots__": ("other",)})
    assert not hasattr(small(), "__dict__")
    assert not hasattr(smaller(), "__dict__")
    assert listens(small())
    assert listens(smaller())


def test_further_bases_with_members() -> None:
    class Named:
        __slots__ = ("name",)

        def __init__(self, name: str) -> None:
            self.name = name

    class Both(EventEmitter, Named):
        """Has a dictionary."""

    both = Both("this one")
    assert both.name == "this one"
    assert listens(both)


def test_an_abstract_emitter() -> None:
    class Abstract(EventEmitter, ABC):
        @abstractmethod
        def work(self) -> None: ...

    class Concrete(Abstract):
        def work(self) -> None: ...

    with pytest.raises(TypeError, match="abstract"):
        Abstract()  # type: ignore[abstract]
    assert listens(Concrete())
