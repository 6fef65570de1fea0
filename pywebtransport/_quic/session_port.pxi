# The hot paths of a session: its streams come, are opened, and go.
#
# The classes in _core inherit from ConnectionPort and SessionPort; see stream_port.pxi.

cdef enum:
    AT_ONCE = 16               # streams that an iterator takes in a turn: each may start a task


cdef class ConnectionPort:
    """What the sessions of a connection need of it: counts of streams, callers that wait."""


cdef inline void _unlist(PortNode *node) noexcept:
    node.before.after = node.after
    node.after.before = node.before
    node.before = node.after = NULL


@cython.final
cdef class OpenPorts:
    """Streams in the order in which they were opened. They are listed, and not kept."""

    def __cinit__(self):
        self._ends.before = self._ends.after = &self._ends

    cdef list _all(self):
        cdef PortNode *node = self._ends.after
        cdef list found = []
        while node != &self._ends:
            # The last reference may be gone, and a callback of a weak one may run just now.
            if _references(node.port):
                found.append(<object>node.port)
            node = node.after
        return found


cdef class SessionPort:
    @property
    def _streams(self):
        return {} if self._open is None else {
            (<StreamPort>stream)._quic._id: stream for stream in self._open._all()}

    @property
    def _open_count(self):
        return 0 if self._open is None else self._open._count

    def _find_stream(self, stream_id):
        cdef StreamPort stream
        way = _slot_get(&_s_stream_way, self._h3)
        if way is not None:
            quic = (<dict>(<tuple>way)[WAY_STREAMS]).get(stream_id)
            if isinstance(quic, QuicStream):
                stream = (<QuicStream>quic)._get_port()
                if stream is not None:
                    return stream
        return self._streams.get(stream_id)

    def _forget_streams(self):
        cdef list streams
        cdef StreamPort stream
        if self._open is None:
            return []
        streams = self._open._all()
        for stream in streams:
            _unlist(&stream._node)
            stream._list = None
        self._open = None
        return streams

    cdef int _list_stream(self, StreamPort stream) except -1:
        cdef PortNode *node = &stream._node
        if self._open is None:
            self._open = OpenPorts.__new__(OpenPorts)
        stream._list = self._open
        node.port = <PyObject *>stream
        node.after = &self._open._ends
        node.before = self._open._ends.before
        node.before.after = node.after.before = node
        self._open._count += 1
        return 0

    def stream_received(self, TransportStream stream not None, bint unidirectional):
        """The peer opened a stream (deliver phase)."""
        self._stream_received(stream, unidirectional)

    cdef int _stream_received(self, TransportStream stream, bint unidirectional) except -1:
        self._arrivals += 1
        attached = _create_stream(
            _class_get(&_c_receive_type if unidirectional else &_c_bidirectional_type, self), self,
            stream, True, self._arrivals)
        incoming = self._incoming_uni if unidirectional else self._incoming_bidi
        if incoming is None:
            # Created with the first stream of its kind: an empty one takes more than 600 bytes.
            incoming = _deque()
            if unidirectional:
                self._incoming_uni = incoming
            else:
                self._incoming_bidi = incoming
        _append(incoming, attached)
        acceptors = self._acceptors
        if acceptors is not None:
            line = _slot_get(&_s_unidirectional if unidirectional else &_s_bidirectional, acceptors)
            if _slot_get(&_s_turns, line):
                acceptors.serve(self, unidirectional)
        if self._emitter is not None:
            self._tell_opened(attached, True)
        return 0

    cdef Py_ssize_t _get_low_water(self) except? -1:
        """write_low_water; anything but an ordinary number is left to _is_full()."""
        if PyLong_CheckExact(self.write_low_water):
            try:
                return self.write_low_water
            except OverflowError:
                pass
        return -1

    cpdef StreamPort _take_stream(self, bint bidirectional, bint unidirectional):
        """Take the stream of these kinds that arrived first; return None if there is none."""
        cdef StreamPort stream
        bidi = self._incoming_bidi if bidirectional else None
        uni = self._incoming_uni if unidirectional else None
        if bidi and (not uni or (<StreamPort>bidi[0])._arrival < (<StreamPort>uni[0])._arrival):
            stream = _popleft(bidi)
        elif uni:
            stream = _popleft(uni)
        else:
            return None
        stream._arrival = 0  # it belongs to the application now
        if self._close_info is not None:
            stream._port = self  # see _end_stream in _core/ending.py
        if stream._quic._flags & F_CLOSED:
            StreamPort._check_done(stream)
        return stream

    def _create_bidirectional_stream(self, *, timeout=None, send_order=0):
        return _new_open(self, False, timeout, send_order)

    def _create_unidirectional_stream(self, *, timeout=None, send_order=0):
        return _new_open(self, True, timeout, send_order)

    cpdef StreamPort _add_stream(self, TransportStream quic):
        """Create the object for a stream that this end opened."""
        cdef bint unidirectional = quic._flags & F_UNI != 0
        return _create_stream(
            _class_get(&_c_send_type if unidirectional else &_c_bidirectional_type, self), self,
            quic, not unidirectional, 0)

    cpdef TransportStream _try_open(self, bint unidirectional):
        """Open a stream now; return None if a limit of the peer or a local limit is reached."""
        cdef ConnectionPort connection = self._connection
        cdef TransportStream quic
        if (self._counted_local >= self._max_streams
                or connection._local_streams >= connection._max_local_streams):
            return None
        try:
            quic = _open_on(self._h3, unidirectional)
            if quic is None:
                quic = self._h3.open_stream(unidirectional)
        except _exc.ConnectionError as error:
            raise self._failure(error, "no stream can be opened") from None
        if quic is not None:
            connection._local_streams += 1
            self._counted_local += 1
            if unidirectional:
                connection._local_uni += 1
                self._counted_uni += 1
        return quic

    cpdef object _remove_stream(self, StreamPort stream):
        """A stream is completely done. If the peer opened it, the peer may open another one."""
        cdef TransportStream quic = stream._quic
        cdef ConnectionPort connection
        cdef bint unidirectional = quic._flags & F_UNI != 0
        figures = stream._stats
        if figures is not None and (figures.read_errors or figures.write_errors):
            self._stats.stream_errors += 1
        if self._orphans is not None:
            (<set>_slot_get(&_s_streams, self._orphans)).discard(stream)
        stream_id = quic._id
        if stream._list is not None:
            _unlist(&stream._node)
            stream._list._count -= 1
            stream._list = None
            if quic._flags & F_LOCAL:
                connection = self._connection
                connection._local_streams -= 1
                self._counted_local -= 1
                if unidirectional:
                    connection._local_uni -= 1
                    self._counted_uni -= 1
                if connection._stream_gates:
                    self._stream_freed()
            if (self._state is not _CLOSED
                    and not _finish_on(self._h3, quic, stream_id, unidirectional)):
                self._h3.stream_finished(quic, unidirectional)
        if self._emitter is not None:
            self._tell_stream_closed(stream)


