"""Flow control of one session: how much each end may send, and the capsules for it.

Streams are counted here, bytes in the QUIC engine (``Group``), which tells a
:class:`SessionCredit` when credit is short, due, or overdrawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from .._transport import Group, Transport
from ._capsules import encode_number
from ._constants import MAX_SESSION_STREAMS, CapsuleType, Setting
from ._errors import LimitError
from ._flow import LocalStreams, PeerStreams, check_limit
from ._nothing import NOBODY
from ._options import H3Options
from ._varint import MAX_VARINT

__all__ = ["CreditEvents", "SessionCredit"]

_MAX_STREAMS: Final = (CapsuleType.WT_MAX_STREAMS_BIDI, CapsuleType.WT_MAX_STREAMS_UNI)
_STREAMS_BLOCKED: Final = (CapsuleType.WT_STREAMS_BLOCKED_BIDI, CapsuleType.WT_STREAMS_BLOCKED_UNI)
# After this many sent bytes, the peer has a reason to announce a new limit.
_LEAST_SENT: Final = 256


class CreditEvents(Protocol):
    """Events of a session's credit, for the session."""

    def credit_raised(self, kind: str, limit: int) -> None: ...
    def credit_violated(self, received: int, limit: int) -> None: ...


def _ignore(_: bytes) -> None: ...


