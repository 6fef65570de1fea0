"""Every public method of sessions, streams, datagrams and what serves them, with wrong arguments.

Nothing hangs, what is raised is this package's, a refused call changes nothing, and afterwards
the session, its peer and the program still end.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pywebtransport import (
    ClientConfig,
    DatagramReliabilityLayer,
    EventEmitter,
    StructuredDatagramTransport,
    StructuredStream,
    WebTransportError,
    WebTransportSession,
)
from pywebtransport.connection import (
    ConnectionLoadBalancer,
    ConnectionManager,
    ConnectionPool,
    WebTransportConnection,
)
from pywebtransport.datagram import (
    DatagramBroadcaster,
    DatagramMessage,
    DatagramMonitor,
    DatagramQueue,
    WebTransportDatagramTransport,
)
from pywebtransport.datagram.utils import datagram_throughput_test, is_heartbeat_datagram
from pywebtransport.events import Event, EventBus
from pywebtransport.exceptions import ConfigurationError, StreamError
from pywebtransport.serializer import JSONSerializer
from pywebtransport.session import SessionManager
from pywebtransport.stream import (
    StreamBuffer,
    StreamManager,
    StreamPool,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)
from pywebtransport.stream.utils import copy_stream_data, echo_stream
from tests.support.endpoints import ClientFactory, PairOfSessions
from tests.support.steps import take, take_unidirectional


class Unprintable:
    """Code that puts it into a message unchecked fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no words for this")


WRONG: list[Any] = [
    None,
    True,
    0,
    -1,
    2**70,
    10**5000,
    0.5,
    float("nan"),
    float("inf"),
    -float("inf"),
    "",
    "5",
    "a\0b",
    "lone \udce9 surrogate",
    b"",
    b"bytes",
    bytearray(b"x"),
    [],
    [None],
    {},
    {None: None},
    ValueError("an exception"),
    Unprintable(),
]
# Turns of the event loop after which a call that still waits is taken to be one that may.
TURNS = 12


async def take_nothing(given: object) -> None:
    """A handler of events and of streams."""


@dataclass
class Scene:
    """Both ends of a session with something of everything."""

    near: WebTransportSession
    far: WebTransportSession
    both: WebTransportStream
    receiving: WebTransportReceiveStream
    sending: WebTransportSendStream
    config: ClientConfig

    def fitting(self, name: str) -> Any:
        """An argument that fits a parameter of this name."""
        connection = self.near.connection
        assert connection is not None
        values: dict[str, Any] = {
            "buffer": bytearray(4),
            "config": self.config,
            "connection": connection,
            "path": "/",
            "connection_id": connection.connection_id,
            "data": b"x",
            "datagram": DatagramMessage(data=b"x"),
            "datagram_transport": self.near.datagrams,
            "datagrams": [b"x"],
            "destination": self.sending,
            "event": Event(type="x"),
            "event_type": "x",
            "figure": "rtt",
            "handler": take_nothing,
            "host": "127.0.0.1",
            "label": "label",
            "lines": [b"x"],
            "max_listeners": 5,
            "n": 1,
            "obj": {"a": 1},
            "port": 9,
            "registry": {1: dict},
            "serializer": JSONSerializer(),
            "session": self.near,
            "session_id": self.near.session_id,
            "source": self.receiving,
            "state": self.near.state,
            "stream": self.both,
            "stream_id": self.both.stream_id,
            "subscription_id": "none",
            "target": self,
            "targets": [("127.0.0.1", 9)],
            "transport": self.near.datagrams,
            "weight": 1.0,
        }
        return values[name]


