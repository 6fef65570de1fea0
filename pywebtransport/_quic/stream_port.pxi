# The hot paths of a stream: reading and writing what is there, waiting, the end.
#
# The public classes in _core inherit from StreamPort. They have the documentation and everything
# that happens seldom; a verb that needs it goes on as a coroutine of theirs.

cdef extern from "<time.h>" nogil:
    enum:
        CLOCK_REALTIME


cdef inline double _unix_time() noexcept:
    cdef timespec t
    clock_gettime(CLOCK_REALTIME, &t)
    return <double>t.tv_sec + 1e-9 * <double>t.tv_nsec


cdef double _monotonic() except -1.0:
    """As monotonic() of the clock of the package, which may be that of an event loop."""
    clock = _clock_names["monotonic"]
    return 1e-9 * <double>_clock() if clock is _system_clock else <double>clock()


cdef StreamPort _create_stream(object cls, SessionPort session, TransportStream quic, bint is_readable,
                               Py_ssize_t arrival):
    """Create an object of a subclass of StreamPort, without its __new__."""
    cdef StreamPort self = <StreamPort>(<PyTypeObject *>StreamPort).tp_new(
        <PyTypeObject *>cls, <PyObject *>(), NULL)
    Py_DECREF(self)  # the cast took another reference
    self._port = session
    self._quic = quic
    self._receive_done = not is_readable
    self._arrival = arrival
    self._send_order = 0
    self._created_at = _unix_time()
    quic.on_closed = _tell_port
    quic._port = <PyObject *>self
    session._list_stream(self)
    return self


cdef void _free_port(PyObject *port) noexcept:
    """tp_dealloc of StreamPort: the last reference is gone, so that no name may have it here.

    Two pointers lead to it, from its session and from the engine's stream. They take the place
    of weak references, which are objects themselves.
    """
    cdef OpenPorts ports = (<StreamPort>port)._list
    cdef TransportStream quic = (<StreamPort>port)._quic
    if ports is not None:
        _unlist(&(<StreamPort>port)._node)
        ports._count -= 1
    if quic is not None and quic._port == port:
        quic._port = NULL
    _dealloc_port(port)


cdef destructor _dealloc_port = (<PyTypeObject *>StreamPort).tp_dealloc
(<PyTypeObject *>StreamPort).tp_dealloc = <destructor>_free_port


