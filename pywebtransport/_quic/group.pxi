# Streams and datagrams of one session that share credit.
#
# The engine counts the streams whose handles exist. A short stream can end in
# the engine before the layer above has read its header and knows its session.
# Such a stream is counted here, and the limit of the engine is lowered by the
# same amount, so that both together stay within the limit.
#
# When a handle is freed, the engine counts the stream's bytes as consumed. Bytes
# that the application has not read are subtracted until it reads them.

cdef enum:
    GROUP_BLOCKED
    GROUP_VIOLATED
    GROUP_CREDIT_DUE


@cython.final
@cython.freelist(16)
cdef class QuicGroup:
    def __cinit__(self):
        global _live_groups
        _live_groups += 1
        self._send_limit = QE_NEVER
        self._recv_limit = QE_NEVER
        self._datagram_limit = QE_NEVER

    def __init__(self):
        raise TypeError("QuicGroup is made by QuicConnection.new_group()")

    def __dealloc__(self):
        global _live_groups
        _live_groups -= 1

    @property
    def send_limit(self):
        return None if self._send_limit == QE_NEVER else self._send_limit

    @send_limit.setter
    def send_limit(self, value):
        self._send_limit = _check_limit(value, "send_limit")
        if self._c != NULL:
            qe_group_set_send_limit(self._c, self._send_limit)
            self._conn._endpoint._want_flush()

    @property
    def recv_limit(self):
        return None if self._recv_limit == QE_NEVER else self._recv_limit

    @recv_limit.setter
    def recv_limit(self, value):
        self._recv_limit = _check_limit(value, "recv_limit")
        self._base = self._consumed()
        self._due = False
        self._violated = False
        self._note_late(0)

    @property
    def datagram_limit(self):
        return None if self._datagram_limit == QE_NEVER else self._datagram_limit

    @datagram_limit.setter
    def datagram_limit(self, value):
        self._datagram_limit = _check_limit(value, "datagram_limit")
        if self._c != NULL:
            qe_group_set_datagram_limit(self._c, self._datagram_limit)
            self._conn._endpoint._want_flush()

    @property
    def credit_threshold(self):
        return self._threshold

    @credit_threshold.setter
    def credit_threshold(self, value):
        self._threshold = 0 if value is None else _check_limit(value, "credit_threshold")
        self._check_due()

    def stats(self):
        cdef qe_group_stats s
        if self._c != NULL:
            qe_group_get_stats(self._c, &s)
        else:
            s = self._last
        s.bytes_received += self._late_received
        s.bytes_consumed = self._consumed()
        s.send_limit = self._send_limit
        s.recv_limit = self._recv_limit
        return _group_stats(&s)

    def clear_datagrams(self):
        return qe_group_clear_datagrams(self._c) if self._c != NULL else 0

    def close(self):
        cdef qe_group *c = self._c
        if c != NULL:
            self._detach()
            qe_group_free(c)
            self._conn._groups.discard(self)
        self._owner = None

    cdef int _detach(self) except -1:
        """The handle is freed: keep its counters."""
        qe_group_get_stats(self._c, &self._last)
        self._c = NULL
        return 0

    cdef uint64_t _consumed(self) noexcept:
        """Count body bytes that the application has read or dropped."""
        cdef qe_group_stats s
        if self._c == NULL:
            return self._last.bytes_consumed + self._late_consumed - self._unread
        qe_group_get_stats(self._c, &s)
        return s.bytes_consumed + self._late_consumed - self._unread

    cdef int _check_due(self) except -1:
        if self._threshold and not self._due and self._consumed() - self._base >= self._threshold:
            self._due = True
            self._event(GROUP_CREDIT_DUE, 0, 0)
        return 0

    cdef int _note_late(self, uint64_t n) except -1:
        """A stream without a handle joined with n body bytes, or the limit changed."""
        cdef qe_group_stats s
        self._late_received += n
        if self._c == NULL:
            return 0
        if self._recv_limit == QE_NEVER:
            qe_group_set_recv_limit(self._c, QE_NEVER)
            return 0
        if self._late_received <= self._recv_limit:
            qe_group_set_recv_limit(self._c, self._recv_limit - self._late_received)
        else:
            qe_group_set_recv_limit(self._c, 0)
        if self._late_received and not self._violated:
            qe_group_get_stats(self._c, &s)
            if s.bytes_received + self._late_received > self._recv_limit:
                self._violated = True
                self._event(GROUP_VIOLATED, s.bytes_received + self._late_received,
                            self._recv_limit)
        return 0

    cdef int _event(self, int kind, uint64_t a, uint64_t b) except -1:
        cdef QuicEndpoint endpoint = self._conn._endpoint
        if self._owner is None:
            return 0
        endpoint._group_events.append((self, kind, a, b))
        endpoint._events = True
        endpoint._want_flush()
        return 0
