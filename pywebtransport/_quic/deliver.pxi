# The deliver phase of an endpoint, kind by kind; its order is in QuicEndpoint._deliver.

@cython.final
cdef class ConnectionQueue:
    """Connections in order; in C, because most turns have one of them."""

    def __cinit__(self):
        self._items = []

    cdef bint any(self) noexcept:
        return self._end > 0

    cdef int push(self, QuicConnection conn) except -1:
        if self._end < PyList_GET_SIZE(self._items):
            self._items[self._end] = conn
        else:
            self._items.append(conn)
        self._end += 1
        return 0

    cdef Py_ssize_t postpone_new(self) except -1:
        cdef QuicConnection conn
        cdef Py_ssize_t i
        cdef Py_ssize_t found = 0
        for i in range(self._at, self._end):
            conn = self._items[i]
            if conn._is_new and conn._c != NULL:
                qe_conn_postpone(conn._c)
                found += 1
        return found

    cdef QuicConnection pop(self):
        """The first one; there is one."""
        cdef QuicConnection conn = self._items[self._at]
        self._items[self._at] = None
        self._at += 1
        if self._at == self._end:
            self._at = self._end = 0
        elif self._at == QUEUE_WASTE:
            del self._items[:QUEUE_WASTE]
            self._end -= QUEUE_WASTE
            self._at = 0
        return conn


cdef int _deliver_lines(QuicEndpoint self) except -1:
    cdef list batch
    batch, self._lines = self._lines, []
    for kind, data, conn, last in batch:
        try:
            if kind == LINE_KEYLOG:
                self._keylog(data)
            elif kind == LINE_LOG:
                self._log(data)
            else:
                self._qlog(conn, data, last)
        except BaseException as exc:
            self._report(exc)
    return 0

cdef int _deliver_foreign(QuicEndpoint self) except -1:
    cdef list batch
    batch, self._foreign = self._foreign, []
    for worker, packet in batch:
        try:
            self._forward(worker, packet)
        except BaseException as exc:
            self._report(exc)
    return 0

cdef int _deliver_failed_handshakes(QuicEndpoint self) except -1:
    cdef list batch
    batch, self._failed_handshakes = self._failed_handshakes, []
    for address, info in batch:
        try:
            self._handshake_failed(address, info)
        except BaseException as exc:
            self._report(exc)
    return 0

cdef int _deliver_handshakes(QuicEndpoint self) except -1:
    cdef QuicConnection conn
    cdef list batch
    cdef Py_ssize_t done = 0
    # Connections that are open already do not wait until a flood of handshakes is over.
    cdef uint64_t reserve = _quarter_left(self)
    batch, self._handshakes = self._handshakes, []
    for conn in batch:
        if not conn._handshake_waits:
            done += 1
            continue
        if self._is_over(done, reserve):
            self._late = True
            self._handshakes = batch[done:] + self._handshakes
            return 0
        done += 1
        _tell_handshake(self, conn)
    return 0

cdef int _tell_handshake(QuicEndpoint self, QuicConnection conn) except -1:
    """Before anything else of the connection is delivered."""
    conn._handshake_waits = False
    try:
        if self._is_server and conn.handler is None:
            conn.handler = self._accept(conn)
        if conn.handler is None:
            # RFC 9000 section 20.1: CONNECTION_REFUSED.
            conn.close(2, "", application=False)
        else:
            conn.handler.handshake_completed()
    except BaseException as exc:
        self._report(exc)
        if conn.handler is None and conn._c != NULL:
            # INTERNAL_ERROR: the connection has no handler.
            qe_conn_close(conn._c, 0, 1, NULL, 0)
            self._want_flush()
    return 0

cdef int _deliver_facts(QuicEndpoint self) except -1:
    cdef QuicConnection conn
    cdef list batch
    cdef int kind
    cdef Py_ssize_t done = 0
    batch, self._facts = self._facts, []
    for conn, fact, payload in batch:
        if self._is_over(done):
            self._late = True
            self._facts = batch[done:] + self._facts
            return 0
        done += 1
        conn._facts_waiting -= 1
        if conn._handshake_waits:
            _tell_handshake(self, conn)
        if conn.handler is None:
            continue
        kind = fact
        try:
            if kind == FACT_STREAMS_AVAILABLE:
                conn.handler.streams_available(payload)
            elif kind == FACT_DATAGRAM_WRITABLE:
                conn.handler.datagram_writable()
            elif kind == FACT_PATH_CHANGED:
                conn.handler.path_changed(payload)
            elif kind == FACT_SESSION_TICKET:
                conn.handler.session_ticket(payload)
            else:
                conn.handler.new_token(payload)
        except BaseException as exc:
            self._report(exc)
    return 0

