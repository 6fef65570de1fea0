# One QUIC stream. Received bytes are owned by its base, bytes to send by the engine.

cdef enum:
    PIN_THRESHOLD = 2048        # bytes objects of this size on are pinned, not copied
    MOST_SPARE_STREAMS = 64

# The memory of streams that are gone, for the next ones. Cython does this (freelist) only for
# classes that have no base.
cdef PyObject *_spare_streams[MOST_SPARE_STREAMS]
cdef int _spare_stream_count = 0


@cython.final
cdef class QuicStream(TransportStream):
    def __cinit__(self):
        self._place = -1

    def __init__(self):
        raise TypeError("QuicStream is made by QuicConnection.open_stream() or by the peer")

    def __dealloc__(self):
        cdef QuicConnection conn = self._conn
        # Dropped without release(): the connection gives the credit back in
        # its next turn, because nothing here may call the engine. (After the
        # garbage collector broke a cycle, the connection may already be gone.)
        if self._flags & F_HELD and self._group is not None:
            self._group._unread -= self._body_held()
        if conn is not None and conn._c != NULL and conn._endpoint is not None:
            if self._in.buffered > self._uncredited:
                conn._lost_bytes += self._in.buffered - self._uncredited
                conn._endpoint._lost = True
            if self._flags & F_CLOSED and not self._flags & (F_LOCAL | F_CREDITED):
                if self._flags & F_UNI:
                    conn._lost_uni += 1
                else:
                    conn._lost_bidi += 1
                conn._endpoint._lost = True

    # ---------------------------------------------------------------- identity

    @property
    def sink(self):
        if self._flags & F_DEFAULT_SINK:
            return getattr(self._conn.handler, "stream_ready", None)
        return self._sink

    @sink.setter
    def sink(self, value):
        self._flags &= ~<uint32_t>F_DEFAULT_SINK
        self._sink = value

    @property
    def connection(self):
        return self._conn

    # ------------------------------------------------------------ sending side

    @property
    def queued(self):
        return qe_stream_queued(self._c) if self._c != NULL else 0

    @property
    def is_crowded(self):
        return self._c != NULL and qe_stream_is_crowded(self._c) != 0

    @property
    def unacked(self):
        return qe_stream_unacked(self._c) if self._c != NULL else 0

    def write(self, data, bint fin=False):
        cdef Py_buffer view
        cdef Py_ssize_t queued
        cdef object owner = None
        cdef int rc
        if PyBytes_CheckExact(data):
            return self._write_bytes(<bytes>data, fin)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self._check_writable()
            if view.len >= PIN_THRESHOLD and type(data) is memoryview:
                owner = data.obj
                if not PyBytes_CheckExact(owner):
                    owner = None  # it may change
            if owner is None:
                rc = qe_stream_write(self._c, <const uint8_t *>view.buf, <size_t>view.len, NULL,
                                     fin)
            else:  # as in _write_bytes()
                Py_INCREF(owner)
                rc = qe_stream_write(self._c, <const uint8_t *>view.buf, <size_t>view.len,
                                     <void *>owner, fin)
                if rc < 0:
                    Py_DECREF(owner)
            if rc < 0:
                raise _stream_error(rc, "writing", self._id)
            # Before the release, which may run Python code that uses this stream.
            self._bytes_written += <uint64_t>view.len
            if fin:
                self._flags |= F_FIN_WRITTEN
            self._written(view.len)
            queued = <Py_ssize_t>qe_stream_queued(self._c) if self._c != NULL else 0
        finally:
            PyBuffer_Release(&view)
        return queued

    cdef Py_ssize_t _write_bytes(self, bytes data, bint fin) except -1:
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        cdef int rc
        if self._c == NULL or self._flags & (F_STOPPED | F_FIN_WRITTEN | F_RESET_SENT | F_UNI):
            self._check_writable()
        if n == 0 and not fin:
            return <Py_ssize_t>qe_stream_queued(self._c)
        if n >= PIN_THRESHOLD:
            # Pinned until buffer_released(): exactly one reference per accepted write.
            Py_INCREF(data)
            rc = qe_stream_write(self._c, <const uint8_t *>PyBytes_AS_STRING(data), <size_t>n,
                                 <void *>data, fin)
            if rc < 0:
                Py_DECREF(data)
        else:
            rc = qe_stream_write(self._c, <const uint8_t *>PyBytes_AS_STRING(data), <size_t>n,
                                 NULL, fin)
        if rc < 0:
            raise _stream_error(rc, "writing", self._id)
        self._bytes_written += <uint64_t>n
        if fin:
            self._flags |= F_FIN_WRITTEN
        self._written(n)
        return <Py_ssize_t>qe_stream_queued(self._c) if self._c != NULL else 0

    cdef int _written(self, Py_ssize_t n) except -1:
        """Bytes were queued. The connection may be over afterwards."""
        cdef QuicEndpoint endpoint = self._conn._endpoint
        endpoint._want_flush()
        if n < PIN_THRESHOLD:
            endpoint._early_queued += <size_t>n
            if endpoint._early_queued >= endpoint._early_at:
                endpoint._early_flush()
        return 0

    def set_write_waiter(self, waiter):
        self._write_waiter = waiter
        if waiter is None:
            return
        if (self._c == NULL or self._flags & (F_STOPPED | F_RESET_SENT)
                or qe_stream_queued(self._c) <= self._conn._endpoint._write_low):
            self._write_waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def hold_for(self, QuicStream until not None):
        cdef int rc
        if self._c != NULL and until._c != NULL:
            rc = qe_stream_hold(self._c, until._c)
            if rc < 0 and rc != QE_ERR_CLOSED:
                raise _stream_error(rc, "holding", self._id)

    def set_reliable_size(self, n):
        cdef uint64_t size = _check_code(n, "n")
        if self._c != NULL:
            qe_stream_set_reliable_size(self._c, size)

    def set_send_order(self, order):
        if not isinstance(order, int) or not -(1 << 63) <= order < 1 << 63:
            raise _bad_value("order", order, "an integer of 64 bits")
        if self._c != NULL:
            qe_stream_set_send_order(self._c, <int64_t>order)

    def reset(self, code):
        cdef uint64_t value = _check_code(code, "code")
        cdef int rc
        if (self._c == NULL or self._flags & (F_ACKED | F_RESET_SENT | F_STOPPED)
                or (self._flags & F_UNI and not self._flags & F_LOCAL)):
            return
        rc = qe_stream_reset(self._c, value)
        if rc == QE_ERR_STREAM_SHUT or rc == QE_ERR_CLOSED:
            return
        if rc < 0:
            raise _stream_error(rc, "resetting", self._id)
        self._flags |= F_RESET_SENT
        # There is nothing left to wait for.
        self._mark_writable()
        self._conn._endpoint._want_flush()

    def stop_sending(self, code):
        cdef uint64_t value = _check_code(code, "code")
        cdef int rc
        if self._flags & (F_RESET_RECEIVED | F_STOP_SENT | F_RELEASED):
            return
        if self._flags & F_UNI and self._flags & F_LOCAL:
            return
        self._drop_input()
        self._flags |= F_STOP_SENT
        if not self._flags & F_FIN_RECEIVED and self._c != NULL:
            rc = qe_stream_stop_sending(self._c, value)
            if rc < 0 and rc != QE_ERR_STREAM_SHUT and rc != QE_ERR_CLOSED:
                raise _stream_error(rc, "stopping", self._id)
        self._app_done()
        if self._read_waiter is not None:
            self._mark_ready()
        self._conn._endpoint._want_flush()

    def join_group(self, QuicGroup group not None, send_header, recv_header):
        self._join(group, _check_code(send_header, "send_header"),
                   _check_code(recv_header, "recv_header"))

    def open_in(self, QuicGroup group not None, bytes header not None):
        self._open_in(group, header)

    cdef int _open_in(self, QuicGroup group, bytes header) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(header)
        self._join(group, <uint64_t>size, 0)
        self._write_bytes(header, False)
        if self._c != NULL:
            qe_stream_set_reliable_size(self._c, <uint64_t>size)
        return 0

    def accept_in(self, QuicGroup group not None, Py_ssize_t header_size):
        self.skip(header_size)
        self._join(group, 0, <uint64_t>header_size)

    cdef int _join(self, QuicGroup group, uint64_t send_size, uint64_t recv_size) except -1:
        cdef uint64_t consumed
        cdef int rc
        if group._conn is not self._conn:
            raise _bad_value("group", group, "a group of the same connection")
        if self._group is not None:
            raise _exc.StreamError(f"stream {self._id} is in a group already", stream_id=self._id)
        if self._c != NULL and group._c != NULL:
            rc = qe_stream_join_group(self._c, group._c, send_size, recv_size)
            if rc < 0:
                raise _stream_error(rc, "joining a group", self._id)
        else:
            self._flags |= F_JOINED_LATE
        # The bytes consumed so far were the header, or a part of it.
        consumed = self._bytes_received + self._uncredited - self._in.buffered
        self._header_left = recv_size - consumed if recv_size > consumed else 0
        self._group = group
        if self._flags & F_JOINED_LATE:
            if consumed > recv_size:
                group._late_consumed += consumed - recv_size
            if self._bytes_received > recv_size:
                group._note_late(self._bytes_received - recv_size)
        return 0

    # ----------------------------------------------------------------- private

    cdef int _mark_ready(self) except -1:
        cdef QuicEndpoint endpoint
        if not self._flags & F_IN_READY:
            endpoint = self._conn._endpoint
            if self._conn._ready is None:
                self._conn._ready = [self]
                endpoint._ready.push(self._conn)
            else:
                self._conn._ready.append(self)
            self._flags |= F_IN_READY
            endpoint._events = True
            if not endpoint._busy:
                endpoint._want_flush()
        return 0

    cdef int _mark_writable(self) except -1:
        cdef QuicEndpoint endpoint
        if not self._flags & F_IN_WRITABLE and (
                self._write_waiter is not None or self._acked_waiter is not None):
            endpoint = self._conn._endpoint
            endpoint._writable.append(self)
            self._flags |= F_IN_WRITABLE
            endpoint._events = True
            if not endpoint._busy:
                endpoint._want_flush()
        return 0

    cdef int _give_credit(self, uint64_t n) except -1:
        cdef QuicConnection conn = self._conn
        cdef QuicEndpoint endpoint
        if self._c != NULL:
            qe_stream_consume(self._c, n)
            self._pending_credit += n
        elif conn._c != NULL:
            qe_conn_consume(conn._c, n)
        if self._group is not None:
            self._count_consumed(n)
        if conn._c == NULL:
            return 0
        # Credit for a small part of the window is not worth a separate packet:
        # it is sent with the next packet.
        conn._pending_credit += n
        endpoint = conn._endpoint
        if self._pending_credit >= endpoint._stream_credit_step:
            self._pending_credit = 0
            endpoint._want_flush()
        if conn._pending_credit >= endpoint._conn_credit_step:
            conn._pending_credit = 0
            endpoint._want_flush()
        return 0

    cdef int _count_consumed(self, uint64_t n) except -1:
        """Report n consumed bytes, except those of the header, to the group."""
        if self._header_left:
            if n <= self._header_left:
                self._header_left -= n
                return 0
            n -= self._header_left
            self._header_left = 0
        if self._flags & F_JOINED_LATE:
            self._group._late_consumed += n
        elif self._flags & F_HELD:
            self._group._unread -= n
        return self._group._check_due()

    cdef uint64_t _body_held(self) noexcept:
        """Return how many buffered body bytes were never consumed."""
        cdef uint64_t other = self._uncredited + self._header_left
        return self._in.buffered - other if self._in.buffered > other else 0

    cdef int _leave_engine(self) except -1:
        """The handle was freed; the engine has counted everything as consumed."""
        self._c = NULL
        self._flags |= F_CLOSED
        if self._group is not None and self._group._c != NULL:
            if not self._flags & F_JOINED_LATE:
                self._flags |= F_HELD
                self._group._unread += self._body_held()
            return self._group._check_due()
        return 0

    cdef int _input_done(self) except -1:
        return self._give_stream_credit()

    cdef int _give_stream_credit(self) except -1:
        """Return credit once both engine and application are done with a peer's stream."""
        cdef QuicConnection conn = self._conn
        if (self._flags & (F_CLOSED | F_APP_DONE) == (F_CLOSED | F_APP_DONE)
                and not self._flags & (F_LOCAL | F_CREDITED)):
            self._flags |= F_CREDITED
            if conn._c != NULL:
                qe_conn_extend_streams(conn._c, 1 if self._flags & F_UNI else 0, 1)
                conn._endpoint._want_flush()
        return 0

    cdef int _wake_all(self) except -1:
        cdef QuicEndpoint endpoint = self._conn._endpoint
        if self._read_waiter is not None:
            waiter, self._read_waiter = self._read_waiter, None
            endpoint._woken += 1
            endpoint._wake(waiter)
        if self._write_waiter is not None:
            waiter, self._write_waiter = self._write_waiter, None
            endpoint._woken += 1
            endpoint._wake(waiter)
        if self._acked_waiter is not None:
            waiter, self._acked_waiter = self._acked_waiter, None
            endpoint._woken += 1
            endpoint._wake(waiter)
        return 0

    cdef object _conn_ended(self, str what):
        cdef CloseInfo info = self._conn._close_info
        cdef dict details = {"connection_closed": True}
        cdef str reason = ""
        cdef object remote = None
        if info is not None:
            details.update(kind=info.kind, code=info.code)
            reason = info.reason
            remote = bool(info.remote)
        return _exc.StreamError(
            f"stream {self._id}: the connection ended, {what}", stream_id=self._id,
            details=details, reason=reason, remote=remote)