# The garbage collector does not clear it: _free_port() needs its members. In each circle that it is
# part of, there is something else to clear: a session, a dictionary of listeners, a frame.
@cython.no_gc_clear
cdef class StreamPort:
    @property
    def _session(self):
        return self._get_session()

    @_session.setter
    def _session(self, SessionPort session not None):
        self._port = session

    def _loosen(self):
        """The session has ended and keeps this stream: do not keep the session from now on."""
        if self._port is not None:
            self._weak_port = _ref(self._port)
            self._port = None

    cdef SessionPort _get_session(self):
        if self._port is not None:
            return self._port
        session = None if self._weak_port is None else self._weak_port()
        if session is None:
            raise ReferenceError("the session of this stream is gone")
        return session

    def __del__(self):
        """The last reference is gone: the session ends the stream, unless it has ended."""
        cdef TransportStream quic = self._quic
        cdef SessionPort session = self._port  # None: it has ended, see _loosen()
        if (self._done or self._error is not None or session is None
                or session._close_info is not None):
            return
        if (self._receive_done and quic._flags & (F_FIN_WRITTEN | F_CLOSED) == F_FIN_WRITTEN
                and quic._port == <PyObject *>self):
            # Only an acknowledgement is missing.
            orphans = session._orphans
            if orphans is None:
                orphans = session._make_orphans()
            (<set>_slot_get(&_s_streams, orphans)).add(self)
            return
        self._dropped()

    # ---------------------------------------------------------------- receiving

    def _read(self, size=8192):
        cdef ReadVerb verb = <ReadVerb>_new_verb(V_READ)
        verb._stream = self
        verb._size = size
        verb._total = 0
        return verb

    def _read_all(self, max_size=None):
        cdef ReadAllVerb verb = <ReadAllVerb>_new_verb(V_READ_ALL)
        verb._stream = self
        verb._size = max_size
        verb._total = 0
        verb._most = -1
        return verb

    def _readexactly(self, n):
        cdef ReadExactlyVerb verb = <ReadExactlyVerb>_new_verb(V_READ_EXACTLY)
        verb._stream = self
        verb._size = n
        verb._total = 0
        return verb

    cpdef EagerFuture _begin_wait(self):
        cdef SessionPort session = self._get_session()
        cdef EagerFuture waiter
        if (self._receive_done or self._error is not None or self._read_waiter is not None
                or session._close_info is not None):
            self._refuse_wait()
        loop = _get_running_loop()
        if loop is not session._loop:
            self._refuse_wait()
        waiter = session._eager.create_future(loop)
        self._read_waiter = waiter
        timeout = session._config.read_timeout
        if timeout is not None:
            self._read_timer = loop.call_later(timeout, _expire, waiter)
        self._wait_started = _monotonic()
        self._quic._wait_read(waiter)
        return waiter

    cpdef object _end_wait(self, EagerFuture waiter):
        cdef double waited
        self._read_waiter = None
        waited = _monotonic() - self._wait_started
        self._read_time += waited
        if waited > self._max_read_time:
            self._max_read_time = waited
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        # The engine forgets a waiter that it wakes, but not one that was cancelled.
        if waiter._state == E_CANCELLED or waiter._state == E_WAITING:
            self._quic._read_waiter = None

    cpdef object _finish_receive(self):
        if not self._receive_done:
            self._receive_done = True
            if self._quic._flags & F_CLOSED:
                StreamPort._check_done(self)

    # ------------------------------------------------------------------ sending

    def _write(self, data, *, bint end_stream=False, bint wait_flush=True):
        return self._new_write(data, end_stream, wait_flush)

    def _write_all(self, data, chunk_size=8192):
        if not PyLong_CheckExact(chunk_size) or chunk_size < 1:
            return self._write_chunks(data, chunk_size)
        return self._new_write(data, True, True)

    cdef WriteVerb _new_write(self, object data, bint end_stream, bint wait_flush):
        cdef WriteVerb verb = <WriteVerb>_new_verb(V_WRITE)
        verb._stream = self
        verb._data = data
        verb._end_stream = end_stream
        verb._wait_flush = wait_flush
        return verb

    def _finish(self):
        self._finish_now()

    cdef int _finish_now(self) except -1:
        cdef TransportStream quic = self._quic
        if (self._get_session()._close_info is not None or self._reset_sent
                or quic._flags & (F_CLOSED | F_FIN_WRITTEN | F_STOPPED | F_RESET_SENT)):
            return 0
        try:
            if self._rest is not None:
                self._queue_rest()
            if not quic._flags & F_FIN_WRITTEN:
                quic._write_bytes(b"", True)
        except _exc.WebTransportError as error:
            raise self._write_failed(error) from None
        return 0

    def _close(self, *, code=None, reason=None):
        cdef CloseVerb verb = <CloseVerb>_new_verb(V_CLOSE)
        verb._stream = self
        verb._code = code
        return verb

    # ------------------------------------------------------------------ the end

    cpdef object _check_done(self):
        """Detach from the session once both the engine and the application are done."""
        cdef TransportStream quic = self._quic
        cdef SessionPort session
        if (self._done or not quic._flags & F_CLOSED
                or self._arrival):  # not accepted yet: the peer gets no credit for another one
            return
        session = self._get_session()
        if not (self._receive_done or quic._flags & F_RESET_RECEIVED
                or session._close_info is not None):
            return
        if session._close_info is not None:
            self._ending()  # only now is it known whether the session ended first
        self._done = True
        # Nothing of its engine object is told any more.
        quic._port = NULL
        quic.on_closed = None
        if self._closed_at is None:
            self._closed_at = _unix_time()
        SessionPort._remove_stream(session, self)
        if self._emitter is not None:
            self._tell_closed()


def _tell_port(TransportStream quic not None):
    """The engine is done with a stream (deliver phase)."""
    _port_closed(quic)


cdef int _port_closed(TransportStream quic) except -1:
    cdef StreamPort stream = quic._get_port()
    if stream is not None:
        StreamPort._check_done(stream)
    return 0


def _expire(EagerFuture waiter not None):
    """The read timeout passed."""
    if waiter._state == E_WAITING:
        waiter.set_result(True)


@cython.final
cdef class WriteVerb(Verb):
    """stream.write()"""

    @property
    def __qualname__(self):
        return f"{type(self._stream).__name__}.write"

    cdef object _advance(self):
        cdef StreamPort stream = self._stream
        cdef Py_ssize_t queued
        if not PyBytes_CheckExact(self._data) or stream._rest is not None:
            return self._continue(
                stream._write_other(self._data, self._end_stream, self._wait_flush))
        try:
            queued = stream._quic._write_bytes(<bytes>self._data, self._end_stream)
        except _exc.WebTransportError as error:
            raise stream._write_failed(error) from None
        stream.bytes_sent += <uint64_t>PyBytes_GET_SIZE(self._data)
        stream._writes += 1
        if self._wait_flush and (stream._writers is not None and stream._writers
                                 or queued > stream._get_session()._get_low_water()
                                 and stream._is_full(queued)):
            return self._continue(stream._drain())
        return None


@cython.final
cdef class CloseVerb(Verb):
    """stream.close() of the classes that send"""

    @property
    def __qualname__(self):
        return f"{type(self._stream).__name__}.close"

    cdef object _advance(self):
        if self._code is None:
            self._stream._finish_now()
        else:
            self._stream.reset(self._code)
        return None


cdef Slot _s_streams = _slot("streams")      # of Orphans
cdef object _ref = _weakref_ref
cdef dict _clock_names = _clock_module.__dict__
cdef object _system_clock = _time_monotonic
cdef object _get_running_loop = _asyncio.get_running_loop
_set_slots(V_WRITE, WriteVerb)
_set_slots(V_CLOSE, CloseVerb)