cdef int _deliver_streams(QuicEndpoint self) except -1:
    """Serve the connections in turn: after its share, a connection goes behind the others.

    Return 1 if there are more, for a later turn.
    """
    cdef QuicConnection conn
    cdef Py_ssize_t done = 0
    # A quarter of what is left of the slice is for other kinds of events.
    self._reserve = _quarter_left(self)
    while self._ready.any() or self._ready_again.any():
        if _is_streams_slice_over(self, done):
            return 1
        done += 1
        # Alternate, so that short-lived connections do not starve the others.
        self._ready_first = not self._ready_first
        if self._ready.any() and (self._ready_first or not self._ready_again.any()):
            conn = self._ready.pop()
            _deliver_streams_of(self, conn, SHARE_FIRST)
        else:
            conn = self._ready_again.pop()
            _deliver_streams_of(self, conn, SHARE_AGAIN)
    return 0

cdef uint64_t _quarter_left(QuicEndpoint self) noexcept:
    """Return nanoseconds: a quarter of what is left of the slice."""
    return (self._slice_end - self._seen) // 4 if self._slice_end > self._seen else 0

cdef bint _is_streams_slice_over(QuicEndpoint self, Py_ssize_t done) noexcept:
    """Return whether the rest of the slice belongs to other kinds of events."""
    return self._is_over(done, self._reserve, self._most_woken // 4)

cdef int _deliver_streams_of(QuicEndpoint self, QuicConnection conn, Py_ssize_t share) except -1:
    cdef QuicStream stream
    cdef list streams = conn._ready
    cdef Py_ssize_t at = 0
    if conn._handshake_waits:
        _tell_handshake(self, conn)
    while at < len(streams):
        if at and (_is_streams_slice_over(self, at)
                   or (at >= share and (self._ready.any() or self._ready_again.any()))):
            del streams[:at]
            self._ready_again.push(conn)
            return 0
        stream = streams[at]
        at += 1
        stream._flags &= ~<uint32_t>F_IN_READY
        if stream._read_waiter is not None:
            waiter, stream._read_waiter = stream._read_waiter, None
            self._woken += 1
            self._wake(waiter)
        try:
            if stream._flags & F_DEFAULT_SINK:
                if conn.handler is not None:
                    ready = _slot_get(&_s_stream_ready, conn.handler)
                    if isinstance(ready, StreamRoutes):
                        (<StreamRoutes>ready)._route(stream)
                    else:
                        ready(stream)
            elif stream._sink is not None:
                stream._sink(stream)
        except BaseException as exc:
            self._report(exc)
    conn._ready = None
    conn._is_new = False
    return 0

cdef int _postpone_new(QuicEndpoint self) except -1:
    """Let the packets of new connections wait for what their handlers write in a later turn."""
    cdef QuicConnection conn
    cdef Py_ssize_t found = 0
    for conn in self._handshakes:
        if conn._handshake_waits and conn._c != NULL:
            qe_conn_postpone(conn._c)
            found += 1
    found += self._ready.postpone_new() + self._ready_again.postpone_new()
    self._new = found
    return 0

cdef int _deliver_datagrams(QuicEndpoint self) except -1:
    cdef QuicConnection conn
    cdef list batch, datagrams
    cdef Py_ssize_t done = 0
    cdef Py_ssize_t most
    cdef uint64_t begun, took
    # Writers, groups and ends follow: they have a reserve, too.
    cdef uint64_t reserve = _quarter_left(self)
    batch, self._dgram_conns = self._dgram_conns, []
    for conn in batch:
        if self._is_over(done, reserve, self._most_woken // 8):
            self._late = True
            self._dgram_conns = batch[done:] + self._dgram_conns
            return 0
        done += 1
        if conn._handshake_waits:
            _tell_handshake(self, conn)
        datagrams, conn._dgrams = conn._dgrams, None
        if conn.handler is None:
            continue
        most = SLICE_DATAGRAMS
        if len(batch) > 1 or conn._dgrams_slow:
            most = SLICE_DATAGRAMS // 8
        if len(datagrams) > most:
            conn._dgrams = datagrams[most:]
            del datagrams[most:]
            for datagram in datagrams:
                conn._dgram_bytes -= <size_t>PyBytes_GET_SIZE(datagram)
            self._dgram_conns.append(conn)
            self._events = True
        # The receiver runs next, and is likely to answer: see receive().
        self._woken += 1
        if len(datagrams) > SLICE_CALLS:
            self._told = SLICE_CALLS  # one call with the work of many: look at the clock
        begun = self._look()
        try:
            receive = _slot_get(&_s_datagrams_received, conn.handler)
            if isinstance(receive, DatagramRoutes):
                (<DatagramRoutes>receive)._route(datagrams)
            else:
                receive(datagrams)
        except BaseException as exc:
            self._report(exc)
        took = self._look() - begun
        conn._dgrams_slow = took * SLICE_DATAGRAMS > <uint64_t>len(datagrams) * self._slice
    return 0

cdef int _deliver_groups(QuicEndpoint self) except -1:
    cdef QuicGroup group
    cdef list batch
    cdef int kind
    cdef Py_ssize_t done = 0
    batch, self._group_events = self._group_events, []
    for group, event, a, b in batch:
        if self._is_over(done):
            self._late = True
            self._group_events = batch[done:] + self._group_events
            return 0
        done += 1
        if group._owner is None:
            continue
        kind = event
        try:
            if kind == GROUP_BLOCKED:
                group._owner.group_blocked(a)
            elif kind == GROUP_VIOLATED:
                group._owner.group_violated(a, b)
            else:
                group._owner.group_credit_due()
        except BaseException as exc:
            self._report(exc)
    return 0

cdef int _deliver_writable(QuicEndpoint self) except -1:
    cdef QuicStream stream
    cdef list batch
    cdef Py_ssize_t done = 0
    batch, self._writable = self._writable, []
    for stream in batch:
        if self._is_over(done, 0, self._most_woken // 16):
            self._late = True
            self._writable = batch[done:] + self._writable
            return 0
        done += 1
        stream._flags &= ~<uint32_t>F_IN_WRITABLE
        if stream._write_waiter is not None and (
                stream._c == NULL or stream._flags & (F_STOPPED | F_RESET_SENT)
                or qe_stream_queued(stream._c) <= self._write_low):
            waiter, stream._write_waiter = stream._write_waiter, None
            self._woken += 1
            self._wake(waiter)
        if stream._acked_waiter is not None and (
                stream._c == NULL or stream._flags & (F_ACKED | F_STOPPED | F_RESET_SENT)):
            waiter, stream._acked_waiter = stream._acked_waiter, None
            self._woken += 1
            self._wake(waiter)
    return 0

cdef int _deliver_dead(QuicEndpoint self) except -1:
    cdef QuicStream stream
    cdef QuicConnection conn
    cdef list streams, conns
    cdef list kept = []
    cdef Py_ssize_t done = 0
    streams, self._dead_streams = self._dead_streams, []
    for stream in streams:
        if self._is_over(done):
            self._late = True
            self._dead_streams = kept + streams[done:] + self._dead_streams
            return 0
        done += 1
        if stream._flags & F_IN_READY:
            kept.append(stream)  # its data comes first
            continue
        stream._wake_all()
        stream._give_stream_credit()
        if stream.on_closed is not None:
            callback, stream.on_closed = stream.on_closed, None
            try:
                if callback is _tell_port:
                    _port_closed(stream)
                else:
                    callback(stream)
            except BaseException as exc:
                self._report(exc)
    if kept:
        self._dead_streams = kept + self._dead_streams
    # An end comes last: after the handshake, facts, streams and datagrams of the connection.
    done = 0
    kept = []
    conns, self._dead_conns = self._dead_conns, []
    for conn in conns:
        if self._is_over(done):
            self._late = True
            self._dead_conns = conns[done:] + kept + self._dead_conns
            return 0
        done += 1
        if (conn._handshake_waits or conn._facts_waiting or conn._ready is not None
                or conn._dgrams is not None):
            kept.append(conn)
            continue
        if conn.handler is None:
            continue
        handler, conn.handler = conn.handler, None
        try:
            handler.connection_closed(conn._close_info)
        except BaseException as exc:
            self._report(exc)
    if kept:
        self._dead_conns = kept + self._dead_conns
    return 0


# Of Driver.
cdef Slot _s_stream_ready = _slot("stream_ready")
cdef Slot _s_datagrams_received = _slot("datagrams_received")