cdef PyObject *_alloc_stream(PyTypeObject *its_type, Py_ssize_t n) except NULL:
    """tp_alloc of QuicStream, which has no subclass."""
    global _spare_stream_count
    cdef PyObject *found
    if _spare_stream_count == 0:
        return _alloc_other_stream(its_type, n)
    _spare_stream_count -= 1
    found = _spare_streams[_spare_stream_count]
    memset(<void *>found, 0, <size_t>its_type.tp_basicsize)
    PyObject_Init(found, its_type)
    PyObject_GC_Track(found)
    return found


cdef void _free_stream(void *memory) noexcept:
    """Its tp_free."""
    global _spare_stream_count
    if _spare_stream_count == MOST_SPARE_STREAMS:
        _free_other_stream(memory)
        return
    _spare_streams[_spare_stream_count] = <PyObject *>memory
    _spare_stream_count += 1


cdef PyTypeObject *_stream_type = <PyTypeObject *>QuicStream
cdef PyObject *(*_alloc_other_stream)(PyTypeObject *, Py_ssize_t) except NULL
_alloc_other_stream = _stream_type.tp_alloc
cdef freefunc _free_other_stream = _stream_type.tp_free
_stream_type.tp_alloc = _alloc_stream
_stream_type.tp_free = <freefunc>_free_stream
