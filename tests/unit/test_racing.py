"""QUIC against TCP: what starts when, what ends the race, what is remembered."""

from __future__ import annotations

import asyncio
import errno
import math
import pickle
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pywebtransport import ClientConfig
from pywebtransport.client._racing import Memory, Race, join_errors, run_race
from pywebtransport.exceptions import (
    CertificateError,
    CertificateHashError,
    ClientError,
    ConfigurationError,
    ConnectionError,
    HandshakeError,
    ProxyError,
    SessionRejectedError,
    TimeoutError,
    UnreachableError,
    WebTransportError,
    is_fatal_error,
    is_retriable_error,
)

REFUSED = {"errno": errno.ECONNREFUSED}
# Errors of QUIC after which TCP is tried at once.
OF_THE_NETWORK = [
    UnreachableError("refused", details=REFUSED),
    UnreachableError("no route", details={"errno": errno.EHOSTUNREACH}),
    UnreachableError("no network", details={"errno": errno.ENETUNREACH}),
    UnreachableError("a firewall", details={"errno": errno.EPERM}),
    UnreachableError("no such name", details={"host": "h", "errno": -2}),
    TimeoutError("silence", operation="handshake"),
]
# And those after which it is not.
FINAL = [
    CertificateError("expired"),
    CertificateHashError("another one"),
    HandshakeError("no common ALPN", error_code=0x178),
    UnreachableError("busy", error_code=2),
    UnreachableError("no descriptors", details={"errno": errno.EMFILE}),
    ConnectionError("closed", error_code=0x100),
    SessionRejectedError(status_code=403),
    ConfigurationError("wrong"),
    ClientError("closed"),
    ZeroDivisionError("a mistake"),
]


# ------------------------------------------------------------------------ decisions


def test_tcp_starts_after_the_delay_and_once() -> None:
    race = Race(100.0, 0.5)
    assert not race.starts_tcp(100.0)
    assert race.wait(100.0) == 0.5
    assert not race.starts_tcp(100.4)
    assert race.wait(100.4) == pytest.approx(0.1)
    assert race.starts_tcp(100.5)
    assert not race.starts_tcp(200.0)
    assert race.wait(100.5) is None


def test_without_a_delay_tcp_starts_at_once() -> None:
    race = Race(7.0, 0.0)
    assert race.starts_tcp(7.0)


@pytest.mark.parametrize("error", OF_THE_NETWORK, ids=str)
def test_tcp_starts_when_the_network_fails_quic(error: BaseException) -> None:
    race = Race(0.0, 0.5)
    race.fail("QUIC", error, 0.1)
    assert not race.is_lost
    assert race.wait(0.1) == 0.0
    assert race.starts_tcp(0.1)
    assert not race.starts_tcp(0.5)
    race.fail("TCP", UnreachableError("refused", details=REFUSED), 0.2)
    assert race.is_lost


@pytest.mark.parametrize("error", FINAL, ids=str)
@pytest.mark.parametrize("tcp_runs", [False, True])
def test_an_answer_to_quic_ends_the_race(error: BaseException, tcp_runs: bool) -> None:
    race = Race(0.0, 0.5)
    if tcp_runs:
        assert race.starts_tcp(0.5)
    race.fail("QUIC", error, 0.6)
    assert race.is_lost
    assert race.error() is error
    assert not race.starts_tcp(math.inf)


@pytest.mark.parametrize(
    "error", [CertificateError("expired"), CertificateHashError("another"), ZeroDivisionError()]
)
def test_a_wrong_certificate_on_tcp_ends_the_race(error: BaseException) -> None:
    race = Race(0.0, 0.0)
    assert race.starts_tcp(0.0)
    race.fail("TCP", error, 0.1)
    assert race.is_lost
    assert race.error() is error


@pytest.mark.parametrize(
    "error",
    [
        UnreachableError("refused", details=REFUSED),
        TimeoutError("silence"),
        HandshakeError("no TLS there"),
        ProxyError("the proxy refused", status_code=407),
    ],
    ids=str,
)
def test_quic_may_still_win_when_tcp_failed(error: BaseException) -> None:
    race = Race(0.0, 0.0)
    assert race.starts_tcp(0.0)
    race.fail("TCP", error, 0.1)
    assert not race.is_lost
    race.fail("QUIC", TimeoutError("silence", operation="handshake"), 30.0)
    assert race.is_lost
    assert not race.starts_tcp(31.0)