# How to make one of each class, and of which parameters any value is a good one.
Make = Callable[[Scene], Any]
SUBJECTS: dict[type, Make] = {
    WebTransportSession: lambda scene: scene.far,
    WebTransportConnection: lambda scene: scene.near.connection,
    WebTransportStream: lambda scene: scene.both,
    WebTransportReceiveStream: lambda scene: scene.receiving,
    WebTransportSendStream: lambda scene: scene.sending,
    WebTransportDatagramTransport: lambda scene: scene.near.datagrams,
    StructuredStream: lambda scene: StructuredStream(scene.both, JSONSerializer(), {1: dict}),
    StructuredDatagramTransport: lambda scene: StructuredDatagramTransport(
        scene.near.datagrams, JSONSerializer(), {1: dict}
    ),
    DatagramReliabilityLayer: lambda scene: DatagramReliabilityLayer(
        scene.near.datagrams, close_timeout=0
    ),
    DatagramBroadcaster: lambda scene: DatagramBroadcaster(),
    DatagramMonitor: lambda scene: DatagramMonitor(scene.near.datagrams),
    DatagramQueue: lambda scene: DatagramQueue(),
    DatagramMessage: lambda scene: DatagramMessage(data=b"x"),
    StreamBuffer: lambda scene: StreamBuffer(),
    StreamManager: lambda scene: StreamManager(scene.near),
    StreamPool: lambda scene: StreamPool(scene.near),
    SessionManager: lambda scene: SessionManager(),
    ConnectionManager: lambda scene: ConnectionManager(),
    ConnectionPool: lambda scene: ConnectionPool(),
    ConnectionLoadBalancer: lambda scene: ConnectionLoadBalancer([("127.0.0.1", 9)]),
    EventEmitter: lambda scene: EventEmitter(),
    EventBus: lambda scene: EventBus(),
}
FUNCTIONS = [copy_stream_data, echo_stream, datagram_throughput_test, is_heartbeat_datagram]
# Parameters that take any object, and those whose owner checks nothing on purpose.
ANYTHING = {"source", "backend", "close_backend", "once"}


def methods(cls: type) -> Iterator[str]:
    """The public methods of a class, and its constructor; those of emitters only once."""
    for name, member in inspect.getmembers(cls, callable):
        inherited = cls is not EventEmitter and getattr(EventEmitter, name, None) is member
        facts = cls is WebTransportSession and name in HEARD
        # What the package itself calls, with arguments that it has checked.
        advanced = (member.__doc__ or "").startswith("Advanced")
        if not (name.startswith("_") or inherited or facts or advanced):
            yield name
    yield "__init__"


# What the HTTP/3 layer calls; applications do not.
HEARD = {
    "session_established",
    "session_rejected",
    "stream_received",
    "streams_available",
    "datagrams_received",
    "datagram_writable",
    "session_draining",
    "credit_updated",
    "capsule_received",
    "session_closed",
}
CASES = [(cls, name) for cls in SUBJECTS for name in methods(cls)]
SETTERS = [
    (cls, name)
    for cls in SUBJECTS
    for name, member in inspect.getmembers(cls, lambda m: isinstance(m, property))
    if member.fset is not None
]


@asynccontextmanager
async def scenes(pair: PairOfSessions, client_config: ClientFactory) -> AsyncIterator[Scene]:
    """A session that ends at both ends when the block is left, whatever was called in it."""
    async with pair() as (near, far):
        both = await near.create_bidirectional_stream()
        await both.write(b"x")
        answer = await take(far)
        sending = await near.create_unidirectional_stream()
        away = await far.create_unidirectional_stream()
        await away.write(b"x")
        receiving = await take_unidirectional(near)
        yield Scene(near, far, both, receiving, sending, client_config(connect_timeout=0.2))
        await near.close()
        await far.close()
        assert (near.is_closed, far.is_closed) == (True, True)
        assert (await near.wait_closed(), await far.wait_closed()) is not None
        assert answer.is_closed


