# What reading awaits: some bytes, a number of them, or all.

cdef enum:
    READ_CHUNK = 65536         # of read_all(); the engine delivers data in slabs of this size


cdef class PiecesVerb(Verb):
    """Reads a stream piece by piece."""

    cdef object _piece(self, Py_ssize_t size):
        """Return what can be read now, b"" at the end; None: wait for ``_future``, call again."""
        cdef StreamPort stream = self._stream
        cdef TransportStream quic = stream._quic
        cdef EagerFuture future = self._future
        cdef bytes data
        if future is not None:
            self._future = None
            StreamPort._end_wait(stream, future)
            if future._state != E_DONE or future._result is not None:
                self._waited(future)
        if quic._in.buffered and not quic._flags & (F_RESET_RECEIVED | F_STOP_SENT | F_RELEASED):
            data = quic._take(<size_t>size)
        else:
            found = self._piece_later(size)
            if found is None:
                return None
            data = <bytes>found
        stream._reads += 1
        if PyBytes_GET_SIZE(data):
            stream.bytes_read += <uint64_t>PyBytes_GET_SIZE(data)
        else:
            StreamPort._finish_receive(stream)
        return data

    cdef int _waited(self, EagerFuture future) except -1:
        """Raise what came in place of data, if anything did."""
        try:
            if future._state != E_DONE:
                future.result()  # raises
            if future._result:
                raise self._stream._timed_out()
        except _exc.WebTransportError as error:
            raise self._stream._read_failed(error) from None
        return 0

    cdef object _piece_later(self, Py_ssize_t size):
        """As ``_piece``, if there is no data, or none that may be read."""
        cdef StreamPort stream = self._stream
        try:
            data = stream._quic._read_now(size)
            if data is None:
                self._future = StreamPort._begin_wait(stream)
        except _exc.WebTransportError as error:
            raise stream._read_failed(error) from None
        return data

    cdef int _keep(self, object data) except -1:
        self._total += PyBytes_GET_SIZE(data)
        if self._total == PyBytes_GET_SIZE(data):
            self._first = data
        elif self._pieces is None:
            self._pieces = [self._first, data]
        else:
            self._pieces.append(data)
        return 0

    cdef bytes _joined(self):
        if self._pieces is not None:
            return b"".join(self._pieces)
        return b"" if self._first is None else self._first

    cdef int _give_up(self, object error) except -1:
        future, self._future = self._future, None
        StreamPort._end_wait(self._stream, future)
        return 0


@cython.final
cdef class ReadVerb(PiecesVerb):
    """stream.read()"""

    @property
    def __qualname__(self):
        return f"{type(self._stream).__name__}.read"

    cdef object _advance(self):
        cdef Py_ssize_t size
        if not PyLong_CheckExact(self._size):
            return self._continue(self._stream._read_other(self._size))
        try:
            size = self._size
        except OverflowError:
            size = 0
        if size <= 0:
            return self._continue(self._stream._read_other(self._size))
        data = self._piece(size)
        return self._wait(self._future) if data is None else data


@cython.final
cdef class ReadAllVerb(PiecesVerb):
    """stream.read_all()"""

    @property
    def __qualname__(self):
        return f"{type(self._stream).__name__}.read_all"

    cdef object _advance(self):
        if self._future is None and self._size is not None:
            if not PyLong_CheckExact(self._size):
                return self._continue(self._stream._read_all_other(self._size))
            try:
                self._most = self._size
            except OverflowError:
                self._most = PY_SSIZE_T_MAX if self._size > 0 else -1
            if self._most < 0:
                return self._continue(self._stream._read_all_other(self._size))
        while True:
            data = self._piece(READ_CHUNK)
            if data is None:
                return self._wait(self._future)
            if PyBytes_GET_SIZE(data) == 0:
                return self._joined()
            self._keep(data)
            if self._most >= 0 and self._total > self._most:
                self._stream._unread(self._joined())
                raise self._stream._too_long(self._size, self._total)


@cython.final
cdef class ReadExactlyVerb(PiecesVerb):
    """stream.readexactly()"""

    @property
    def __qualname__(self):
        return f"{type(self._stream).__name__}.readexactly"

    cdef object _advance(self):
        cdef StreamPort stream = self._stream
        cdef Py_ssize_t wanted
        if not PyLong_CheckExact(self._size):
            return self._continue(stream._read_exactly_other(self._size))
        try:
            wanted = self._size
        except OverflowError:
            wanted = -1
        if wanted < 0:
            return self._continue(stream._read_exactly_other(self._size))
        try:
            while self._total < wanted:
                data = self._piece(wanted - self._total)
                if data is None:
                    return self._wait(self._future)
                if PyBytes_GET_SIZE(data) == 0:
                    raise stream._too_short(self._joined(), self._size)
                self._keep(data)
        except (_exc.TimeoutError, _CancelledError):
            stream._unread(self._joined())
            raise
        if stream._quic._flags & F_FIN_RECEIVED and stream._quic._in.buffered == 0:
            StreamPort._finish_receive(stream)  # nobody needs to ask for the end
        return self._joined()

    cdef int _give_up(self, object error) except -1:
        PiecesVerb._give_up(self, error)
        if isinstance(error, (_exc.TimeoutError, _CancelledError)):
            self._stream._unread(self._joined())
        return 0


_set_slots(V_READ, ReadVerb)
_set_slots(V_READ_ALL, ReadAllVerb)
_set_slots(V_READ_EXACTLY, ReadExactlyVerb)
