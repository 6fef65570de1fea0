# One stream of any transport: what has been received, the state of both directions, and waiters.
#
# A subclass has what depends on the transport: QuicStream in stream.pxi, PlainStream in
# plain_stream.pxi. The methods that they replace are the last ones of this class.

cdef enum:
    F_LOCAL = 1 << 0            # we opened it
    F_UNI = 1 << 1
    F_FIN_RECEIVED = 1 << 2
    F_RESET_RECEIVED = 1 << 3
    F_STOPPED = 1 << 4          # STOP_SENDING received
    F_STOP_CODE = 1 << 5        # and its code is known
    F_FIN_WRITTEN = 1 << 6
    F_RESET_SENT = 1 << 7
    F_STOP_SENT = 1 << 8
    F_ACKED = 1 << 9
    F_CLOSED = 1 << 10          # both directions are done, or the connection ended
    F_RELEASED = 1 << 11
    F_APP_DONE = 1 << 12        # the application saw the end of the receiving side
    F_CREDITED = 1 << 13        # the peer got its stream back
    F_DEFAULT_SINK = 1 << 14    # the connection handler's stream_ready()
    F_IN_READY = 1 << 15        # waits for deliver with something to read
    F_IN_WRITABLE = 1 << 16     # waits for deliver with something for who writes
    F_JOINED_LATE = 1 << 17     # joined its group after the handle was freed
    F_HELD = 1 << 18            # its buffered bytes are in its group's count of unread bytes


cdef extern from "Python.h":
    Py_ssize_t _references "Py_REFCNT"(PyObject *value) noexcept
    PyObject *PyObject_Init(PyObject *memory, PyTypeObject *kind) noexcept
    void PyObject_GC_Track(PyObject *value) noexcept


cdef int _wake_waiter(object waiter) except -1:
    if isinstance(waiter, EagerFuture):
        if (<EagerFuture>waiter)._state == E_WAITING:
            (<EagerFuture>waiter)._settle(E_DONE, None)
    elif not waiter.done():
        waiter.set_result(None)
    return 0


