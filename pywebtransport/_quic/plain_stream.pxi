# The stream of a transport that is written in Python.
#
# What it has received is kept here, and the classes in _core read it at the same cost as that of
# a QUIC stream. The transport's subclass keeps the bytes to send, and gives credit.

cdef enum:
    F_END_DUE = 1 << 19         # on_closed waits for deliver()


cdef class PlainStream(TransportStream):
    def __init__(self, int64_t stream_id, *, bint is_local, bint is_unidirectional):
        self._id = stream_id
        self._flags |= (F_LOCAL if is_local else 0) | (F_UNI if is_unidirectional else 0)

    def __del__(self):
        """Dropped without release(): nobody reads the rest."""
        if self._in.buffered:
            self._drop_input()
        if self._flags & F_CLOSED:
            self._app_done()

    # ------------------------------------------------- what the transport calls

    def feed(self, data, bint fin):
        cdef Py_buffer view
        if PyBytes_CheckExact(data):
            self._on_data(<const uint8_t *>PyBytes_AS_STRING(<bytes>data),
                          <size_t>PyBytes_GET_SIZE(<bytes>data), fin)
            return
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self._on_data(<const uint8_t *>view.buf, <size_t>view.len, fin)
        finally:
            PyBuffer_Release(&view)

    def peer_reset(self, code):
        cdef uint64_t value = _check_code(code, "code")
        if self._flags & (F_FIN_RECEIVED | F_RESET_RECEIVED):
            return  # everything has arrived before it
        self._flags |= F_RESET_RECEIVED
        self._reset_code = value
        self._mark_ready()

    def peer_stopped(self, code):
        cdef uint64_t value = _check_code(code, "code")
        if self._flags & F_STOPPED:
            return
        self._flags |= F_STOPPED | F_STOP_CODE
        self._stop_code = value
        self._mark_ready()
        self._note_writers()

    def finish_written(self, uint64_t n, bint fin):
        self._bytes_written += n
        if fin:
            self._flags |= F_FIN_WRITTEN

    def mark_reset_sent(self):
        self._flags |= F_RESET_SENT
        self._note_writers()

    def mark_stop_sent(self):
        self._flags |= F_STOP_SENT
        self._drop_input()
        self._app_done()
        if self._read_waiter is not None:
            self._mark_ready()

    def mark_acked(self):
        self._flags |= F_ACKED
        self._note_writers()

    def close_stream(self):
        if not self._flags & F_CLOSED:
            self._flags |= F_CLOSED
            self._note(F_END_DUE)

    def deliver(self):
        """Do all of it; then raise what a callback raised, if any did."""
        cdef uint32_t news = self._flags & (F_IN_READY | F_IN_WRITABLE | F_END_DUE)
        self._flags &= ~news
        try:
            if news & F_IN_READY:
                self._tell_readers()
        finally:
            try:
                if self._write_waiter is not None or self._acked_waiter is not None:
                    self._tell_writers()
            finally:
                if news & F_END_DUE:
                    self._tell_end()

    def check_writable(self):
        self._check_writable()

    # ------------------------------------------------------------ sending side

    def set_write_waiter(self, waiter):
        self._write_waiter = waiter
        if waiter is not None and self._may_write_on():
            self._write_waiter = None
            _wake_waiter(waiter)

    # -------------------------------------------------- what the subclass has

    def consumed(self, n):
        raise NotImplementedError

    def input_done(self):
        raise NotImplementedError

    def has_news(self):
        raise NotImplementedError

    def write(self, data, fin=False):
        raise NotImplementedError

    def write_room(self):
        raise NotImplementedError

    def connection_error(self, what):
        raise NotImplementedError

    # ----------------------------------------------------------------- private

    cdef int _note(self, uint32_t news) except -1:
        cdef uint32_t known = self._flags & (F_IN_READY | F_IN_WRITABLE | F_END_DUE)
        self._flags |= news
        if not known:
            self.has_news()
        return 0

    cdef int _note_writers(self) except -1:
        if self._write_waiter is not None or self._acked_waiter is not None:
            self._note(F_IN_WRITABLE)
        return 0

    cdef bint _may_write_on(self) except -1:
        """Whether who waits for room has nothing to wait for any more."""
        return self._flags & (F_CLOSED | F_STOPPED | F_RESET_SENT) != 0 or bool(self.write_room())

    cdef int _tell_readers(self) except -1:
        try:
            if self._read_waiter is not None and self._is_readable():
                waiter, self._read_waiter = self._read_waiter, None
                _wake_waiter(waiter)
        finally:
            if self._sink is not None:
                self._sink(self)
        return 0

    cdef int _tell_writers(self) except -1:
        try:
            if self._write_waiter is not None and self._may_write_on():
                waiter, self._write_waiter = self._write_waiter, None
                _wake_waiter(waiter)
        finally:
            if self._acked_waiter is not None and self._flags & (
                    F_CLOSED | F_ACKED | F_STOPPED | F_RESET_SENT):
                waiter, self._acked_waiter = self._acked_waiter, None
                _wake_waiter(waiter)
        return 0

    cdef int _tell_end(self) except -1:
        try:
            if self._read_waiter is not None:
                waiter, self._read_waiter = self._read_waiter, None
                _wake_waiter(waiter)
        finally:
            callback, self.on_closed = self.on_closed, None
            if callback is _tell_port:
                _port_closed(self)
            elif callback is not None:
                callback(self)
        return 0

    # ------------------------------------------------------ of TransportStream

    cdef Py_ssize_t _write_bytes(self, bytes data, bint fin) except -1:
        return self.write(data, fin)

    cdef int _mark_ready(self) except -1:
        return self._note(F_IN_READY)

    cdef int _give_credit(self, uint64_t n) except -1:
        self.consumed(n)
        return 0

    cdef int _input_done(self) except -1:
        self.input_done()
        return 0

    cdef object _conn_ended(self, str what):
        cdef dict found = dict(self.connection_error(what))
        cdef str reason = found.pop("reason", "")
        cdef object remote = found.pop("remote", None)
        return _exc.StreamError(
            f"stream {self._id}: the connection ended, {what}", stream_id=self._id,
            details={"connection_closed": True, **found}, reason=reason, remote=remote)