class _Reasons:
    """Reasons for the peer's flow-control capsules, by kind.

    An honest peer raises a limit when this end has used credit, and reports being blocked
    once for each limit of ours.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def grew(self, kind: int, now: int | None, by: int = 1) -> bool:
        """Return whether a number has grown since the last justified capsule of this kind."""
        if now is None or now < self._last.get(kind, 0) + by:
            return False
        self._last[kind] = now
        return True

    def sent(self, now: int) -> bool:
        """As ``grew`` for the bytes that this end sent; a few bytes are no reason."""
        return self.grew(CapsuleType.WT_MAX_DATA, now, _LEAST_SENT)


class SessionCredit:
    """Credit of one session, both ways.

    Args:
        quic: Creates the session's group.
        options: Our windows.
        peer_settings: The peer's initial limits.
        enabled: Both ends enabled session flow control; otherwise, there are no limits.
        strict: Announcing an unchanged limit is an error, too.
        send: Sends capsules.
        events: Receives changes.
    """

    __slots__ = (
        "_events",
        "_over",
        "_reasons",
        "_send",
        "_strict",
        "_window",
        "enabled",
        "group",
        "local",
        "peer",
    )

    def __init__(
        self,
        quic: Transport,
        options: H3Options,
        peer_settings: Mapping[int, int],
        *,
        enabled: bool,
        strict: bool,
        send: Callable[[bytes], object],
        events: CreditEvents,
    ) -> None:
        self._window = options.initial_max_data
        self._strict = strict
        self._send = send
        self._events = events
        self._over = False
        self._reasons = _Reasons()
        self.enabled = enabled
        self.group: Group = quic.new_group(self)
        if not enabled:
            self.local = (LocalStreams(None), LocalStreams(None))  # by bool(unidirectional)
            self.peer = (PeerStreams(None), PeerStreams(None))
            return
        self.group.send_limit = peer_settings.get(Setting.WT_INITIAL_MAX_DATA, 0)
        self.group.recv_limit = self._window
        self.group.credit_threshold = max(1, self._window // 2)
        self.local = (
            LocalStreams(_limit(peer_settings, Setting.WT_INITIAL_MAX_STREAMS_BIDI)),
            LocalStreams(_limit(peer_settings, Setting.WT_INITIAL_MAX_STREAMS_UNI)),
        )
        self.peer = (
            PeerStreams(options.initial_max_streams_bidi, options.stream_increment_bidi),
            PeerStreams(options.initial_max_streams_uni, options.stream_increment_uni),
        )

    def give_all(self) -> None:
        """Raise all limits of the peer to their maximum.

        QUIC still limits what it may send at a time: bytes by the windows of the connection
        and its streams, streams by their number.
        """
        self.group.recv_limit = None
        self.group.credit_threshold = 0
        self.peer = (PeerStreams(None), PeerStreams(None))
        self._send(encode_number(CapsuleType.WT_MAX_DATA, MAX_VARINT))
        for kind in _MAX_STREAMS:
            self._send(encode_number(kind, MAX_SESSION_STREAMS))

    def may_open(self, unidirectional: bool) -> bool:
        """Return whether the peer allows another stream; if not, report it once per limit."""
        streams = self.local[unidirectional]
        if streams.limit is None or streams.opened < streams.limit:
            return True
        limit = streams.blocked()
        if limit is not None:
            self._send(encode_number(_STREAMS_BLOCKED[unidirectional], limit))
        return False

    def stream_arrived(self, unidirectional: bool) -> None:
        """The peer opened a stream: count it, and give credit that was collected.

        Raises:
            LimitError: it exceeds the limit.
        """
        limit = self.peer[unidirectional].arrived()
        if limit is not None:
            self._announce_streams(unidirectional, limit)

    def stream_finished(self, unidirectional: bool) -> None:
        """A stream of the peer has ended: give credit for another one."""
        limit = self.peer[unidirectional].done()
        if limit is not None:
            self._announce_streams(unidirectional, limit)

    def received(self, kind: int, number: int) -> bool:
        """Act on a flow-control capsule.

        Returns:
            Whether there was a reason for it: since the last one of its kind, this end used
            credit, or announced a new limit that the peer can be blocked by.

        Raises:
            LimitError: the number breaks a rule.
        """
        if kind == CapsuleType.WT_MAX_DATA:
            current = self.group.send_limit
            if current is not None and check_limit(current, number, equal_is_error=self._strict):
                self.group.send_limit = number
                self._events.credit_raised("data", number)
                return self._reasons.sent(self.group.stats()["bytes_sent"] or 0)
        elif kind in _MAX_STREAMS:
            unidirectional = kind == CapsuleType.WT_MAX_STREAMS_UNI
            if self.local[unidirectional].raise_limit(number, equal_is_error=self._strict):
                name = "streams_uni" if unidirectional else "streams_bidi"
                opened = self.local[unidirectional].opened
                self._events.credit_raised(name, number)
                return self._reasons.grew(kind, opened)
        elif kind == CapsuleType.WT_DATA_BLOCKED:
            limit = self.group.recv_limit
            self.group_credit_due()
            return self._reasons.grew(kind, limit)
        else:
            if number > MAX_SESSION_STREAMS:
                raise LimitError(f"the peer is blocked at {number} streams: more than 2**60")
            unidirectional = kind == CapsuleType.WT_STREAMS_BLOCKED_UNI
            limit = self.peer[unidirectional].limit
            self._announce_streams(unidirectional, self.peer[unidirectional].wanted())
            return self._reasons.grew(kind, limit)
        return False

    def end(self) -> None:
        """The session has ended: drop its datagrams; :meth:`close` follows."""
        self._over = True
        self.group.clear_datagrams()
        # Both refer back to the session: no cycle is left for the garbage collector.
        self._send, self._events = _ignore, NOBODY

    def close(self) -> None:
        """No stream of the session can send any more: close its group, keep its statistics."""
        self.group.close()

    def stats(self) -> dict[str, int | None]:
        """Counters and limits."""
        facts = self.group.stats()
        for name, unidirectional in (("bidi", False), ("uni", True)):
            local, peer = self.local[unidirectional], self.peer[unidirectional]
            facts[f"streams_opened_{name}"] = local.opened
            facts[f"streams_received_{name}"] = peer.received
            facts[f"send_limit_streams_{name}"] = local.limit
            facts[f"recv_limit_streams_{name}"] = peer.limit
        return facts

    def _announce_streams(self, unidirectional: bool, limit: int | None) -> None:
        if limit is not None and not self._over:
            self._send(encode_number(_MAX_STREAMS[unidirectional], limit))

    # GroupOwner.

    def group_blocked(self, limit: int) -> None:
        """The engine cannot send because session credit is used up; called once per limit."""
        if self.enabled and not self._over:
            self._send(encode_number(CapsuleType.WT_DATA_BLOCKED, limit))

    def group_violated(self, received: int, limit: int) -> None:
        """The peer sent more than the session allows."""
        if not self._over:
            self._events.credit_violated(received, limit)

    def group_credit_due(self) -> None:
        """The application consumed bytes: give the peer new credit."""
        current = self.group.recv_limit
        if current is None or self._over:
            return
        limit = (self.group.stats()["bytes_consumed"] or 0) + self._window
        if limit > current:
            self.group.recv_limit = limit
            self._send(encode_number(CapsuleType.WT_MAX_DATA, limit))


def _limit(settings: Mapping[int, int], name: Setting) -> int:
    return min(settings.get(name, 0), MAX_SESSION_STREAMS)
