"""One QMux connection: frames in, frames out, and the events between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .._quic import CloseInfo
from .._transport import CallLater, ConnectionHandler, GroupOwner, SockAddr, TimerHandle, Turns
from ..exceptions import (
    ConfigurationError,
    ConnectionError,
    DatagramError,
    DatagramTooLargeError,
)
from ..utils._text import printable
from ._datagrams import largest_datagram
from ._errors import QMuxConnectionError, QMuxError
from ._frames import DRAIN, MAX_VARINT, PING_REQUEST, encode_close, encode_number
from ._group import QMuxGroup
from ._legacy import LegacyReceiver, build_legacy, encode_legacy_close
from ._limits import QMuxLimits
from ._link import Link
from ._load import QMuxLoad
from ._parameters import DEFAULT_RECORD_SIZE, Parameters, encode_parameters
from ._pings import Pulse
from ._receiving import Receiver
from ._sending import build_record
from ._state import State
from ._stats import connection_stats
from ._stream import QMuxStream

__all__ = ["QMuxConnection"]

_Buffer = bytes | bytearray | memoryview

_REASON_MAX: Final = 1024
_STEP: Final = 7
"""Streams delivered between two looks at the clock, minus one."""

_SHORTEST_IDLE: Final = 0.3
_LONGEST_IDLE: Final = 1e9
_FACTS: Final = ("local_address", "remote_address", "peer_certificate", "server_name", "alpn")

# Codes of a WebSocket Close.
_CLOSED: Final = 1000
_GOING_AWAY: Final = 1001
_VIOLATED: Final = 1002
_TEXT: Final = 1003
_TOO_LARGE: Final = 1009


class QMuxConnection:
    """A transport over a link; satisfies ``Transport``.

    Args:
        link: Carries the records.
        limits: Limits and times.
        is_client: Which half of the stream IDs is ours.
        call_later: Starts timers.
        turns: Tells when other work gets its turn.
        on_error: Gets exceptions of handlers, sinks and waiters.

    Attributes:
        on_ready: Called once when the parameters of the peer have arrived, before other events
            (with the legacy framing: soon after ``start``).
        on_drain: Called when the peer asks to end the session soon.
        on_gone: Called once the link is gone, after this end has closed the connection.
        on_received: Called after each record, when everything was delivered; must not raise.
        failure: What ended the link; None while it is there, and if the other end closed it.
    """

    __slots__ = (
        "__weakref__",
        "_call_later",
        "_end_told",
        "_facts",
        "_final",
        "_handler",
        "_is_client",
        "_is_delivering",
        "_is_gone",
        "_is_scheduled",
        "_limits",
        "_load",
        "_on_error",
        "_pulse",
        "_ready_told",
        "_receiver",
        "_records_received",
        "_records_sent",
        "_state",
        "_timer",
        "_turns",
        "bytes_received",
        "failure",
        "on_drain",
        "on_gone",
        "on_ready",
        "on_received",
    )

    def __init__(
        self,
        link: Link,
        limits: QMuxLimits,
        *,
        is_client: bool,
        call_later: CallLater,
        turns: Turns,
        on_error: Callable[[BaseException], object],
    ) -> None:
        self._limits = limits
        self._is_client = is_client
        self._call_later = call_later
        self._turns = turns
        self._on_error = on_error
        self._state = State(link, limits, self._deliver_later)
        self._load = QMuxLoad(limits, call_later, turns)
        self._receiver = Receiver(self._state, self._load, is_client=is_client)
        self._pulse = Pulse(call_later, self._idle, self._ping)
        self._handler: ConnectionHandler | None = None
        self._timer: TimerHandle | None = None
        self._facts: dict[str, Any] = {}  # about the link, once it is gone
        self._final: bytes | None = None  # the last record, with CONNECTION_CLOSE
        self._is_delivering = self._is_scheduled = False
        self._ready_told = self._end_told = self._is_gone = False
        self._records_received = self._records_sent = 0
        self.bytes_received = 0
        self.on_ready: Callable[[], object] | None = None
        self.on_drain: Callable[[], object] | None = None
        self.on_gone: Callable[[], object] | None = None
        self.on_received: Callable[[], object] | None = None
        self.failure: BaseException | None = None

    def start(self, draft: int) -> None:
        """Send the parameters; frames are accepted from now on.

        Args:
            draft: 1 or 2; 0: the legacy framing ``webtransport``, on a server.
        """
        if draft not in (0, 1, 2) or (draft == 0 and self._is_client):
            accepted = "1 or 2" if self._is_client else "0, 1 or 2"
            raise ConfigurationError(
                f"draft must be {accepted}, got {draft!r}", config_key="draft", config_value=draft
            )
        state = self._state
        if state.close_info is not None:
            return
        state.draft = draft
        if draft:
            parameters = encode_parameters(self._limits.parameters(draft))
            state.control.append((parameters, None))
            state.wake()
            self._timer = self._call_later(self._limits.handshake_timeout, self._not_ready)
        else:
            self._receiver = LegacyReceiver(state, self._load, is_client=False)
            self._deliver_later()
        self.handler = self._handler

    # ------------------------------------------------------- what the link calls

    def receive(self, record: bytes) -> None:
        """Process the frames of one record, and deliver what they bring. Never raises."""
        state = self._state
        if state.close_info is not None:
            return
        self._records_received += 1
        self.bytes_received += len(record)
        pulse = self._pulse
        pulse.heard = pulse.may_extend = True
        state.is_busy = True
        try:
            self._receiver.process(record)
        except QMuxConnectionError as error:
            self._fail(error)
        except Exception as error:  # a fault of ours: the peer cannot go on, others can
            self._report(error)
            self._fail(QMuxConnectionError(QMuxError.INTERNAL_ERROR, "internal error"))
        else:
            if self._receiver.closed is not None:
                self._closed_by_peer(*self._receiver.closed)
        self._deliver()
        if self.on_received is not None:
            self.on_received()

    def too_large(self) -> None:
        """A record is larger than ``limits.max_record_size``: FRAME_ENCODING_ERROR, Close 1009."""
        error = QMuxConnectionError(QMuxError.FRAME_ENCODING_ERROR, "a record is too large")
        self._fail(error, _TOO_LARGE)
        self._deliver()

    def text_received(self) -> None:
        """A text message arrived: PROTOCOL_VIOLATION, Close 1003."""
        error = QMuxConnectionError(QMuxError.PROTOCOL_VIOLATION, "text instead of binary")
        self._fail(error, _TEXT)
        self._deliver()

    def next_record(self) -> bytes | None:
        """Return the next record to send; None: there is none."""
        state = self._state
        if state.finishing:
            self._check_finished()
        if state.news or state.datagrams.held_up:
            self._deliver()
        if state.close_info is not None:
            final, self._final = self._final, None
            return final
        # What is told now comes with the next call: the link has not got this record yet.
        state.is_busy = True
        record = build_record(state) if state.draft else build_legacy(state)
        state.is_busy = False
        if record is None:
            state.is_woken = False
        else:
            self._records_sent += 1
            self._pulse.record_sent()
        return record

    def handed_over(self) -> None:
        """``link.unsent`` fell, or the kernel took everything at once."""
        self._check_finished()
        if self._state.news or self._state.datagrams.held_up:
            self._deliver()

    def link_closed(self, *, error: BaseException | None = None) -> None:
        """The link is gone; the last call.

        Args:
            error: Why; None if the other end closed it.
        """
        if self._state.close_info is None:
            self.failure = error
            reason = "the connection ended without CONNECTION_CLOSE"
            if error is not None:
                reason = f"{reason}: {error}"
            number = getattr(error, "errno", None) or 0
            self._end(
                CloseInfo(
                    kind="transport",
                    remote=True,
                    reason=printable(reason),
                    handshake_done=self._receiver.is_ready,
                    errno=number,
                ),
                abort=True,
            )
            self._deliver()
        self._final = None
        told, self.on_gone = self.on_gone, None
        if told is not None:
            self._call(told)
        self._is_gone = True
        self._forget()

    # ----------------------------------------------------------------- facts

    @property
    def handler(self) -> ConnectionHandler | None:
        """Receives the events; None once the connection is closed. Set it before ``start``."""
        return self._handler

    @handler.setter
    def handler(self, handler: ConnectionHandler | None) -> None:
        self._handler = handler
        # The sink of new streams; ``start`` looks again at a handler that was not complete.
        self._receiver.sink = getattr(handler, "stream_ready", None)

    @property
    def is_closed(self) -> bool:
        return self._state.close_info is not None

    @property
    def close_info(self) -> CloseInfo | None:
        return self._state.close_info

    @property
    def draft(self) -> int:
        """As given to ``start``."""
        return self._state.draft

    @property
    def peer_parameters(self) -> Parameters | None:
        """What the peer has announced; None: not yet."""
        return self._state.peer if self._receiver.is_ready else None

    @property
    def local_address(self) -> SockAddr | None:
        address: SockAddr | None = self._fact("local_address")
        return address

    @property
    def remote_address(self) -> SockAddr | None:
        address: SockAddr | None = self._fact("remote_address")
        return address

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate in DER form."""
        certificate: bytes | None = self._fact("peer_certificate")
        return certificate

    @property
    def alpn(self) -> str:
        return str(self._fact("alpn"))

    @property
    def server_name(self) -> str:
        return str(self._fact("server_name"))

    @property
    def resumed(self) -> bool:
        """Always False: no parameters of an earlier connection are used."""
        return False

    def stats(self) -> dict[str, int | None]:
        """Counters by the names of a QUIC connection; None: not known over TCP."""
        state, receiver = self._state, self._receiver
        link = self._facts["stats"] if state.link is None else state.link.stats()
        return {
            **connection_stats(state),
            "bytes_received": self.bytes_received,
            "packets_sent": self._records_sent,
            "packets_received": self._records_received,
            "datagrams_received": receiver.datagrams_received,
            "resets_received": receiver.resets_received,
            **link,
        }

    # ----------------------------------------------------- streams and datagrams

    def open_stream(self, unidirectional: bool) -> QMuxStream | None:
        """Open a stream; None: the peer allows none until ``streams_available`` is called."""
        state = self._state
        if state.close_info is not None:
            self._check_open("opening a stream")
        number = state.opened[unidirectional]
        if number >= state.may_open[unidirectional]:
            return None
        state.opened[unidirectional] = number + 1
        peer = state.peer
        stream_id = number << 2 | (2 if unidirectional else 0) | (0 if self._is_client else 1)
        stream = QMuxStream(
            stream_id,
            is_local=True,
            is_unidirectional=unidirectional,
            state=state,
            send_limit=peer.max_stream_data_uni
            if unidirectional
            else peer.max_stream_data_bidi_remote,
        )
        state.streams[stream_id] = stream
        return stream

    def take_greeting(self) -> None:
        """There is no HTTP/3 here."""

    def streams_left(self, unidirectional: bool) -> int:
        state = self._state
        if state.close_info is not None:
            return 0
        return max(0, state.may_open[unidirectional] - state.opened[unidirectional])

    def new_group(self, owner: GroupOwner) -> QMuxGroup:
        """The one session of the connection: its counters are those of the connection."""
        self._check_open("making a group")
        return QMuxGroup(self._state)

    @property
    def max_datagram_size(self) -> int:
        state = self._state
        if state.close_info is not None:
            return 0
        return largest_datagram(min(state.peer.max_datagram_frame_size, state.record_size))

    @property
    def peer_max_datagram_frame_size(self) -> int:
        return 0 if self.is_closed else self._state.peer.max_datagram_frame_size

    @property
    def datagrams_queued(self) -> int:
        return self._state.datagrams.count

    def send_datagram(
        self,
        prefix: bytes,
        data: _Buffer,
        group: Any = None,
        priority: int = 0,
        deadline: int | None = None,
    ) -> bool:
        """As ``Transport.send_datagram``. What is in a record arrives: only the queue drops.

        Before the peer's parameters are here, datagrams wait in the queue; those that turn out to
        be too large for the peer are dropped then.
        """
        state = self._state
        self._check_open("sending a datagram")
        if not isinstance(priority, int) or not 0 <= priority <= 2:
            raise ConfigurationError(
                f"priority must be 0, 1 or 2, got {priority!r}",
                config_key="priority",
                config_value=priority,
            )
        payload = data if type(data) is bytes else bytes(data)
        if not self._receiver.is_ready:
            most = largest_datagram(DEFAULT_RECORD_SIZE) - len(prefix)
        elif state.peer.max_datagram_frame_size:
            most = self.max_datagram_size - len(prefix)
        else:
            raise DatagramError(
                "sending a datagram: the peer accepts none", datagram_size=len(payload)
            )
        if len(payload) > most:
            raise DatagramTooLargeError(datagram_size=len(payload), max_size=max(0, most))
        queued = state.datagrams.put(prefix, payload, priority, deadline)
        if self._receiver.is_ready:
            state.wake()
        return queued

    # --------------------------------------------------------------- the rest

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """Raises ConnectionError: TLS of a WebSocket is not ours alone."""
        raise self._impossible("export keying material")

    def initiate_key_update(self, now: int) -> None:
        """Raises ConnectionError."""
        raise self._impossible("update keys")

    def migrate(self, sock: Any, local: tuple[Any, ...], now: int) -> None:
        """Raises ConnectionError: a TCP connection stays on its path."""
        raise self._impossible("migrate")

    def send_drain(self) -> bool:
        """Ask the peer to end the session soon; False: it would not understand."""
        state = self._state
        if state.close_info is not None or not state.peer.drain:
            return False
        state.control.append((encode_number(DRAIN), None))
        state.wake()
        return True

    def close(self, code: int, reason: str = "", *, application: bool = True) -> None:
        """Send CONNECTION_CLOSE, and close the link. Data that still wait are dropped.

        Args:
            code: 0 to 2**62 - 1.
            reason: At most 1024 bytes of it are sent.
            application: It is the session's code, not one of QMux.
        """
        if not isinstance(code, int) or not 0 <= code <= MAX_VARINT:
            raise ConfigurationError(
                f"code must be 0 to {MAX_VARINT}, got {code!r}",
                config_key="code",
                config_value=code,
            )
        if self._state.close_info is not None:
            return
        text = reason.encode("utf-8", "replace")
        if len(text) > _REASON_MAX:
            text = text[:_REASON_MAX].decode("utf-8", "ignore").encode()
        kind = "application" if application else "transport"
        self._end(
            CloseInfo(kind=kind, code=code, reason=reason, handshake_done=self._receiver.is_ready),
            self._close_frame(code, text, application=application),
            _CLOSED if application else _VIOLATED,
        )

    def abandon(self) -> None:
        """Drop the connection without telling the peer."""
        if self._state.close_info is not None:
            return
        info = CloseInfo(
            kind="application", reason="abandoned", handshake_done=self._receiver.is_ready
        )
        self._end(info, abort=True)
        if not self._state.is_busy:
            self._deliver()

    def release(self) -> None:
        """Close the socket of the link, after the event loop was closed; nobody is told."""
        if self._state.link is not None:
            self._state.link.release()

    # --------------------------------------------------------------- deliver phase

    def _deliver_later(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._turns.later(self._deliver_now)

    def _deliver_now(self) -> None:
        self._is_scheduled = False
        self._deliver()

    def _deliver(self) -> None:
        if self._is_delivering:
            return
        self._is_delivering = self._state.is_busy = True
        try:
            if not self._ready_told and self._receiver.is_ready:
                self._tell_ready()
            self._deliver_facts()
            if self._deliver_streams() and self._state.close_info is not None:
                self._tell_end(self._state.close_info)
        finally:
            self._is_delivering = self._state.is_busy = False

    def _deliver_facts(self) -> None:
        receiver, handler = self._receiver, self._handler
        if handler is None:
            return
        if receiver.datagrams:
            datagrams, receiver.datagrams = receiver.datagrams, []
            self._call(handler.datagrams_received, datagrams)
        if receiver.became_available:
            kinds = sorted(receiver.became_available)
            receiver.became_available.clear()
            for kind in kinds:
                self._call(handler.streams_available, kind)
        if self._state.datagrams.held_up and self._state.datagrams.has_room_again():
            self._call(handler.datagram_writable)
        if receiver.drain_received and self.on_drain is not None:
            told, self.on_drain = self.on_drain, None
            self._call(told)

    def _deliver_streams(self) -> bool:
        """Deliver streams for one slice of this turn; return whether all are done."""
        state = self._state
        turns = self._turns
        done = 0
        while state.news:
            news, state.news = state.news, []
            for stream in news:
                done += 1
                if not done & _STEP and turns.is_over:
                    state.news = news[news.index(stream) :] + state.news
                    self._deliver_later()
                    return False
                stream.is_listed = False
                if state.new is not None:
                    self._tell_new(state.new, stream)
                try:
                    stream.deliver()
                except BaseException as error:
                    self._report(error)
        return True

    def _tell_new(self, new: set[QMuxStream], stream: QMuxStream) -> None:
        """Tell of a stream without data, of which ``deliver`` would not tell."""
        if stream in new:
            new.discard(stream)
            if not new:
                self._state.new = None
            if stream.sink is not None:
                self._call(stream.sink, stream)

    def _tell_ready(self) -> None:
        self._ready_told = True
        self._stop_timer()
        if self._state.close_info is None:
            self._watch()
        told, self.on_ready = self.on_ready, None
        if told is not None:  # also if the end came with them
            self._call(told)

    def _tell_end(self, info: CloseInfo) -> None:
        if self._end_told:
            return
        self._end_told = True
        handler, self.handler = self._handler, None
        if handler is not None:
            self._call(handler.connection_closed, info)
        self.on_ready = self.on_drain = None
        self._forget()

    def _forget(self) -> None:
        """Nothing is called any more once both ends of this object are told: leave no circle."""
        if self._is_gone and self._end_told:
            self._on_error = _nobody

    def _call(self, function: Callable[..., object], *args: Any) -> None:
        try:
            function(*args)
        except BaseException as error:
            self._report(error)

    def _report(self, error: BaseException) -> None:
        self._on_error(error)

    # ------------------------------------------------------------- beginning and end

    def _watch(self) -> None:
        """Start the idle timer: the smaller timeout of both ends counts."""
        own, peer = self._limits.idle_timeout, self._state.peer.max_idle_timeout / 1000
        timeout = min(own, peer) if own and peer else own or peer
        if timeout:
            # A peer must not set a timer for each moment.
            timeout = min(max(timeout, _SHORTEST_IDLE), _LONGEST_IDLE)
        self._pulse.start(timeout, self._limits.keep_alive if self._state.draft else 0.0)

    def _idle(self) -> None:
        info = CloseInfo(kind="idle", handshake_done=self._receiver.is_ready)
        self._end(info, code=_GOING_AWAY)
        self._deliver()

    def _ping(self) -> None:
        state = self._state
        if not state.control:  # otherwise something is about to be sent, or the link is full
            number = self._receiver.pings_sent
            self._receiver.pings_sent = number + 1
            state.control.append((encode_number(PING_REQUEST, number), None))
            state.wake()

    def _not_ready(self) -> None:
        self._timer = None
        self._end(CloseInfo(kind="handshake_timeout"), code=_VIOLATED)
        self._deliver()

    def _closed_by_peer(self, application: bool, code: int, reason: str) -> None:
        kind = "application" if application else "transport"
        self._end(
            CloseInfo(
                kind=kind,
                remote=True,
                code=code,
                reason=reason,
                handshake_done=self._receiver.is_ready,
            )
        )

    def _fail(self, error: QMuxConnectionError, code: int = _VIOLATED) -> None:
        """The peer broke a rule."""
        if self._state.close_info is not None:
            return
        frame = self._close_frame(
            error.code, error.reason.encode(), application=False, frame_type=error.frame_type
        )
        info = CloseInfo(
            kind="transport",
            code=error.code,
            reason=error.reason,
            handshake_done=self._receiver.is_ready,
        )
        self._end(info, frame, code)

    def _close_frame(
        self, code: int, reason: bytes, *, application: bool, frame_type: int = 0
    ) -> bytes:
        if not self._state.draft:
            return encode_legacy_close(code, reason, application=application)
        return encode_close(code, reason, application=application, frame_type=frame_type)

    def _end(
        self,
        info: CloseInfo,
        frame: bytes | None = None,
        code: int = _CLOSED,
        *,
        abort: bool = False,
    ) -> None:
        """The connection ends here: its streams, timers, and the link."""
        state = self._state
        link = state.link
        assert link is not None
        self._facts = {name: getattr(link, name) for name in _FACTS}
        self._facts["stats"] = link.stats()
        if frame is not None and state.draft:
            # Resets and the like still go out, as far as there is room.
            parts, room = [], state.record_size - len(frame)
            for part, _ in state.control:
                if len(part) <= room:
                    parts.append(part)
                    room -= len(part)
            frame = b"".join((*parts, frame))
        self._final = frame
        state.close_info = info
        self._stop_timer()
        self._pulse.close()
        self._load.close()
        streams = list(state.streams.values())
        state.close()
        for stream in streams:
            stream.lose()
        if abort:
            link.abort()
        else:
            link.close(code)
        self._deliver_later()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_finished(self) -> None:
        """Streams whose FIN the kernel has taken are done."""
        state = self._state
        finishing = state.finishing
        if not finishing:
            return
        done = state.handed_out - state.unsent()
        was_busy, state.is_busy = state.is_busy, True
        count = 0
        for handed_out, stream in finishing:
            if handed_out > done:
                break
            count += 1
            stream.handed_over()
        del finishing[:count]
        state.is_busy = was_busy
        if state.news and not was_busy:
            self._deliver()

    def _fact(self, name: str) -> Any:
        link = self._state.link
        return self._facts.get(name) if link is None else getattr(link, name)

    def _check_open(self, what: str) -> None:
        info = self._state.close_info
        if info is None:
            return
        by = ", by the peer" if info.remote else ""
        reason = f": {printable(info.reason)}" if info.reason else ""
        raise ConnectionError(
            f"{what}: the connection is closed ({info.kind}{by}{reason}); open a new one",
            error_code=info.code if info.kind in ("application", "transport") else None,
            remote_address=self.remote_address,
            reason=info.reason,
            remote=info.remote,
            details={"kind": info.kind},
        )

    def _impossible(self, what: str) -> ConnectionError:
        return ConnectionError(
            f"cannot {what}: the session runs over TCP",
            remote_address=self.remote_address,
            details={"transport": "websocket"},
        )


def _nobody(error: BaseException) -> None:
    """Nothing is called any more that could fail."""
