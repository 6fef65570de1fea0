"""Events: emitters, the bus, handlers, history, and the events of a session."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport import Event, EventEmitter, EventType, TimeoutError, WebTransportError
from pywebtransport.events import (
    EventBus,
    create_event_bus,
    create_event_emitter,
    event_handler,
)
from pywebtransport.types import EventEmitterProtocol
from tests.support.endpoints import PairOfSessions


async def test_an_emitter_tells_its_listeners() -> None:
    emitter = create_event_emitter(max_listeners=10)
    heard: list[Any] = []

    async def on_order(event: Event) -> None:
        heard.append(("order", event.data))

    async def on_first(event: Event) -> None:
        heard.append(("first", event.data))

    async def on_all(event: Event) -> None:
        heard.append(("any", event.type))

    emitter.set_max_listeners(max_listeners=5)
    emitter.on(event_type="order", handler=on_order)
    emitter.once(event_type="order", handler=on_first)
    emitter.on_any(handler=on_all)
    assert emitter.listener_count(event_type="order") == 2
    assert on_order in emitter.listeners(event_type="order")
    await emitter.emit(event_type="order", data=1, source="shop")
    await emitter.emit(event_type="order", data=2)
    assert sorted(heard, key=str) == sorted(
        [("order", 1), ("first", 1), ("any", "order"), ("order", 2), ("any", "order")], key=str
    )
    assert [event.data for event in emitter.get_event_history(event_type="order")] == [1, 2]
    assert len(emitter.get_event_history(limit=1)) == 1
    emitter.clear_history()
    assert emitter.get_event_history() == []
    emitter.off(event_type="order", handler=on_order)
    emitter.off_any(handler=on_all)
    await emitter.emit(event_type="order", data=3)
    assert len(heard) == 5
    assert emitter.get_stats()["total_handlers"] == 0

    emitter.on(event_type="order", handler=on_order)
    emitter.pause()
    await emitter.emit(event_type="order", data=4)
    assert len(heard) == 5
    resumed = emitter.resume()
    if resumed is not None:
        await resumed
    assert heard[5:] == [("order", 4)]
    emitter.remove_all_listeners(event_type="order")
    assert emitter.listener_count(event_type="order") == 0
    await emitter.close()


async def test_waiting_for_an_event() -> None:
    emitter = EventEmitter()
    waiting = asyncio.create_task(
        emitter.wait_for(event_type="level", timeout=20.0, condition=lambda e: e.data > 5)
    )
    await asyncio.sleep(0)  # it waits now
    await emitter.emit(event_type="level", data=3)
    await emitter.emit(event_type="level", data=8)
    assert (await waiting).data == 8
    with pytest.raises(TimeoutError):
        await emitter.wait_for(event_type="level", timeout=0.01)
    assert isinstance(emitter, EventEmitterProtocol)
    await emitter.close()


async def test_one_bus_for_the_program() -> None:
    bus = await EventBus.get_instance()
    assert await EventBus.get_instance() is bus
    heard: list[Any] = []

    @event_handler(event_type="news")
    async def on_news(event: Event) -> None:
        heard.append(event.data)

    subscription = bus.subscribe(event_type="news", handler=on_news)
    once = bus.subscribe(event_type="news", handler=on_news, once=True)
    assert subscription != once
    assert bus.get_subscription_count() == 2
    await bus.emit(event_type="news", data="one", source="desk")
    await bus.publish(event=Event(type="news", data="two"))
    assert heard == ["one", "one", "two"]
    bus.unsubscribe(subscription_id=subscription)
    assert bus.get_subscription_count() == 0
    await bus.close()
    other = await create_event_bus()
    other.subscribe(event_type="news", handler=on_news)
    other.clear_all_subscriptions()
    assert other.get_subscription_count() == 0
    await other.close()


def test_events_are_made_and_told_apart() -> None:
    opened = Event.for_connection(
        event_type=EventType.CONNECTION_ESTABLISHED, connection_info={"id": "c"}
    )
    ready = Event.for_session(event_type=EventType.SESSION_READY, session_info={"id": "s"})
    stream = Event.for_stream(event_type=EventType.STREAM_OPENED, stream_info={"id": 4})
    datagram = Event.for_datagram(event_type=EventType.DATAGRAM_RECEIVED, datagram_info={"size": 3})
    failed = Event.for_error(error=WebTransportError("bad", error_code=3), source="here")
    assert opened.is_connection_event
    assert ready.is_session_event
    assert stream.is_stream_event
    assert datagram.is_datagram_event
    assert failed.is_error_event
    assert not ready.is_stream_event
    assert failed.source == "here"
    assert opened.data == {"id": "c"}
    assert opened.event_id != ready.event_id
    assert ready.timestamp <= stream.timestamp
    assert stream.to_dict()["type"] == "stream_opened"


async def test_events_of_a_session(pair: PairOfSessions) -> None:
    async with pair() as (client, server):
        heard: list[EventType | str] = []

        async def note(event: Event) -> None:
            heard.append(event.type)

        for kind in (EventType.STREAM_OPENED, EventType.SESSION_CLOSED):
            server.on(event_type=kind, handler=note)
        stream = await client.create_unidirectional_stream()
        await stream.write_all(data=b"x")
        arrived = await anext(aiter(server.incoming_streams()))
        assert await arrived.read_all() == b"x"
        closing = asyncio.create_task(
            server.wait_for(event_type=EventType.SESSION_CLOSED, timeout=20.0)
        )
        await asyncio.sleep(0)  # it waits now
        await client.close(code=3, reason="done")
        event = await closing
        assert event.data is not None
        assert event.data["code"] == 3
        assert heard == [EventType.STREAM_OPENED, EventType.SESSION_CLOSED]
