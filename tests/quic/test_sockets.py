"""Bound sockets, name resolution, staggered attempts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from pywebtransport._loop import (
    BindAddress,
    RemoteAddress,
    bind_addresses,
    bind_shared,
    bind_udp_sockets,
    connect_staggered,
    open_udp_socket,
    resolve,
)
from pywebtransport.exceptions import ServerError, UnreachableError

V4 = socket.AF_INET
V6 = socket.AF_INET6


@contextlib.contextmanager
def bound(host: str | None, port: int = 0) -> Iterator[list[socket.socket]]:
    addresses = bind_addresses(host, port)
    assert addresses is not None
    sockets = bind_udp_sockets(addresses)
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


# ------------------------------------------------------------------------- binding


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", [(V4, "127.0.0.1")]),
        ("0.0.0.0", [(V4, "0.0.0.0")]),
        ("::1", [(V6, "::1")]),
        ("[::1]", [(V6, "::1")]),
        ("::", [(V6, "::")]),
        ("", [(V6, "::")]),
        (None, [(V6, "::")]),
        ("localhost", [(V4, "127.0.0.1"), (V6, "::1")]),
    ],
)
def test_host_says_what_is_bound(host: str | None, expected: list[tuple[int, str]]) -> None:
    with bound(host) as sockets:
        assert [(sock.family, sock.getsockname()[0]) for sock in sockets] == expected
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        assert all(not sock.getblocking() for sock in sockets)


@pytest.mark.parametrize(("host", "only"), [("", 0), ("::1", 1)])
def test_only_the_wildcard_takes_both_families(host: str, only: int) -> None:
    with bound(host) as (sock,):
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == only


@pytest.mark.parametrize("host", ["", "localhost"])
@pytest.mark.parametrize("family", [V4, V6])
def test_one_family_only(host: str, family: int) -> None:
    addresses = bind_addresses(host, 0, family=family)
    assert addresses is not None
    (sock,) = bind_udp_sockets(addresses)
    with sock:
        assert sock.family == family
        if family == V6:
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


@pytest.mark.parametrize(("host", "family"), [("::1", V4), ("127.0.0.1", V6)])
def test_address_of_the_other_family_is_refused(host: str, family: int) -> None:
    with pytest.raises(ServerError, match="ip_family"):
        bind_addresses(host, 0, family=family)


def test_a_name_is_for_the_resolver() -> None:
    assert bind_addresses("server.test", 1) is None


@pytest.mark.parametrize("port", [-1, 65536])
def test_port_out_of_range(port: int) -> None:
    with pytest.raises(ServerError, match=r"0 .* to 65535") as caught:
        bind_addresses("127.0.0.1", port)
    assert caught.value.bind_address == ("127.0.0.1", port)


def test_taken_port_is_named_and_nothing_stays_open() -> None:
    with bound("127.0.0.1") as (sock,):
        address = sock.getsockname()
        addresses = [BindAddress(V6, ("::1", address[1], 0, 0)), BindAddress(V4, address)]
        with pytest.raises(ServerError, match="choose another port") as caught:
            bind_udp_sockets(addresses)
        assert caught.value.bind_address == address
        assert caught.value.details["errno"] == 98


def test_several_processes_may_share_a_port_on_request() -> None:
    for host in ("127.0.0.1", "::1", "::"):
        with bound(host) as (first,):
            with pytest.raises(ServerError, match="choose another port"):
                bind_shared(first)
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with bind_shared(first) as second:
                assert second.getsockname() == first.getsockname()
                assert second.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


def test_address_of_another_machine() -> None:
    with pytest.raises(ServerError, match="no such address"):
        bind_udp_sockets([BindAddress(V4, ("192.0.2.1", 0))])


def test_missing_optional_address_is_left_out() -> None:
    absent = BindAddress(V4, ("192.0.2.1", 0), optional=True)
    sockets = bind_udp_sockets([BindAddress(V4, ("127.0.0.1", 0)), absent])
    assert len(sockets) == 1
    sockets[0].close()
    with pytest.raises(ServerError, match=r"192\.0\.2\.1"):
        bind_udp_sockets([absent, absent])


def test_random_port_is_chosen_again_when_it_is_taken_elsewhere() -> None:
    """Some ports are taken on the second address only; the pair still gets one in common."""
    with contextlib.ExitStack() as stack:
        taken = set()
        for _ in range(200):
            sock = stack.enter_context(socket.socket(V6, socket.SOCK_DGRAM))
            sock.bind(("::1", 0))
            taken.add(sock.getsockname()[1])
        for _ in range(50):
            with bound("localhost") as sockets:
                ports = {sock.getsockname()[1] for sock in sockets}
                assert len(sockets) == 2
                assert len(ports) == 1
                assert not ports & taken


def test_same_port_is_given_up_after_a_while() -> None:
    with bound("127.0.0.1") as (sock,):
        host = sock.getsockname()[0]
        # The second address is the first one again: never free.
        twice = [BindAddress(V4, (host, 0)), BindAddress(V4, (host, 0))]
        with pytest.raises(ServerError, match="in use"):
            bind_udp_sockets(twice)


@pytest.mark.parametrize(("family", "host"), [(V4, "0.0.0.0"), (V6, "::")])
def test_client_socket_has_any_address(family: int, host: str) -> None:
    with open_udp_socket(family) as sock:
        assert sock.getsockname()[0] == host
        assert sock.getsockname()[1] > 0
        assert not sock.getblocking()


def test_client_socket_on_an_address_that_is_not_ours() -> None:
    with pytest.raises(UnreachableError, match=r"192\.0\.2\.1:0") as caught:
        open_udp_socket(V4, ("192.0.2.1", 0))
    assert caught.value.details["local_address"] == ("192.0.2.1", 0)


# ----------------------------------------------------------------------- resolving


async def test_literals_resolve_to_themselves() -> None:
    assert await resolve("127.0.0.1", 5) == [RemoteAddress(V4, ("127.0.0.1", 5))]
    for host in ("::1", "[::1]"):
        assert await resolve(host, 5) == [RemoteAddress(V6, ("::1", 5, 0, 0))]
    assert await resolve("localhost", 5, family=V4) == [RemoteAddress(V4, ("127.0.0.1", 5))]


@pytest.mark.parametrize("host", ["name.invalid", "", "x" * 70 + ".test", "::1::1"])
async def test_name_without_an_address(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_network(*arguments: object, **options: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", no_network, raising=False)
    with pytest.raises(UnreachableError, match="cannot resolve host") as caught:
        await resolve(host, 443)
    assert caught.value.details == {"host": host, "port": 443, "errno": socket.EAI_NONAME}


async def test_families_alternate_beginning_with_the_preferred() -> None:
    from pywebtransport._loop.resolve import _interleave

    def address(family: int, number: int) -> RemoteAddress:
        return RemoteAddress(family, (str(number), 1))

    six = [address(V6, number) for number in range(3)]
    four = [address(V4, 9)]
    assert _interleave([*six, *four]) == [six[0], four[0], six[1], six[2]]
    assert _interleave([*four, *six]) == [four[0], six[0], six[1], six[2]]


# ------------------------------------------------------------------------ staggered

A, B, C = (RemoteAddress(V4, (f"192.0.2.{number}", 1)) for number in (1, 2, 3))
NEVER = 3600.0


class Attempts:
    """Attempts that end when the test says so."""

    def __init__(self) -> None:
        self.running: dict[RemoteAddress, asyncio.Future[str]] = {}
        self.cancelled: list[RemoteAddress] = []
        self.started = asyncio.Event()

    async def __call__(self, address: RemoteAddress) -> str:
        future = self.running[address] = asyncio.get_running_loop().create_future()
        self.started.set()
        try:
            return await future
        except asyncio.CancelledError:
            self.cancelled.append(address)
            raise

    async def wait_for(self, address: RemoteAddress) -> asyncio.Future[str]:
        while address not in self.running:
            self.started.clear()
            await self.started.wait()
        return self.running[address]


async def test_first_address_wins_and_nobody_else_starts() -> None:
    attempts = Attempts()
    task = asyncio.create_task(connect_staggered([A, B], attempts, delay=NEVER))
    (await attempts.wait_for(A)).set_result("a")
    assert await task == "a"
    assert list(attempts.running) == [A]


async def test_failure_starts_the_next_at_once() -> None:
    attempts = Attempts()
    task = asyncio.create_task(connect_staggered([A, B], attempts, delay=NEVER))
    (await attempts.wait_for(A)).set_exception(UnreachableError("refused"))
    (await attempts.wait_for(B)).set_result("b")
    assert await task == "b"


async def test_slow_attempt_goes_on_while_the_next_runs_and_loses() -> None:
    attempts = Attempts()
    task = asyncio.create_task(connect_staggered([A, B, C], attempts, delay=0.0))
    for address in (A, B, C):
        await attempts.wait_for(address)
    attempts.running[B].set_result("b")
    assert await task == "b"
    assert attempts.cancelled == [A, C]


async def test_slow_attempt_may_still_win() -> None:
    attempts = Attempts()
    task = asyncio.create_task(connect_staggered([A, B], attempts, delay=0.0))
    await attempts.wait_for(B)
    attempts.running[A].set_result("a")
    assert await task == "a"
    assert attempts.cancelled == [B]


async def test_all_failures_are_told() -> None:
    attempts = Attempts()
    task = asyncio.create_task(connect_staggered([A, B], attempts, delay=0.0))
    (await attempts.wait_for(B)).set_exception(UnreachableError("second"))
    attempts.running[A].set_exception(UnreachableError("first"))
    with pytest.raises(UnreachableError, match="first") as caught:
        await task
    assert [item["error"] for item in caught.value.details["attempts"]] == ["first", "second"]
    assert caught.value.details["attempts"][1]["address"] == "192.0.2.2 port 1"


async def test_cancellation_cancels_every_attempt() -> None:
    attempts = Attempts()
    task = asyncio.create_task(connect_staggered([A, B], attempts, delay=0.0))
    await attempts.wait_for(B)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert attempts.cancelled == [A, B]


async def test_second_winner_is_closed() -> None:
    closed: list[str] = []

    class Result:
        def __init__(self, name: str) -> None:
            self.name = name

        def close(self) -> None:
            closed.append(self.name)

    gate = asyncio.Event()
    second_started = asyncio.Event()

    async def attempt(address: RemoteAddress) -> Result:
        if address == B:
            second_started.set()
        await gate.wait()
        return Result(address.sockaddr[0])

    task = asyncio.create_task(connect_staggered([A, B], attempt, delay=0.0))
    await second_started.wait()
    gate.set()
    winner = await task
    assert winner.name == A.sockaddr[0]
    assert closed == [B.sockaddr[0]]


async def test_a_single_address_needs_no_task() -> None:
    attempts = Attempts()
    before = len(asyncio.all_tasks())
    task = asyncio.create_task(connect_staggered([A], attempts))
    future = await attempts.wait_for(A)
    assert len(asyncio.all_tasks()) == before + 1
    future.set_exception(UnreachableError("no"))
    with pytest.raises(UnreachableError, match="no"):
        await task