# --------------------------------------------------------------------------- errors


def test_the_error_of_a_lost_race_has_both() -> None:
    race = Race(0.0, 0.0)
    race.starts_tcp(0.0)
    race.fail("QUIC", TimeoutError("no UDP", operation="handshake"), 1.0)
    race.fail("TCP", UnreachableError("port closed", details=REFUSED), 2.0)
    error = race.error()
    assert isinstance(error, UnreachableError)
    assert str(error) == "by QUIC: no UDP; by TCP: port closed"
    assert error.details["transports"] == [
        {"transport": "QUIC", "type": "TimeoutError", "error": "no UDP", "retriable": True},
        {
            "transport": "TCP",
            "type": "UnreachableError",
            "error": "port closed",
            "retriable": True,
        },
    ]
    assert is_retriable_error(error)
    assert pickle.loads(pickle.dumps(error)).message == error.message


def test_addresses_of_each_are_listed() -> None:
    attempts = [{"address": "::1", "retriable": True}, {"address": "127.0.0.1", "retriable": True}]
    several = UnreachableError("refused", details={**REFUSED, "attempts": attempts})
    error = join_errors([("QUIC", several), ("TCP", TimeoutError("silence"))])
    assert error is several
    quic, tcp = error.details["transports"]
    assert quic["attempts"] == attempts
    assert "attempts" not in tcp


@pytest.mark.parametrize(
    "fatal",
    [HandshakeError("no TLS there"), ProxyError("no", status_code=407), CertificateError("old")],
    ids=str,
)
def test_a_transport_that_may_work_later_makes_it_worth_another_try(
    fatal: WebTransportError,
) -> None:
    """A reconnecting client gives up after a fatal error."""
    silence = TimeoutError("no UDP", operation="handshake")
    error = join_errors([("QUIC", silence), ("TCP", fatal)])
    assert error is silence
    assert not is_fatal_error(silence)
    assert is_retriable_error(silence)
    assert str(fatal) in str(silence)
    assert join_errors([("QUIC", HandshakeError("m")), ("TCP", fatal)]).details["transports"]


def test_one_error_stays_as_it_is() -> None:
    alone = TimeoutError("m")
    assert join_errors([("QUIC", alone)]) is alone
    assert alone.details == {}


# --------------------------------------------------------------------------- memory


def test_a_win_of_tcp_counts_for_ten_minutes() -> None:
    memory, origin = Memory(), ("a.example", 443)
    assert not memory.prefers_tcp(origin, 0.0)
    memory.record(origin, "TCP", 1000.0)
    assert memory.prefers_tcp(origin, 1600.0)
    assert not memory.prefers_tcp(origin, 1600.1)
    assert not memory.prefers_tcp(("a.example", 444), 1000.0)
    memory.record(origin, "TCP", 1500.0)
    assert memory.prefers_tcp(origin, 2100.0)


def test_a_win_of_quic_makes_it_forget() -> None:
    memory, origin = Memory(), ("a.example", 443)
    memory.record(origin, "TCP", 0.0)
    memory.record(origin, "QUIC", 1.0)
    assert not memory.prefers_tcp(origin, 1.0)
    assert len(memory) == 0


def test_the_memory_is_bounded_and_the_newest_stay() -> None:
    memory = Memory()
    for port in range(1, 1001):
        memory.record(("a.example", 1), "TCP", float(port))
        memory.record(("b.example", port), "TCP", float(port))
    assert len(memory) == 256
    assert memory.prefers_tcp(("a.example", 1), 1000.0)
    assert memory.prefers_tcp(("b.example", 1000), 1000.0)
    assert not memory.prefers_tcp(("b.example", 1), 1000.0)


# -------------------------------------------------------------------------- running


