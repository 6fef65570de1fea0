"""Steering: the tables that say which worker gets a packet, and the kernel filter for them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["MAX_SEATS", "Steering", "steering_program"]

# The number of a slot is one byte of a connection ID.
MAX_SEATS = 256

# The instructions of a filter, <linux/filter.h>.
_LOAD_BYTE = 0x30
_LOAD_BYTE_AT_X = 0x50
_LOAD_WORD_AT_X = 0x40
_SET_X = 0x01
_JUMP = 0x05
_JUMP_IF_SET = 0x45
_JUMP_IF_EQUAL = 0x15
_JUMP_IF_ABOVE = 0x25
_JUMP_IF_AT_LEAST = 0x35
_DIVIDE = 0x34
_MODULO = 0x94
_GIVE = 0x06
_GIVE_LOADED = 0x16
# No socket has this number, so the kernel chooses by address.
_NOBODY = 0xFFFFFFFF


@dataclass(frozen=True)
class Steering:
    """Where packets go, by the number of each worker's slot.

    The connection IDs that a worker issues begin with the number of its slot. If a client chose the
    ID, bytes 1 to 4 of it select a place, and the current worker of that place gets the client.
    Clients of a place without a worker are shared among all workers that take new clients. So
    clients of the other workers do not move when a worker leaves. The engine applies the same rule
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


def steering_program(steering: Steering) -> bytes:
    """Return a classic BPF program that computes the slot number for a UDP payload.

    The connection ID begins at byte 1 of a packet with a short header and at byte 6 of one with a
    long header (RFC 8999 section 5). A client's choice is at least 8 bytes long (RFC 9000 section
    7.2).

    Args:
        steering: The tables.
    """
    places = len(steering.homes)
    takers = steering.open
    code: list[tuple[int, int, int, int]] = [
        (_LOAD_BYTE, 0, 0, 0),
        (_JUMP_IF_SET, 2, 0, 0x80),
        (_SET_X, 0, 0, 1),
        (_JUMP, 0, 0, 1),
        (_SET_X, 0, 0, 6),
        (_LOAD_BYTE_AT_X, 0, 0, 0),
    ]
    for low, high in _ranges(sorted(steering.alive)):
        code += [
            (_JUMP_IF_AT_LEAST, 0, 2, low),
            (_JUMP_IF_ABOVE, 1, 0, high),
            (_GIVE_LOADED, 0, 0, 0),
        ]
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