cdef class TransportStream:
    def __cinit__(self):
        global _live_streams
        _live_streams += 1

    def __init__(self):
        raise TypeError("TransportStream is the base of QuicStream and PlainStream")

    def __dealloc__(self):
        # After that of the subclass, which may look at what is buffered.
        global _live_streams
        _live_streams -= 1
        rbuf_clear(&self._in)

    def __repr__(self):
        words = ["unidirectional" if self._flags & F_UNI else "bidirectional",
                 "local" if self._flags & F_LOCAL else "remote"]
        if self._flags & F_CLOSED:
            words.append("closed")
        return f"<{type(self).__name__} {self._id} {' '.join(words)}>"

    # ---------------------------------------------------------------- identity

    @property
    def tag(self):
        port = self._get_port()
        return self._tag if port is None else PyWeakref_NewRef(port, None)

    @tag.setter
    def tag(self, value):
        self._tag = value

    @property
    def sink(self):
        return self._sink

    @sink.setter
    def sink(self, value):
        self._sink = value

    @property
    def stream_id(self):
        return self._id

    @property
    def is_unidirectional(self):
        return self._flags & F_UNI != 0

    @property
    def is_local(self):
        return self._flags & F_LOCAL != 0

    @property
    def is_closed(self):
        return self._flags & F_CLOSED != 0

    # ---------------------------------------------------------- receiving side

    @property
    def buffered(self):
        return self._in.buffered

    @property
    def fin_received(self):
        return self._flags & F_FIN_RECEIVED != 0

    @property
    def at_eof(self):
        return self._flags & F_FIN_RECEIVED != 0 and self._in.buffered == 0

    @property
    def is_reset(self):
        return self._flags & F_RESET_RECEIVED != 0

    @property
    def reset_code(self):
        return self._reset_code if self._flags & F_RESET_RECEIVED else None

    @property
    def bytes_received(self):
        return self._bytes_received

    def peek(self, Py_ssize_t n):
        return rbuf_peek(&self._in, <size_t>n if n > 0 else 0)

    cpdef object skip(self, Py_ssize_t n):
        if n < 0 or <size_t>n > self._in.buffered:
            raise _bad_value("n", n, f"0 to {self._in.buffered}, the bytes that are buffered")
        if n == 0:
            return
        rbuf_skip(&self._in, <size_t>n)
        self._consume(<uint64_t>n)
        if self._in.buffered == 0 and self._flags & F_FIN_RECEIVED:
            self._app_done()

    def read(self, Py_ssize_t n=-1):
        return self._read_now(n)

    cdef object _read_now(self, Py_ssize_t n):
        if self._flags & (F_RESET_RECEIVED | F_STOP_SENT | F_RELEASED):
            self._check_readable()
        if self._in.buffered != 0:
            if n == 0:
                return b""
            return self._take(<size_t>n if n > 0 else self._in.buffered)
        if self._flags & F_FIN_RECEIVED:
            self._app_done()
            return b""
        self._check_readable()
        return None

    def readinto(self, buffer):
        cdef Py_buffer view
        cdef size_t n = 0
        if self._flags & (F_RESET_RECEIVED | F_STOP_SENT | F_RELEASED):
            self._check_readable()
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        try:
            if self._in.buffered == 0:
                if self._flags & F_FIN_RECEIVED:
                    self._app_done()
                    return 0
                self._check_readable()
                return None
            n = rbuf_copy(&self._in, <uint8_t *>view.buf, <size_t>view.len)
            # Before the release, which may run Python code that reads this stream.
            rbuf_skip(&self._in, n)
            self._consume(n)
            if self._in.buffered == 0 and self._flags & F_FIN_RECEIVED:
                self._app_done()
        finally:
            PyBuffer_Release(&view)
        return n

    def unread(self, bytes data not None):
        if self._flags & (F_STOP_SENT | F_RELEASED):
            return
        rbuf_unread(&self._in, data)
        self._uncredited += <uint64_t>PyBytes_GET_SIZE(data)

    def set_read_waiter(self, waiter):
        self._wait_read(waiter)

    cdef int _wait_read(self, object waiter) except -1:
        self._read_waiter = waiter
        if waiter is not None and self._is_readable():
            self._read_waiter = None
            if not waiter.done():
                waiter.set_result(None)
        return 0

    # ------------------------------------------------------------ sending side

    @property
    def bytes_written(self):
        return self._bytes_written

    @property
    def fin_written(self):
        return self._flags & F_FIN_WRITTEN != 0

    @property
    def is_stopped(self):
        return self._flags & F_STOPPED != 0

    @property
    def stop_code(self):
        return self._stop_code if self._flags & F_STOP_CODE else None

    @property
    def can_write(self):
        return not self._flags & (F_CLOSED | F_FIN_WRITTEN | F_STOPPED | F_RESET_SENT)

    @property
    def is_acked(self):
        return self._flags & F_ACKED != 0

    def set_acked_waiter(self, waiter):
        self._acked_waiter = waiter
        if waiter is None:
            return
        if self._flags & (F_CLOSED | F_ACKED | F_STOPPED | F_RESET_SENT):
            self._acked_waiter = None
            if not waiter.done():
                waiter.set_result(None)

    # ----------------------------------------------------------------- the end

    def release(self):
        if self._flags & F_RELEASED:
            return
        self._flags = (self._flags | F_RELEASED) & ~<uint32_t>F_DEFAULT_SINK
        self._drop_input()
        self._sink = None
        self._tag = None
        self._port = NULL
        if self._read_waiter is not None:
            self._mark_ready()
        self._app_done()

    # ----------------------------------------------------------------- private

    cdef StreamPort _get_port(self):
        """Return the object for the application, if it is alive."""
        if self._port == NULL or _references(self._port) == 0:
            return None
        return <StreamPort>self._port

    cdef int _on_data(self, const uint8_t *data, size_t n, bint fin) except -1:
        self._bytes_received += n
        if fin:
            self._flags |= F_FIN_RECEIVED
        if self._flags & (F_RELEASED | F_STOP_SENT):
            if n:
                self._consume(n)
            return 0
        if n:
            rbuf_append(&self._in, data, n)
        elif not fin:
            return 0
        self._mark_ready()
        return 0

    cdef bytes _take(self, size_t n):
        cdef bytes data = rbuf_take(&self._in, n)
        self._consume(<uint64_t>PyBytes_GET_SIZE(data))
        if self._in.buffered == 0 and self._flags & F_FIN_RECEIVED:
            self._app_done()
        return data

    cdef int _consume(self, uint64_t n) except -1:
        """Give credit for n consumed bytes, except those put back with unread()."""
        if self._uncredited:
            if n <= self._uncredited:
                self._uncredited -= n
                return 0
            n -= self._uncredited
            self._uncredited = 0
        return self._give_credit(n)

    cdef int _drop_input(self) except -1:
        cdef size_t n = self._in.buffered
        if n:
            rbuf_clear(&self._in)
            self._consume(n)
        return 0

    cdef int _app_done(self) except -1:
        if not self._flags & F_APP_DONE:
            self._flags |= F_APP_DONE
            self._input_done()
        return 0

    cdef bint _is_readable(self) noexcept:
        return self._in.buffered != 0 or self._flags & (
            F_CLOSED | F_FIN_RECEIVED | F_RESET_RECEIVED | F_STOP_SENT | F_RELEASED) != 0

    cdef int _check_readable(self) except -1:
        """Raise if nothing can ever be read."""
        if self._flags & F_RESET_RECEIVED:
            self._drop_input()
            self._app_done()
        if self._flags & F_STOP_SENT:  # the reset, if any, is the peer's answer to that
            raise _exc.StreamError(
                f"stream {self._id}: reading was stopped by this end", stream_id=self._id)
        if self._flags & F_RESET_RECEIVED:
            raise _exc.StreamResetError(
                f"the peer reset stream {self._id} with code 0x{self._reset_code:x}; "
                "its remaining bytes are lost", stream_id=self._id,
                details={"code": self._reset_code})
        if self._flags & F_RELEASED:
            raise _exc.StreamError(f"stream {self._id} was released", stream_id=self._id)
        if self._flags & F_UNI and self._flags & F_LOCAL:
            raise _exc.StreamError(
                f"stream {self._id} is a unidirectional stream of this end: it can only send",
                stream_id=self._id)
        if self._flags & F_CLOSED:
            raise self._conn_ended("before the end of the stream was received")
        return 0

    cdef int _check_writable(self) except -1:
        """Raise if nothing can be written."""
        cdef dict details
        if self._flags & F_UNI and not self._flags & F_LOCAL:
            raise _exc.StreamError(
                f"stream {self._id} is a unidirectional stream of the peer: it can only receive",
                stream_id=self._id)
        if self._flags & F_STOPPED:
            details = {"code": self._stop_code} if self._flags & F_STOP_CODE else {}
            known = f" with code 0x{self._stop_code:x}" if self._flags & F_STOP_CODE else ""
            raise _exc.StreamStoppedError(
                f"the peer stopped reading stream {self._id}{known}; "
                "bytes not yet received are lost", stream_id=self._id, details=details)
        if self._flags & F_RESET_SENT:
            raise _exc.StreamError(
                f"stream {self._id} was reset by this end", stream_id=self._id)
        if self._flags & F_FIN_WRITTEN:
            raise _exc.StreamError(
                f"stream {self._id} is finished: nothing can be written after FIN",
                stream_id=self._id)
        if self._flags & F_CLOSED:
            raise self._conn_ended("it cannot be written")
        return 0

    # ------------------------------------------------------- what subclasses have

    cdef Py_ssize_t _write_bytes(self, bytes data, bint fin) except -1:
        """As write()."""
        raise NotImplementedError

    cdef int _mark_ready(self) except -1:
        """There is something for readers: deliver it in this turn, or soon."""
        raise NotImplementedError

    cdef int _give_credit(self, uint64_t n) except -1:
        """n more bytes do not need room any more."""
        raise NotImplementedError

    cdef int _input_done(self) except -1:
        """The application has seen the end of the receiving side."""
        raise NotImplementedError

    cdef object _conn_ended(self, str what):
        """Return the exception for what cannot be done because the connection ended."""
        raise NotImplementedError
