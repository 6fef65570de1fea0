"""Steering: the tables that say which worker gets a packet, and the kernel filter for them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["MAX_SEATS", "LbConfig", "Steering", "steering_program"]

# The number of a slot is one byte of a connection ID.
MAX_SEATS = 256

# The instructions of a filter, <linux/filter.h>.
_LOAD_BYTE = 0x30
_LOAD_BYTE_AT_X = 0x50
_LOAD_WORD_AT_X = 0x40
_SET_X = 0x01
_LOAD_HALF_AT_X = 0x48
_JUMP = 0x05
_JUMP_IF_SET = 0x45
_JUMP_IF_EQUAL = 0x15
_JUMP_IF_ABOVE = 0x25
_JUMP_IF_AT_LEAST = 0x35
_DIVIDE = 0x34
_MODULO = 0x94
_GIVE = 0x06
_GIVE_LOADED = 0x16
# Bytes of a connection ID: least and most, and random ones behind what is read.
_SHORTEST = 8
_LONGEST = 18
_RANDOM = 4
# No socket has this number, so the kernel chooses by address.
_NOBODY = 0xFFFFFFFF


@dataclass(frozen=True)
class LbConfig:
    """The form of connection IDs that a balancer routes (draft-ietf-quic-load-balancers).

    A byte with the configuration in its upper three bits and the length in the others, the ID of
    the server, the number of the worker if there are several, and at least four random bytes.

    Attributes:
        server_id: 1 to 13 bytes, 12 with workers.
        config_id: 0 to 6.
    """

    server_id: bytes
    config_id: int = 0

    @property
    def cid_length(self) -> int:
        """How many bytes the connection IDs of the server have."""
        return min(max(_SHORTEST, 2 + len(self.server_id) + _RANDOM), _LONGEST)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the engine."""
        return {
            "cid_len": self.cid_length,
            "lb_server_id": self.server_id,
            "lb_config": self.config_id,
        }


@dataclass(frozen=True)
class Steering:
    """Where packets go, by the number of each worker's slot.

    The connection IDs that a worker issues begin with the number of its slot, behind a balancer
    after the ID of the server (``LbConfig``). If a client chose the ID, bytes 1 to 4 of it select
    a place, and the current worker of that place gets the client. Clients of a place without a
    worker are shared among all workers that take new clients. So clients of the other workers do
    not move when a worker leaves. The engine applies the same rule
    to packets that arrive at the wrong worker.

    Attributes:
        homes: For each place, the slot that takes its new clients; None if there is none.
        alive: Slots whose worker has, or may have, connections.
        ends: All workers are leaving and none will follow: new clients are refused. Otherwise, a
            worker that takes no new clients leaves them to others, including future workers.
    """

    homes: tuple[int | None, ...]
    alive: frozenset[int]
    ends: bool = False

    @classmethod
    def initial(cls, count: int) -> Steering:
        """Return the tables in which every place has its own slot."""
        return cls(tuple(range(count)), frozenset(range(count)))

    @property
    def open(self) -> list[int]:
        """The slots that take new clients."""
        return [seat for seat in self.homes if seat is not None]

    @property
    def alive_table(self) -> bytes:
        """One byte for each possible slot."""
        return bytes(seat in self.alive for seat in range(MAX_SEATS))

    def ended(self) -> Steering:
        """Return the tables for the same workers when all of them are leaving."""
        return Steering((None,) * len(self.homes), self.alive, ends=True)

    def taker(self, payload: bytes) -> int | None:
        """Return the slot for a packet whose worker has ended; None if none takes new clients.

        Args:
            payload: A UDP payload.
        """
        takers = self.open
        start = 7 if payload[0] & 0x80 else 2
        if not takers or len(payload) < start + 4:
            return takers[0] if takers else None
        word = int.from_bytes(payload[start : start + 4], "big")
        places = len(self.homes)
        home = self.homes[word % places]
        return takers[word // places % len(takers)] if home is None else home


def steering_program(steering: Steering, lb: LbConfig | None = None) -> bytes:
    """Return a classic BPF program that computes the slot number for a UDP payload.

    The connection ID begins at byte 1 of a packet with a short header and at byte 6 of one with a
    long header (RFC 8999 section 5). A client's choice is at least 8 bytes long (RFC 9000 section
    7.2).

    Args:
        steering: The tables.
        lb: The form of the connection IDs behind a balancer. IDs of the plain form are understood,
            too: connections outlive a change of the configuration.
    """
    places = len(steering.homes)
    takers = steering.open
    code: list[tuple[int, int, int, int]] = [
        (_LOAD_BYTE, 0, 0, 0),
        (_JUMP_IF_SET, 2, 0, 0x80),
        (_SET_X, 0, 0, 1),
        (_JUMP, 0, 0, 1),
        (_SET_X, 0, 0, 6),
    ]
    if lb is not None:
        of_this_server = [(_LOAD_BYTE_AT_X, 0, 0, 1 + len(lb.server_id)), *_alive(steering)]
        code += _unless_of(lb, of_this_server)
    code += [(_LOAD_BYTE_AT_X, 0, 0, 0), *_alive(steering)]
    if takers:
        code += [(_LOAD_WORD_AT_X, 0, 0, 1), (_MODULO, 0, 0, places)]
        code += _table(steering.homes)
    if None in steering.homes and takers:
        code += [
            (_LOAD_WORD_AT_X, 0, 0, 1),
            (_DIVIDE, 0, 0, places),
            (_MODULO, 0, 0, len(takers)),
            *_table(takers),
        ]
    code.append((_GIVE, 0, 0, _NOBODY))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def _alive(steering: Steering) -> Iterator[tuple[int, int, int, int]]:
    """Return instructions that select the slot whose number is loaded, if it has a worker."""
    for low, high in _ranges(sorted(steering.alive)):
        yield (_JUMP_IF_AT_LEAST, 0, 2, low)
        yield (_JUMP_IF_ABOVE, 1, 0, high)
        yield (_GIVE_LOADED, 0, 0, 0)


def _unless_of(
    lb: LbConfig, then: list[tuple[int, int, int, int]]
) -> Iterator[tuple[int, int, int, int]]:
    """Return instructions that run others for the connection IDs of this server."""
    first = lb.config_id << 5 | lb.cid_length - 1
    tests = [(_LOAD_BYTE_AT_X, 0, first)]
    at = 1
    for load, size in ((_LOAD_WORD_AT_X, 4), (_LOAD_HALF_AT_X, 2), (_LOAD_BYTE_AT_X, 1)):
        while len(lb.server_id) + 1 - at >= size:
            value = int.from_bytes(lb.server_id[at - 1 : at - 1 + size], "big")
            tests.append((load, at, value))
            at += size
    left = 2 * len(tests) + len(then)
    for load, position, value in tests:
        left -= 2
        yield (load, 0, 0, position)
        yield (_JUMP_IF_EQUAL, 0, left, value)
    yield from then


def _table(seats: Sequence[int | None]) -> Iterator[tuple[int, int, int, int]]:
    """Return instructions that select the slot whose index is loaded, if there is one."""
    if list(seats) == list(range(len(seats))):
        yield (_GIVE_LOADED, 0, 0, 0)
        return
    for index, seat in enumerate(seats):
        if seat is not None:
            yield (_JUMP_IF_EQUAL, 0, 1, index)
            yield (_GIVE, 0, 0, seat)


def _ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Split sorted integers into runs, as (first, last)."""
    first = last = -1
    for number in numbers:
        if number != last + 1 or first < 0:
            if first >= 0:
                yield first, last
            first = number
        last = number
    if first >= 0:
        yield first, last