cdef OpenVerb _new_open(SessionPort session, bint unidirectional, object timeout, object order):
    cdef OpenVerb verb = <OpenVerb>_new_verb(V_OPEN)
    verb._session = session
    verb._unidirectional = unidirectional
    verb._timeout = timeout
    verb._send_order = order
    return verb


@cython.final
cdef class OpenVerb(Verb):
    """session.create_bidirectional_stream() and session.create_unidirectional_stream()"""

    @property
    def __qualname__(self):
        kind = "unidirectional" if self._unidirectional else "bidirectional"
        return f"{type(self._session).__name__}.create_{kind}_stream"

    cdef object _advance(self):
        cdef SessionPort session = self._session
        cdef TransportStream quic = None
        if (self._timeout is None and self._send_order is _ZERO
                and session._state is not _CLOSING and session._state is not _CLOSED
                and not session._connection._stream_gates):
            quic = SessionPort._try_open(session, self._unidirectional)
        if quic is None:
            return self._continue(
                session._open_other(self._unidirectional, self._timeout, self._send_order))
        stream = SessionPort._add_stream(session, quic)
        if session._emitter is not None:
            session._tell_opened(stream, False)
        return stream


cdef class IncomingPort:
    def __anext__(self):
        cdef NextVerb verb = <NextVerb>_new_verb(V_NEXT)
        verb._incoming = self
        return verb

    cdef StreamPort _take_now(self):
        """Take a stream if nobody else waits for one, and others in this loop had their turns."""
        cdef SessionPort session = self.session
        if (self._taken >= AT_ONCE or session._state is _CLOSING or session._state is _CLOSED
                or self._first is not None and (
                    _has_line(self._first)
                    or self._second is not self._first and _has_line(self._second))):
            return None
        return SessionPort._take_stream(session, self._bidirectional, self._unidirectional)


@cython.final
cdef class NextVerb(Verb):
    """async for stream in session.incoming_streams()"""

    @property
    def __qualname__(self):
        return f"{type(self._incoming).__name__}.__anext__"

    cdef object _advance(self):
        cdef IncomingPort incoming = self._incoming
        cdef StreamPort stream = incoming._take_now()
        if stream is None:
            return self._continue(incoming._next())
        incoming._taken += 1
        return stream


cdef bint _has_line(object line) except -1:
    """As bool(line): somebody waits, or was served and has not continued yet."""
    return bool(_slot_get(&_s_turns, line)) or _slot_get(&_s_served, line) is not _ZERO


STREAMS_AT_ONCE = AT_ONCE
cdef object _append = _deque.append
cdef object _popleft = _deque.popleft
# Of WebTransportSession,
cdef ClassValue _c_bidirectional_type = _class_value("_bidirectional_type")
cdef ClassValue _c_receive_type = _class_value("_receive_type")
cdef ClassValue _c_send_type = _class_value("_send_type")
# Acceptors,
cdef Slot _s_bidirectional = _slot("bidirectional")
cdef Slot _s_unidirectional = _slot("unidirectional")
# and Line.
cdef Slot _s_turns = _slot("turns")
cdef Slot _s_served = _slot("served")
cdef object _CLOSING = _states.SessionState.CLOSING
cdef object _CLOSED = _states.SessionState.CLOSED
cdef object _ZERO = 0
_set_slots(V_OPEN, OpenVerb)
_set_slots(V_NEXT, NextVerb)