def calls(scene: Scene, function: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keyword arguments of which one is wrong, and how to name them."""
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name != "self"
    ]
    required = [item.name for item in parameters if item.default is item.empty]
    for number, value in enumerate(WRONG):
        for item in parameters:
            if item.name in ANYTHING and item.name not in required:
                continue
            arguments = {name: scene.fitting(name) for name in required} | {item.name: value}
            yield f"{item.name}=WRONG[{number}] ({type(value).__name__})", arguments


async def outcome(function: Any, arguments: dict[str, Any]) -> BaseException | None:
    """Call it, wait for a few turns, and give what it raised."""
    try:
        result = function(**arguments)
        if inspect.isasyncgen(result):
            result = anext(result)
        if isinstance(result, asyncio.Task):
            result.cancel()
        if not inspect.isawaitable(result):
            return None
        task = asyncio.ensure_future(_await(result))
        for _ in range(TURNS):
            if task.done():
                break
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        return None if task.cancelled() else task.exception()
    except Exception as error:
        return error


async def _await(result: Any) -> None:
    made = await result
    # What a wrong argument did not keep from being made is not left behind.
    if isinstance(made, WebTransportConnection):
        made.close_nowait()


def complaint(error: BaseException | None) -> str:
    """What is wrong with what was raised, if anything is."""
    if error is None or isinstance(error, WebTransportError | StopAsyncIteration):
        return ""
    return f"raised {type(error).__name__}: {error}"


@pytest.mark.limit(120)
@pytest.mark.parametrize(
    ("cls", "name"), CASES, ids=lambda value: getattr(value, "__name__", value)
)
async def test_wrong_arguments_are_refused_and_everything_still_ends(
    pair: PairOfSessions, client_config: ClientFactory, cls: type, name: str
) -> None:
    problems = []
    async with scenes(pair, client_config) as scene:
        subject = cls if name == "__init__" else SUBJECTS[cls](scene)
        function = cls if name == "__init__" else getattr(subject, name)
        for shown, arguments in calls(scene, function):
            before = getattr(subject, "state", None)
            error = await outcome(function, arguments)
            if problem := complaint(error):
                problems.append(f"{cls.__name__}.{name}({shown}) {problem}")
            # A code that was accepted before may end the stream at the peer meanwhile.
            judged = isinstance(error, ConfigurationError) and not isinstance(error, StreamError)
            if judged and getattr(subject, "state", None) != before:
                problems.append(f"{cls.__name__}.{name}({shown}) was refused too late")
        for closing in ("close", "close_all", "shutdown"):
            if name != "__init__" and subject is not scene.near.datagrams:
                closer = getattr(subject, closing, None)
                if closer is not None:
                    assert not complaint(await outcome(closer, {}))
                    break
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda value: value.__name__)
async def test_functions_refuse_wrong_arguments(
    pair: PairOfSessions, client_config: ClientFactory, function: Any
) -> None:
    problems = []
    async with scenes(pair, client_config) as scene:
        for shown, arguments in calls(scene, function):
            if problem := complaint(await outcome(function, arguments)):
                problems.append(f"{function.__name__}({shown}) {problem}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("cls", "name"), SETTERS, ids=lambda value: getattr(value, "__name__", value)
)
async def test_settable_properties_refuse_wrong_values(
    pair: PairOfSessions, client_config: ClientFactory, cls: type, name: str
) -> None:
    problems = []
    async with scenes(pair, client_config) as scene:
        subject = SUBJECTS[cls](scene)
        for number, value in enumerate(WRONG):
            before = getattr(subject, name)
            try:
                setattr(subject, name, value)
            except WebTransportError:
                if getattr(subject, name) != before:
                    problems.append(f"{name} = WRONG[{number}] was refused too late")
            except Exception as error:
                problems.append(f"{name} = WRONG[{number}] {complaint(error)}")
    assert not problems, "\n".join(problems)


async def test_an_error_inside_of_closing_still_ends_everything(
    pair: PairOfSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the layers below do, no caller waits forever for an end."""
    async with pair() as (near, far):

        def broken(*args: object, **kwargs: object) -> None:
            raise RuntimeError("broken below")

        waiting = asyncio.ensure_future(near.wait_closed())
        await asyncio.sleep(0)
        with monkeypatch.context() as patch:
            patch.setattr(type(near._h3), "close", broken)
            with pytest.raises(RuntimeError, match="broken below"):
                await near.close(close_connection=False)
        assert near.is_closed
        assert (await waiting).remote is False
        connection = near._connection
        with monkeypatch.context() as patch:
            patch.setattr(type(connection._driver.layer), "close", broken)  # type: ignore[union-attr]
            with pytest.raises(RuntimeError, match="broken below"):
                await connection.close()
        assert connection.is_closed
        await connection.wait_closed()
        far.abort()


async def test_a_wrong_reason_leaves_the_session_as_it_was(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        for reason in (ValueError("boom"), None, b"bytes", 5):
            with pytest.raises(ConfigurationError, match="reason"):
                await near.close(code=1, reason=reason)  # type: ignore[arg-type]
            assert near.is_ready
        with pytest.raises(ConfigurationError, match="write str"):
            await near.close(code=1, reason=ValueError("boom"))  # type: ignore[arg-type]
        await near.close(code=1, reason="boom")
        info = await far.wait_closed()
        assert (info.code, info.reason, info.remote) == (1, "boom", True)
