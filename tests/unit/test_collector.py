"""When the policy ``server`` freezes, and when it collects everything."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from weakref import ref

import pytest

from pywebtransport.server import _collector as module
from pywebtransport.server._collector import Collector, frozen
from tests.support.memory import Memory


class Server:
    """So many sessions, and so many that are over."""

    def __init__(self) -> None:
        self.open_session_count = 0
        self.sessions_over = 0

    def change(self, live: int, over: int) -> None:
        self.open_session_count = live
        self.sessions_over = over


class Clock:
    """Time and processor time that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.cpu = 0.0

    def tick(self, seconds: float, cpu: float = 0.0) -> None:
        self.now += seconds
        self.cpu += cpu


class Knot:
    """Garbage that only the collector can find."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def frozen_suite() -> Iterator[None]:
    """What the tests have frozen for their own sake is so again afterwards."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def policy(clock: Clock, server: Server) -> Iterator[Collector]:
    policy = Collector(clock=lambda: clock.now, cpu=lambda: clock.cpu)
    policy.join(server)
    yield policy
    policy.leave(server)


def leave_garbage() -> ref[Knot]:
    """A cycle that is frozen and then becomes garbage."""
    knot = Knot()
    gc.freeze()
    return ref(knot)


def test_everything_is_frozen_while_a_server_takes_part() -> None:
    gc.unfreeze()
    policy, first, second = Collector(), Server(), Server()
    assert not policy.is_active
    before, thresholds = gc.callbacks.copy(), gc.get_threshold()
    for server in (first, second):
        policy.join(server)
    assert policy.is_active
    assert len(gc.callbacks) == len(before) + 1
    frozen_then = gc.get_freeze_count()
    assert frozen_then > 10_000  # the modules of this process
    policy.leave(first)
    assert gc.get_freeze_count() > 10_000
    policy.leave(second)
    policy.leave(second)
    assert gc.get_freeze_count() == 0
    assert gc.callbacks == before
    assert gc.get_threshold() == thresholds
    assert not policy.is_active


def test_what_grows_is_frozen_by_the_collection_that_found_it_alive(policy: Collector) -> None:
    """What a full collection took long for is not looked at again."""
    freezes, before = policy.freezes, gc.get_freeze_count()
    gc.collect()
    assert policy.freezes == freezes  # there is next to nothing to look at
    gc.disable()  # or the last of them may be too few to be worth it, and add up later
    try:
        kept = [[number] for number in range(300_000)]
    finally:
        gc.enable()
    gc.collect()
    grown = policy.freezes
    assert grown > freezes
    assert gc.get_freeze_count() >= before + len(kept)
    gc.collect()
    assert policy.freezes == grown


def test_what_is_frozen_is_freed_with_its_last_reference(policy: Collector) -> None:
    kept = [Server() for _ in range(1000)]
    gc.freeze()
    weak = [ref(one) for one in kept]
    kept.clear()
    assert not any(one() for one in weak)


def test_everything_is_collected_when_as_many_have_ended_as_are_open(
    policy: Collector, clock: Clock, server: Server
) -> None:
    garbage = leave_garbage()
    gc.collect()
    assert garbage() is not None
    server.change(live=5000, over=4999)
    clock.tick(100_000 / 50)
    policy.look()
    assert garbage() is not None
    server.change(live=5000, over=5000)
    clock.tick(2)
    policy.look()
    assert garbage() is None
    assert policy.collections == 1
    assert gc.get_freeze_count() > 10_000  # what lives is frozen again
    clock.tick(2000)
    policy.look()
    assert policy.collections == 1


def test_a_few_sessions_are_not_worth_it_but_once_in_an_hour(
    policy: Collector, clock: Clock, server: Server
) -> None:
    server.change(live=0, over=999)
    clock.tick(3000)
    policy.look()
    assert policy.collections == 0
    clock.tick(1000)
    policy.look()
    assert policy.collections == 1
    clock.tick(4000)
    policy.look()
    assert policy.collections == 1  # nothing has ended since


def test_a_busy_process_waits(policy: Collector, clock: Clock, server: Server) -> None:
    clock.tick(100)
    policy.look()
    server.change(live=1000, over=2000)
    for _ in range(5):
        clock.tick(1, cpu=0.9)
        policy.look()
    assert policy.collections == 0
    clock.tick(1, cpu=0.1)
    policy.look()
    assert policy.collections == 1
    # Not for ever.
    server.change(live=1000, over=6000)
    clock.tick(1000, cpu=900)
    policy.look()
    assert policy.collections == 2


def test_a_thousandth_of_the_time_at_most(policy: Collector, clock: Clock, server: Server) -> None:
    """How long the collections took that were followed by a freeze is what one would take."""
    kept = [[number] for number in range(300_000)]
    gc.collect()
    assert policy._cost > 0.001
    server.change(live=5000, over=0)
    clock.tick(1)
    policy.look()
    server.change(live=5000, over=5000)
    clock.tick(policy._cost * 1000 - 1.5)
    policy.look()
    assert policy.collections == 0
    clock.tick(2)
    policy.look()
    assert policy.collections == 1
    assert len(kept) == 300_000


def test_an_application_without_the_collector_stays_without(
    policy: Collector, clock: Clock, server: Server
) -> None:
    gc.disable()
    try:
        server.change(live=0, over=5000)
        clock.tick(10_000)
        policy.look()
    finally:
        gc.enable()
    assert policy.collections == 0


def test_memory_goes_back_after_a_peak(policy: Collector, clock: Clock, server: Server) -> None:
    if module._find_malloc_trim() is None:
        pytest.skip("the C library has no malloc_trim")
    server.change(live=4000, over=0)
    clock.tick(1)
    policy.look()
    libc = ctypes.CDLL(None)
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    # As after sessions: most of it is free, but not the end of the heap.
    blocks = [libc.malloc(1000) for _ in range(64_000)]
    for block in blocks:
        ctypes.memset(block, 1, 1000)
    for block in blocks[:-1]:
        libc.free(block)
    before = Memory.now().resident
    server.change(live=2001, over=4000)
    clock.tick(1000)
    policy.look()
    assert policy.trims == 0
    server.change(live=2000, over=8000)
    clock.tick(1000)
    policy.look()
    assert policy.trims == 1
    assert Memory.now().resident < before - 32_000_000
    libc.free(blocks[-1])
    server.change(live=1500, over=16_000)
    clock.tick(1000)
    policy.look()
    assert policy.trims == 1  # the peak is that of the time since


def test_workers_get_what_is_frozen() -> None:
    gc.unfreeze()
    with frozen(False):
        assert gc.get_freeze_count() == 0
    with frozen(True):
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0


async def test_a_server_that_closes_has_nothing_collected_for_it() -> None:
    """Its sessions end by thousands; a collection of everything would hold up the others."""
    server = Server()
    seat = module.CollectorSeat(server)
    try:
        timer = seat._timer
        assert not timer.cancelled()
        seat.rest()
        assert timer.cancelled()
        assert module.collector.is_active  # what is frozen stays so
    finally:
        seat.close()
    assert not module.collector.is_active