class Lanes:
    """Attempts that take some time of the virtual clock; remembers when each began and ended."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self.ended: list[str] = []
        self.closed: list[str] = []
        self.failed: list[str] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self._began = asyncio.get_running_loop().time()

    def now(self) -> float:
        return round(asyncio.get_running_loop().time() - self._began, 3)

    def lane(
        self, name: str, seconds: float, error: BaseException | None = None
    ) -> Callable[[], Coroutine[Any, Any, str]]:
        async def attempt() -> str:
            self.times[name] = self.now()
            try:
                await asyncio.sleep(seconds)
                if error is not None:
                    raise error
                return name
            finally:
                self.ended.append(name)

        return attempt

    async def run(
        self,
        quic: Callable[[], Coroutine[Any, Any, str]],
        tcp: Callable[[], Coroutine[Any, Any, str]],
        delay: float = ClientConfig().fallback_delay,
    ) -> str | None:
        return await run_race(
            quic,
            tcp,
            delay=delay,
            discard=self.closed.append,
            tasks=self.tasks,
            failed=lambda lane, error: self.failed.append(lane),
        )


virtual = pytest.mark.loops("virtual")


@virtual
async def test_quic_alone_if_it_is_fast() -> None:
    lanes = Lanes()
    assert await lanes.run(lanes.lane("quic", 0.4), lanes.lane("tcp", 0.1)) is None
    assert lanes.times == {"quic": 0.0}
    assert lanes.now() == 0.4
    assert not lanes.tasks


@virtual
async def test_tcp_wins_when_quic_is_silent() -> None:
    lanes = Lanes()
    assert await lanes.run(lanes.lane("quic", 1e6), lanes.lane("tcp", 0.1)) == "tcp"
    assert lanes.times == {"quic": 0.0, "tcp": 0.5}
    assert lanes.now() == 0.6
    assert lanes.ended == ["tcp", "quic"]
    assert lanes.closed == []
    assert not lanes.tasks


@virtual
async def test_slow_quic_wins_against_slower_tcp() -> None:
    lanes = Lanes()
    assert await lanes.run(lanes.lane("quic", 0.8), lanes.lane("tcp", 1.0)) is None
    assert lanes.now() == 0.8
    assert lanes.ended == ["quic", "tcp"]


@virtual
async def test_tcp_starts_at_once_when_udp_is_refused() -> None:
    lanes = Lanes()
    quic = lanes.lane("quic", 0.01, UnreachableError("refused", details=REFUSED))
    assert await lanes.run(quic, lanes.lane("tcp", 0.1)) == "tcp"
    assert lanes.times["tcp"] == 0.01
    assert lanes.now() == 0.11
    assert lanes.failed == ["QUIC"]


@virtual
async def test_both_start_together_without_a_delay() -> None:
    lanes = Lanes()
    assert await lanes.run(lanes.lane("quic", 1e6), lanes.lane("tcp", 0.1), 0.0) == "tcp"
    assert lanes.times == {"quic": 0.0, "tcp": 0.0}


@virtual
async def test_quic_is_preferred_if_both_are_done() -> None:
    lanes = Lanes()
    assert await lanes.run(lanes.lane("quic", 0), lanes.lane("tcp", 0), 0.0) is None
    assert lanes.closed == ["tcp"]


@virtual
async def test_nothing_is_started_after_a_certificate_failure() -> None:
    lanes = Lanes()
    with pytest.raises(CertificateError):
        await lanes.run(
            lanes.lane("quic", 0.1, CertificateError("expired")), lanes.lane("tcp", 0.1)
        )
    assert lanes.times == {"quic": 0.0}
    assert lanes.now() == 0.1


@virtual
async def test_quic_goes_on_when_tcp_failed() -> None:
    lanes = Lanes()
    tcp = lanes.lane("tcp", 0.1, UnreachableError("refused", details=REFUSED))
    assert await lanes.run(lanes.lane("quic", 5.0), tcp) is None
    assert lanes.now() == 5.0
    # From 0.5 on, with pauses of 0.25, 0.5, 1 and 2 seconds.
    assert lanes.failed == ["TCP"] * 5


@virtual
async def test_both_fail() -> None:
    lanes = Lanes()
    quic = lanes.lane("quic", 3.0, TimeoutError("silence", operation="handshake"))
    tcp = lanes.lane("tcp", 0.1, UnreachableError("refused", details=REFUSED))
    with pytest.raises(UnreachableError, match="by QUIC: silence; by TCP: refused"):
        await lanes.run(quic, tcp)
    assert lanes.now() == 3.0
    assert lanes.failed == [*["TCP"] * 4, "QUIC"]


@virtual
async def test_a_server_that_comes_back_is_found_by_tcp() -> None:
    lanes = Lanes()
    attempts = [
        lanes.lane("tcp", 0.1, UnreachableError("refused", details=REFUSED)),
        lanes.lane("tcp", 0.1, UnreachableError("refused", details=REFUSED)),
        lanes.lane("tcp", 0.1),
    ]
    assert await lanes.run(lanes.lane("quic", 1e6), lambda: attempts.pop(0)()) is not None
    assert lanes.now() == pytest.approx(0.5 + 0.1 + 0.25 + 0.1 + 0.5 + 0.1)
    assert lanes.failed == ["TCP"] * 2


@virtual
async def test_tcp_is_not_asked_again_after_an_answer() -> None:
    lanes = Lanes()
    tcp = lanes.lane("tcp", 0.1, ProxyError("the proxy refused", status_code=407))
    assert await lanes.run(lanes.lane("quic", 5.0), tcp) is None
    assert lanes.failed == ["TCP"]


@virtual
@pytest.mark.parametrize("moment", [0.0, 0.3, 0.55, 0.7])
async def test_cancellation_ends_both(moment: float) -> None:
    lanes = Lanes()
    task = asyncio.ensure_future(lanes.run(lanes.lane("quic", 1e6), lanes.lane("tcp", 1e6)))
    await asyncio.sleep(moment)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lanes.ended == list(lanes.times)
    assert not lanes.tasks


@virtual
async def test_cancellation_in_the_turn_of_the_win_closes_the_winner() -> None:
    lanes = Lanes()

    async def stubborn() -> str:
        """A QUIC attempt whose end takes time."""
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(1)
        return "quic"

    task = asyncio.ensure_future(lanes.run(stubborn, lanes.lane("tcp", 0.1)))
    await asyncio.sleep(0.7)  # TCP has won, QUIC is about to end
    assert lanes.ended == ["tcp"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lanes.closed == ["tcp"]
    await asyncio.sleep(2)


@virtual
async def test_cancelling_the_attempts_ends_the_race() -> None:
    """As ``WebTransportClient.close`` does."""
    lanes = Lanes()
    race = asyncio.ensure_future(lanes.run(lanes.lane("quic", 1e6), lanes.lane("tcp", 1e6)))
    await asyncio.sleep(0.6)
    assert len(lanes.tasks) == 2
    for task in lanes.tasks:
        task.cancel()
    with pytest.raises(ClientError, match="cancelled"):
        await race
    assert lanes.now() == 0.6


@virtual
@pytest.mark.limit(1e9)
async def test_both_start_together_for_ten_minutes() -> None:
    memory, origin = Memory(), ("a.example", 443)
    loop = asyncio.get_running_loop()

    async def start_of_tcp(quic_takes: float = 1e6) -> float | None:
        """Race, note who won, and tell when TCP began."""
        lanes = Lanes()
        delay = memory.delay(origin, ClientConfig().fallback_delay, loop.time())
        link = await lanes.run(lanes.lane("quic", quic_takes), lanes.lane("tcp", 0.1), delay)
        memory.record(origin, "QUIC" if link is None else "TCP", loop.time())
        return lanes.times.get("tcp")

    assert await start_of_tcp() == 0.5
    for _ in range(3):
        await asyncio.sleep(599)
        assert await start_of_tcp() == 0.0
    await asyncio.sleep(601)
    assert await start_of_tcp() == 0.5
    assert await start_of_tcp(quic_takes=0.05) == 0.0  # UDP is open again
    assert await start_of_tcp(quic_takes=0.05) is None
