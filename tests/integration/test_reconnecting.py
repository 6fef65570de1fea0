"""``ReconnectingClient``: real servers that go and come back, networks that are lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.client import ReconnectingClient
from pywebtransport.events import Event
from pywebtransport.exceptions import (
    AuthenticationError,
    CertificateError,
    ClientError,
    ConfigurationError,
    IdleTimeoutError,
    SessionClosedError,
    SessionRejectedError,
    TimeoutError,
    UnreachableError,
)
from pywebtransport.server import WebTransportServer
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType, SessionState
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.ports import free_port
from tests.support.steps import cancelled_at, far_end, round_trip, until

from .relay import Faults, Relay

ESTABLISHED = EventType.CONNECTION_ESTABLISHED
FAILED = EventType.CONNECTION_FAILED
LOST = EventType.CONNECTION_LOST
CLOSED = EventType.CONNECTION_CLOSED


@pytest.fixture
def closed_port() -> int:
    """A UDP port where nobody listens."""
    return free_port()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A UDP port where packets are taken and never answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def quick(client_config: ClientFactory, **fields: Any) -> ClientConfig:
    """Short pauses, and many of them."""
    defaults = {"retry_delay": 0.01, "max_retry_delay": 0.02, "max_retries": 10_000}
    return client_config(**(defaults | fields))


def record(client: ReconnectingClient) -> list[tuple[EventType, dict[str, Any]]]:
    """Every event of the client from now on, with its data."""
    events: list[tuple[EventType, dict[str, Any]]] = []
    client.on_any(lambda event: events.append((event.type, event.data)))
    return events


def kinds(events: list[tuple[EventType, dict[str, Any]]]) -> list[EventType]:
    return [kind for kind, _ in events]


async def session_of(client: ReconnectingClient) -> WebTransportSession:
    """The session, which must come."""
    session = await client.get_session(wait_timeout=None)
    assert session is not None
    return session


# --------------------------------------------------------------------------- coming back


async def test_server_that_is_closed_and_started_again(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving(bind_port=free_port()) as served:
        client = ReconnectingClient.create(url=served.url("/x"), config=quick(client_config))
        events = record(client)
        async with client:
            first = await session_of(client)
            assert client.is_connected
            assert await client.get_session() is first
            await served.server.close(drain_timeout=0)
            await first.wait_closed()
            assert not client.is_connected
            async with serving(bind_port=served.port) as again:
                second = await session_of(client)
                assert second is not first
                assert second.path == "/x"
                await round_trip(second, again.server.sessions[0], b"back again")
                assert client.error is None
                await client.close()
    assert second.is_closed
    found = kinds(events)
    assert found[:2] == [ESTABLISHED, LOST]
    assert set(found[2:-2]) <= {FAILED}
    assert found[-2:] == [ESTABLISHED, CLOSED]
    established, lost = events[0][1], events[1][1]
    assert established == {"url": served.url("/x"), "attempt": 1, "session": first}
    assert lost["url"] == served.url("/x")
    assert lost["session_id"] == first.session_id
    assert (lost["code"], lost["reason"], lost["remote"]) == (0, "server shutdown", True)
    assert isinstance(lost["error"], SessionClosedError)
    assert 0 <= lost["delay"] <= 0.02
    for _, data in events[2:-2]:
        assert isinstance(data["error"], ClientError | ConnectionError)
    assert events[-1][1]["session_id"] == second.session_id


async def test_server_that_starts_late(
    serving: Serving, client_config: ClientFactory, closed_port: int
) -> None:
    url = f"https://127.0.0.1:{closed_port}/"
    async with ReconnectingClient(url, config=quick(client_config)) as client:
        events = record(client)
        await client.wait_for(FAILED)
        waiters = [asyncio.create_task(session_of(client)) for _ in range(3)]
        async with serving(bind_port=closed_port):
            sessions = await asyncio.gather(*waiters)
            assert len(set(sessions)) == 1
            attempts = [data["attempt"] for kind, data in events]
            assert attempts == list(range(attempts[0], attempts[0] + len(attempts)))
            await client.close()


async def test_lost_network(serving: Serving, client_config: ClientFactory) -> None:
    config = quick(client_config, connection_idle_timeout=1.0, connect_timeout=0.5)
    async with (
        serving() as served,
        Relay(("127.0.0.1", served.port), seed=1, up=Faults()) as relay,
        ReconnectingClient(f"https://127.0.0.1:{relay.port}/", config=config) as client,
    ):
        events = record(client)
        first = await session_of(client)
        relay.blocked = True
        lost = await client.wait_for(LOST)
        assert isinstance(lost.data["error"], IdleTimeoutError)
        assert lost.data["code"] is None
        assert lost.data["session_id"] == first.session_id
        failed = await client.wait_for(FAILED)
        assert isinstance(failed.data["error"], TimeoutError)
        assert await client.get_session(wait_timeout=0.01) is None
        relay.blocked = False
        second = await session_of(client)
        assert second is not first
        far = far_end(served.server.sessions, second)
        await round_trip(second, far, b"the network is back")
        assert LOST in kinds(events)


async def test_end_of_the_session_by_the_server_alone(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving() as served,
        ReconnectingClient(served.url(), config=quick(client_config)) as client,
    ):
        first = await session_of(client)
        lost = asyncio.create_task(client.wait_for(LOST))
        await until(lambda: served.server.sessions)
        await served.server.sessions[0].close(code=77, reason="go", close_connection=False)
        event = await lost
        assert (event.data["code"], event.data["reason"]) == (77, "go")
        assert event.data["error"].code == 77
        second = await session_of(client)
        assert second is not first


# --------------------------------------------------------------------------------- pauses


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
async def test_pauses_grow_to_their_cap_and_the_budget_ends(
    client_config: ClientFactory, closed_port: int, chance: float
) -> None:
    config = client_config(
        retry_delay=0.002, retry_backoff=3.0, max_retry_delay=0.01, max_retries=4
    )
    client = ReconnectingClient(f"https://127.0.0.1:{closed_port}/", config=config)
    client._random = lambda: chance
    events = record(client)
    async with client:
        with pytest.raises(
            ClientError, match=r"gave up on .* at try 5: UnreachableError"
        ) as caught:
            await session_of(client)
        assert isinstance(caught.value.__cause__, UnreachableError)
        assert caught.value.__cause__ is client.error
        assert caught.value.details["attempts"] == 5
        assert caught.value.target_url == client.url
        with pytest.raises(ClientError, match="gave up"):
            await client.get_session()
    assert kinds(events) == [FAILED] * 5 + [CLOSED]
    delays = [data["delay"] for _, data in events[:5]]
    assert delays[4] is None
    assert delays[:4] == pytest.approx([chance * bound for bound in (0.002, 0.006, 0.01, 0.01)])
    assert [data["attempt"] for _, data in events[:5]] == [1, 2, 3, 4, 5]


async def test_pauses_are_random_within_their_bound(
    client_config: ClientFactory, closed_port: int
) -> None:
    config = client_config(
        retry_delay=0.001, retry_backoff=1.0, max_retry_delay=0.001, max_retries=30
    )
    client = ReconnectingClient(f"https://127.0.0.1:{closed_port}/", config=config)
    events = record(client)
    async with client:
        with pytest.raises(ClientError, match="gave up"):
            await session_of(client)
    delays = [data["delay"] for kind, data in events if kind is FAILED][:-1]
    assert len(set(delays)) > 20
    assert all(0 <= delay < 0.001 for delay in delays)


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [("120", 0.02), ("0", 0.0), ("soon", 0.0), ("\u00b2", 0.0), (None, 0.0)],
)
async def test_refusal_that_asks_to_wait(
    serving: Serving, client_config: ClientFactory, retry_after: str | None, expected: float
) -> None:
    asked = 0

    async def busy(session: WebTransportSession) -> bool:
        nonlocal asked
        asked += 1
        if asked == 1:
            headers = {} if retry_after is None else {"retry-after": retry_after}
            raise SessionRejectedError(status_code=503, headers=headers)
        return True

    async with serving() as served:
        served.app.add_middleware(busy)
        client = ReconnectingClient(served.url(), config=quick(client_config))
        client._random = lambda: 0.0
        events = record(client)
        async with client:
            await session_of(client)
        assert kinds(events) == [FAILED, ESTABLISHED, CLOSED]
        assert events[0][1]["delay"] == expected
        assert events[0][1]["error"].status_code == 503


async def test_sessions_that_end_at_once_use_the_budget_up(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def slam(session: WebTransportSession) -> None:
        await session.close(code=4, close_connection=False)

    async with serving(slam) as served:
        config = quick(client_config, max_retries=3, retry_backoff=1.5)
        client = ReconnectingClient(served.url(), config=config)
        client._random = lambda: 1.0
        client._now = lambda: 0.0  # no session lives for any time
        events = record(client)
        async with client:
            await until(lambda: client.error is not None)
            with pytest.raises(ClientError, match=r"gave up .* at try 4") as caught:
                await session_of(client)
            assert isinstance(caught.value.__cause__, SessionClosedError)
            assert caught.value.error_code == 4
        ends = [data for kind, data in events if kind in (LOST, FAILED)]
        assert [data["delay"] for data in ends] == [0.01, 0.015, 0.02, None]
        assert [data["attempt"] for data in ends] == [1, 2, 3, 4]


@pytest.mark.parametrize("lives", [True, False])
async def test_sessions_that_live_give_the_budget_back(
    serving: Serving, client_config: ClientFactory, lives: bool
) -> None:
    time = 0.0
    async with serving() as served:
        config = quick(client_config, max_retries=1, retry_delay=0.01)
        client = ReconnectingClient(served.url(), config=config)
        client._random = lambda: 1.0
        client._now = lambda: time
        events = record(client)
        async with client:
            for _ in range(5 if lives else 2):
                session = await session_of(client)
                time += 1.0 if lives else 0.0
                far = far_end(served.server.sessions, session)
                await far.close(close_connection=False)
                await session.wait_closed()
            if lives:
                assert (await session_of(client)).is_ready
            else:
                with pytest.raises(ClientError, match="gave up"):
                    await session_of(client)
    lost = [data["delay"] for kind, data in events if kind is LOST]
    assert lost == ([0.01] * 5 if lives else [0.01, None])


async def test_without_retries_the_first_failure_is_the_last(
    serving: Serving, client_config: ClientFactory, closed_port: int
) -> None:
    config = quick(client_config, max_retries=0)
    async with ReconnectingClient(f"https://127.0.0.1:{closed_port}/", config=config) as client:
        with pytest.raises(ClientError, match="at try 1"):
            await session_of(client)
    async with serving() as served, ReconnectingClient(served.url(), config=config) as client:
        events = record(client)
        session = await session_of(client)
        await until(lambda: served.server.sessions)
        await served.server.close(drain_timeout=0)
        await session.wait_closed()
        with pytest.raises(ClientError, match="server shutdown"):
            await session_of(client)
        assert events[-1][0] is LOST
        assert events[-1][1]["delay"] is None


# ----------------------------------------------------------------------------- fatal errors


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_refusal_stops_at_once(
    serving: Serving, client_config: ClientFactory, status: int
) -> None:
    async def refuse(session: WebTransportSession) -> bool:
        raise SessionRejectedError(status_code=status)

    async with serving() as served:
        served.app.add_middleware(refuse)
        client = ReconnectingClient(served.url(), config=quick(client_config))
        events = record(client)
        async with client:
            waiters = [asyncio.create_task(session_of(client)) for _ in range(2)]
            for waiter in waiters:
                with pytest.raises(ClientError, match=str(status)) as caught:
                    await waiter
                assert isinstance(caught.value.__cause__, SessionRejectedError)
                assert caught.value.details["status_code"] == status
            assert kinds(events) == [FAILED]
            assert events[0][1]["delay"] is None
            assert events[0][1]["attempt"] == 1


async def test_untrusted_certificate_stops_at_once(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    config = quick(client_config, ca_certs=certs.other.certfile)
    async with serving() as served, ReconnectingClient(served.url(), config=config) as client:
        with pytest.raises(ClientError, match="at try 1: CertificateError") as caught:
            await session_of(client)
        assert isinstance(caught.value.__cause__, CertificateError)


# ----------------------------------------------------------------------- restoring state


async def test_hook_restores_state_before_the_session_is_given_out(
    serving: Serving, client_config: ClientFactory
) -> None:
    subscriptions: list[bytes] = []
    restored: list[WebTransportSession] = []

    async def handler(session: WebTransportSession) -> None:
        async for stream in session.incoming_unidirectional_streams():
            subscriptions.append(await stream.read_all())

    async def subscribe(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write_all(b"subscribe news")
        await stream.wait_acknowledged()
        restored.append(session)

    async with serving(handler) as served:
        client = ReconnectingClient(served.url(), config=quick(client_config), on_session=subscribe)
        async with client:
            for number in range(3):
                session = await session_of(client)
                assert restored[-1] is session
                await until(lambda number=number: len(subscriptions) == number + 1)
                await served.server.sessions[0].close(close_connection=False)
                await session.wait_closed()
    assert set(subscriptions) == {b"subscribe news"}


async def test_hook_that_fails_is_a_failed_try(
    serving: Serving, client_config: ClientFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs("on_session raised LookupError: no state yet")
    tries: list[WebTransportSession] = []

    async def third_time_lucky(session: WebTransportSession) -> None:
        tries.append(session)
        if len(tries) < 3:
            raise LookupError("no state yet")

    async with serving() as served:
        client = ReconnectingClient.create(
            served.url(), config=quick(client_config), on_session=third_time_lucky
        )
        events = record(client)
        async with client:
            session = await session_of(client)
            assert session is tries[2]
            assert kinds(events) == [FAILED, FAILED, ESTABLISHED]
            assert isinstance(events[0][1]["error"], LookupError)
            for failed in tries[:2]:
                assert failed.close_info is not None
                assert (failed.close_info.code, failed.close_info.remote) == (1, False)
            await until(lambda: len(served.server.connections) == 1)


async def test_hook_decides_that_it_is_useless(
    serving: Serving, client_config: ClientFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs("on_session raised LookupError: broken")

    async def log_in(session: WebTransportSession) -> None:
        raise AuthenticationError("the password is wrong", error_code=5)

    async def crash(session: WebTransportSession) -> None:
        raise LookupError("broken")

    async with serving() as served:
        config = quick(client_config, max_retries=0)
        async with ReconnectingClient(
            served.url(), config=quick(client_config), on_session=log_in
        ) as client:
            with pytest.raises(ClientError, match="the password is wrong") as caught:
                await session_of(client)
            assert caught.value.error_code == 5
        async with ReconnectingClient(served.url(), config=config, on_session=crash) as client:
            with pytest.raises(ClientError, match="LookupError: broken") as caught:
                await session_of(client)
            assert isinstance(caught.value.__cause__, LookupError)
        await until(lambda: not served.server.sessions)


async def test_hook_that_meets_a_cancellation_of_others_fails_like_any_other(
    serving: Serving, client_config: ClientFactory, expected_logs: ExpectedLogs
) -> None:
    """Only its own cancellation ends the client; this one would have left callers waiting."""
    expected_logs("on_session raised CancelledError")

    async def wait_for_cancelled(session: WebTransportSession) -> None:
        task = asyncio.create_task(session.wait_closed())
        task.cancel()
        await task

    async with serving() as served:
        config = quick(client_config, max_retries=1)
        async with ReconnectingClient(
            served.url(), config=config, on_session=wait_for_cancelled
        ) as client:
            with pytest.raises(ClientError, match=r"at try 2: .*cancelled from within"):
                await session_of(client)
        await until(lambda: not served.server.sessions)


async def test_hook_has_a_time_limit(serving: Serving, client_config: ClientFactory) -> None:
    async def hang(session: WebTransportSession) -> None:
        await asyncio.Event().wait()

    async def own_timeout(session: WebTransportSession) -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    async with serving() as served:
        config = quick(client_config, connect_timeout=0.5)
        async with ReconnectingClient(served.url(), config=config, on_session=hang) as client:
            failed = await client.wait_for(
                FAILED,
                condition=lambda event: event.data["error"].operation == "on_session",
            )
            assert isinstance(failed.data["error"], TimeoutError)
            assert "on_session took longer than connect_timeout=0.5 s" in str(failed.data["error"])
        config = quick(client_config, max_retries=0)
        async with ReconnectingClient(
            served.url(), config=config, on_session=own_timeout
        ) as client:
            with pytest.raises(ClientError, match="at try 1"):
                await session_of(client)
            assert not isinstance(client.error, TimeoutError)


async def test_session_that_ends_during_the_hook_is_not_given_out(
    serving: Serving, client_config: ClientFactory
) -> None:
    seen: list[WebTransportSession] = []

    async def close_first(session: WebTransportSession) -> None:
        seen.append(session)
        if len(seen) == 1:
            await session.close()

    async with serving() as served:
        client = ReconnectingClient(
            served.url(), config=quick(client_config), on_session=close_first
        )
        events = record(client)
        async with client:
            assert await session_of(client) is seen[1]
        assert isinstance(events[0][1]["error"], SessionClosedError)


# ------------------------------------------------------------------- ends by this side


async def test_session_that_the_application_closes_is_opened_again_on_demand(
    serving: Serving, client_config: ClientFactory
) -> None:
    count = 0

    async def handler(session: WebTransportSession) -> None:
        nonlocal count
        count += 1

    async with serving(handler) as served:
        client = ReconnectingClient(served.url(), config=quick(client_config))
        events = record(client)
        async with client:
            async with await session_of(client) as first:
                pass
            await until(lambda: CLOSED in kinds(events))
            assert kinds(events) == [ESTABLISHED, CLOSED]
            assert events[1][1]["session_id"] == first.session_id
            assert not client.is_connected
            await until(lambda: not served.server.sessions)
            # Time in which it could have connected again.
            async with WebTransportClient(config=client_config()) as other:
                await other.connect(served.url())
            assert client._client.stats["connections"]["attempted"] == 1
            assert count == 2
            second = await session_of(client)
            assert second is not first
            # Asking again in the same turn is not missed.
            second.close_nowait(6, "enough")
            third = await session_of(client)
            assert third is not second
            assert events[3][0] is CLOSED
            assert (events[3][1]["code"], events[3][1]["reason"]) == (6, "enough")


async def test_waiting_ends_at_its_timeout(client_config: ClientFactory, silent_port: int) -> None:
    url = f"https://127.0.0.1:{silent_port}/"
    async with ReconnectingClient(url, config=quick(client_config)) as client:
        assert await client.get_session(wait_timeout=0) is None
        assert await client.get_session(wait_timeout=0.05) is None
        assert await client.get_session(wait_timeout=-1) is None
        assert not client.is_connected
        assert client.error is None


async def test_close_while_it_connects_ends_who_waits(
    client_config: ClientFactory, silent_port: int
) -> None:
    client = ReconnectingClient(f"https://127.0.0.1:{silent_port}/", config=quick(client_config))
    with pytest.raises(ClientError, match="not started"):
        await client.get_session()
    events = record(client)
    async with client:
        assert await client.__aenter__() is client  # entering twice starts once
        waiter = asyncio.create_task(session_of(client))
        await until(lambda: client._client._opening)
        assert client.config.max_retries == 10_000
        await client.close()
        with pytest.raises(ClientError, match="closed"):
            await waiter
    assert client.is_closed
    assert kinds(events) == [CLOSED]
    assert events[0][1]["session_id"] is None
    with pytest.raises(ClientError, match="closed"):
        await client.get_session()
    with pytest.raises(ClientError, match="closed"):
        await client.__aenter__()


async def test_close_during_a_pause(client_config: ClientFactory, closed_port: int) -> None:
    config = client_config(retry_delay=1000.0, max_retry_delay=1000.0)
    client = ReconnectingClient(f"https://127.0.0.1:{closed_port}/", config=config)
    client._random = lambda: 1.0
    async with client:
        event = await client.wait_for(FAILED)
        assert event.data["delay"] == 1000.0


async def test_client_that_is_never_started_can_be_closed(client_config: ClientFactory) -> None:
    await ReconnectingClient("https://127.0.0.1:1/", config=client_config()).close()


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_handler_may_close_the_client(
    serving: Serving, client_config: ClientFactory, asynchronous: bool
) -> None:
    async with serving() as served:
        client = ReconnectingClient(served.url(), config=quick(client_config))
        tasks: list[asyncio.Task[None]] = []

        async def close(event: Event) -> None:
            await client.close()

        def start_closing(event: Event) -> None:
            tasks.append(asyncio.create_task(client.close()))

        client.on(ESTABLISHED, close if asynchronous else start_closing)
        async with client:
            await until(lambda: client.is_closed)
            await asyncio.gather(*tasks)
        await until(lambda: not served.server.connections)


async def test_hook_may_close_the_client(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served:

        async def close(session: WebTransportSession) -> None:
            await client.close()

        client = ReconnectingClient(served.url(), config=quick(client_config), on_session=close)
        async with client:
            with pytest.raises(ClientError, match="closed"):
                await session_of(client)
        await until(lambda: not served.server.connections)


async def test_cancelled_at_each_await(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served:

        async def use() -> None:
            async with ReconnectingClient(served.url(), config=quick(client_config)) as client:
                await session_of(client)

        index = 0
        while await cancelled_at(use, index):
            await until(lambda: not served.server.connections)
            index += 1
        assert index >= 2
        await until(lambda: not served.server.connections)


async def test_cancelled_waiter_leaves_the_others_alone(
    serving: Serving, client_config: ClientFactory, closed_port: int
) -> None:
    url = f"https://127.0.0.1:{closed_port}/"
    async with ReconnectingClient(url, config=quick(client_config)) as client:
        first, second = [asyncio.create_task(session_of(client)) for _ in range(2)]
        await client.wait_for(FAILED)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        assert first.cancelled()
        async with serving(bind_port=closed_port):
            assert (await second).is_ready
            await client.close()


# ------------------------------------------------------------------------------ creation


async def test_create_gives_the_client_that_the_configuration_asks_for(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served:
        plain = WebTransportClient.create(url=served.url(), config=client_config())
        assert type(plain) is WebTransportClient
        async with plain:
            assert (await plain.connect(served.url())).is_ready
        config = quick(client_config, auto_reconnect=True)
        reconnecting = WebTransportClient.create(served.url(), config=config)
        assert isinstance(reconnecting, ReconnectingClient)
        assert reconnecting.url == served.url()
        assert reconnecting.config.auto_reconnect
        async with reconnecting:
            assert (await session_of(reconnecting)).is_ready
    without = WebTransportClient.create(served.url())
    assert type(without) is WebTransportClient
    await without.close()
    for arguments in ({}, {"config": config}):
        with pytest.raises(ConfigurationError, match="https"):
            WebTransportClient.create("http://127.0.0.1/", **arguments)


# -------------------------------------------------------------------------------- draining


async def drained_by(server: WebTransportServer, session: WebTransportSession) -> None:
    """Wait until the client knows that its session drains."""
    for one in server.sessions:
        one.drain()
    await until(lambda: session.state is SessionState.DRAINING)


async def test_a_session_that_drains_is_not_given_out_and_works_until_it_ends(
    serving: Serving, client_config: ClientFactory
) -> None:
    restored: list[WebTransportSession] = []

    async def restore(session: WebTransportSession) -> None:
        restored.append(session)

    async with (
        serving() as served,
        ReconnectingClient(served.url(), config=quick(client_config), on_session=restore) as client,
    ):
        events = record(client)
        first = await session_of(client)
        far = served.server.sessions[0]
        far.drain()
        await until(lambda: first.state is not SessionState.CONNECTED)
        # In this very turn, before anything new is there.
        assert not client.is_connected
        assert await client.get_session(wait_timeout=0) is None
        second = await session_of(client)
        assert second is not first
        assert second.state is SessionState.CONNECTED
        assert restored == [first, second]
        assert not first.is_closed
        await round_trip(first, far, b"the old one works on")
        assert kinds(events)[-2:] == [EventType.SESSION_DRAINING, ESTABLISHED]
        assert events[-2][1]["session"] is first
        assert events[-1][1]["session"] is second
        await far.close(close_connection=False)
        await first.wait_closed()
        assert await client.get_session() is second
        assert LOST not in kinds(events)


async def test_a_server_that_goes_away_sends_its_clients_to_the_next(
    serving: Serving, client_config: ClientFactory
) -> None:
    """GOAWAY: the server takes no new session, and what it has may end in its time."""
    async with serving() as old:
        config = quick(client_config, max_retries=1)
        async with ReconnectingClient(old.url(), config=config) as client:
            first = await session_of(client)
            events = record(client)
            closing = asyncio.create_task(old.server.close(drain_timeout=30))
            await until(lambda: first.state is SessionState.DRAINING)
            # More tries fail than there may be in a row: the old session still lives.
            await until(lambda: kinds(events).count(FAILED) > 3)
            assert client.error is None
            assert not first.is_closed
            assert await client.get_session(wait_timeout=0) is None
            await first.close()
            await closing
            async with serving(bind_port=old.port):
                second = await session_of(client)
                assert second is not first
                await client.close()


async def test_a_session_that_drains_and_ends_at_once_is_lost_once(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = quick(client_config, retry_delay=10.0, max_retry_delay=10.0)
    async with serving() as served, ReconnectingClient(served.url(), config=config) as client:
        first = await session_of(client)
        client._random = lambda: 0.5
        events = record(client)
        far = served.server.sessions[0]
        far.drain()
        await far.close(code=5, close_connection=False)
        await first.wait_closed()
        await until(lambda: LOST in kinds(events))
        assert kinds(events) == [LOST]
        assert events[0][1]["code"] == 5


async def test_a_server_that_drains_every_session_is_given_up(
    client_config: ClientFactory, serving: Serving
) -> None:
    """No storm: a session that drains as soon as it is open counts as a failed attempt."""

    async def drain(session: WebTransportSession) -> None:
        session.drain()
        await session.wait_closed()

    config = quick(client_config, max_retries=3, retry_delay=0.01)
    async with serving(drain) as served, ReconnectingClient(served.url(), config=config) as client:
        client._now = lambda: 0.0  # however slow the machine is, no session lives long
        with pytest.raises(ClientError, match="drained session"):
            await session_of(client)
        assert len(served.server.sessions) <= 5


async def test_a_session_that_drains_during_the_hook_is_not_given_out(
    serving: Serving, client_config: ClientFactory
) -> None:
    tries = 0

    async def drain_the_first(session: WebTransportSession) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await until(lambda: bool(served.server.sessions))
            await drained_by(served.server, session)

    async with serving() as served:
        config = quick(client_config)
        async with ReconnectingClient(
            served.url(), config=config, on_session=drain_the_first
        ) as client:
            events = record(client)
            session = await session_of(client)
            assert session.state is SessionState.CONNECTED
            assert kinds(events) == [FAILED, ESTABLISHED]
            assert "drained" in str(events[0][1]["error"])


# ------------------------------------------------------------------------- wrong arguments


async def test_wrong_arguments_of_the_client(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as served:
        for hook in (5, "hook"):
            with pytest.raises(ConfigurationError, match="on_session"):
                ReconnectingClient(
                    served.url(),
                    config=client_config(),
                    on_session=hook,  # type: ignore[arg-type]
                )

        def plain(session: WebTransportSession) -> None:
            """It should be a coroutine function."""

        client = ReconnectingClient(
            served.url(),
            config=quick(client_config),
            on_session=plain,  # type: ignore[arg-type]
        )
        async with client:
            with pytest.raises(ClientError, match="async def on_session"):
                await client.get_session(wait_timeout=None)
            for seconds in ("5", float("nan"), [1]):
                with pytest.raises(ConfigurationError, match="wait_timeout"):
                    await client.get_session(wait_timeout=seconds)  # type: ignore[arg-type]


async def test_a_hook_with_a_mistake_is_told_with_its_place(
    serving: Serving,
    client_config: ClientFactory,
    caplog: pytest.LogCaptureFixture,
    expected_logs: ExpectedLogs,
) -> None:
    """As what any other code of the application raises."""

    async def broken(session: WebTransportSession) -> None:
        raise LookupError("a mistake\x1b[31m")

    expected_logs(r"on_session raised LookupError: a mistake.* \[session \S+, path /, peer 127")

    config = quick(client_config, max_retries=0)
    async with (
        serving() as served,
        ReconnectingClient(served.url(), config=config, on_session=broken) as client,
    ):
        with pytest.raises(ClientError, match="a mistake"):
            await session_of(client)
    (told,) = [one for one in caplog.records if "on_session raised" in one.getMessage()]
    assert told.levelname == "ERROR"
    assert "in broken" in str(told.exc_text)
    assert "\x1b" not in told.getMessage() + str(told.exc_text)
