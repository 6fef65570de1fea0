# One QUIC connection.

cdef enum:
    FACT_STREAMS_AVAILABLE
    FACT_DATAGRAM_WRITABLE
    FACT_PATH_CHANGED
    FACT_SESSION_TICKET
    FACT_NEW_TOKEN

    REASON_MAX = 256   # QE_REASON_MAX


@cython.final
cdef class QuicConnection:
    def __cinit__(self):
        global _live_connections
        _live_connections += 1
        self._streams = []
        self._alpn = ""
        self._server_name = ""

    def __init__(self):
        raise TypeError("QuicConnection is made by QuicEndpoint.connect() or by a peer")

    def __dealloc__(self):
        global _live_connections
        _live_connections -= 1

    def __repr__(self):
        return f"<QuicConnection {self.remote_address} {'closed' if self._c == NULL else 'open'}>"

    # ------------------------------------------------------------------- facts

    @property
    def is_closed(self):
        return self._c == NULL

    @property
    def close_info(self):
        return self._close_info

    @property
    def max_datagram_size(self):
        return qe_conn_max_datagram_size(self._c) if self._c != NULL else 0

    @property
    def datagrams_queued(self):
        return qe_conn_datagrams_queued(self._c) if self._c != NULL else 0

    @property
    def peer_max_datagram_frame_size(self):
        return qe_conn_peer_max_datagram_frame_size(self._c) if self._c != NULL else 0

    @property
    def local_address(self):
        self._read_path()
        return self._local

    @property
    def remote_address(self):
        self._read_path()
        return self._remote

    @property
    def peer_certificate(self):
        cdef const uint8_t *der = NULL
        cdef size_t n
        if self._peer_certificate is None and self._c != NULL:
            n = qe_conn_peer_certificate(self._c, &der)
            if n and der != NULL:
                self._peer_certificate = PyBytes_FromStringAndSize(<const char *>der,
                                                                   <Py_ssize_t>n)
        return self._peer_certificate

    @property
    def alpn(self):
        return self._alpn

    @property
    def server_name(self):
        return self._server_name

    @property
    def resumed(self):
        return self._resumed

    def stats(self):
        cdef qe_conn_stats s
        cdef dict figures
        if self._last is not None:
            figures = self._last.copy()
        else:
            memset(&s, 0, sizeof(s))
            if self._c != NULL:
                qe_conn_get_stats(self._c, &s)
            figures = _conn_stats(&s)
        figures["datagrams_missed"] = self._dgrams_missed
        return figures

    # ----------------------------------------------------------------- streams

    def open_stream(self, bint unidirectional):
        return self._open(unidirectional)

    cdef QuicStream _open(self, bint unidirectional):
        cdef QuicStream stream
        cdef int rc
        self._check_open("opening a stream")
        stream = QuicStream.__new__(QuicStream)
        stream._conn = self
        stream._flags = F_LOCAL | (F_UNI if unidirectional else 0)
        self._enter(stream)
        rc = qe_conn_open_stream(self._c, unidirectional, <void *>stream, &stream._c)
        if rc < 0:
            stream._c = NULL
            self._leave(stream)
            if rc == QE_ERR_STREAM_LIMIT:
                return None
            raise _error(rc, "opening a stream")
        stream._id = qe_stream_id(stream._c)
        return stream

    def take_greeting(self):
        cdef QuicStream stream
        if self._c == NULL:
            return None
        stream = QuicStream.__new__(QuicStream)
        stream._conn = self
        stream._flags = F_LOCAL | F_UNI
        stream._c = qe_conn_take_greeting(self._c, <void *>stream)
        if stream._c == NULL:
            return None
        self._enter(stream)
        stream._id = qe_stream_id(stream._c)
        return stream

    def streams_left(self, bint unidirectional):
        return qe_conn_streams_left(self._c, unidirectional) if self._c != NULL else 0

    # --------------------------------------------------------------- datagrams

    def send_datagram(self, bytes prefix not None, data, QuicGroup group=None, int priority=0,
                      deadline=None):
        cdef Py_buffer view
        cdef uint64_t until = QE_NEVER
        cdef Py_ssize_t size
        cdef int rc
        if deadline is not None:
            until = deadline
        if group is not None and group._conn is not self:
            raise _bad_value("group", group, "a group of the same connection")
        if PyBytes_CheckExact(data):
            size = PyBytes_GET_SIZE(<bytes>data)
            rc = self._send_datagram(group, prefix, <const uint8_t *>PyBytes_AS_STRING(<bytes>data),
                                     <size_t>size, priority, until)
        else:
            # Both may run Python code: what counts is looked at in between.
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                size = view.len
                rc = self._send_datagram(group, prefix, <const uint8_t *>view.buf, <size_t>size,
                                         priority, until)
            finally:
                PyBuffer_Release(&view)
        if rc == 0:
            self._endpoint._want_flush()
            return True
        if rc == QE_ERR_BLOCKED:
            self._endpoint._want_flush()
            return False
        if rc == QE_ERR_DGRAM_TOO_LARGE:
            raise _exc.DatagramTooLargeError(
                datagram_size=size,
                max_size=max(0, <Py_ssize_t>self.max_datagram_size - len(prefix)))
        if rc == QE_ERR_INVALID:
            raise _bad_value("priority", priority, "0, 1 or 2")
        error = _error(rc, "sending a datagram")
        if isinstance(error, _exc.DatagramError):
            error.datagram_size = size
        raise error

    cdef int _send_datagram(self, QuicGroup group, bytes prefix, const uint8_t *data, size_t n,
                            int priority, uint64_t deadline) except -32768:
        """The engine's result; it has no such code."""
        if self._c == NULL:
            self._check_open("sending a datagram")
        return qe_conn_send_datagram(
            self._c, group._c if group is not None else NULL,
            <const uint8_t *>PyBytes_AS_STRING(prefix), <size_t>PyBytes_GET_SIZE(prefix),
            data, n, priority, deadline)

    # --------------------------------------------------------------- lifecycle

    def close(self, code, str reason not None="", *, bint application=True):
        cdef uint64_t value = _check_code(code, "code")
        cdef bytes text
        cdef int rc
        if self._c == NULL:
            return
        text = reason.encode("utf-8", "replace")
        if len(text) > REASON_MAX:
            text = text[:REASON_MAX].decode("utf-8", "ignore").encode("utf-8")
        rc = qe_conn_close(self._c, application, value, <const uint8_t *>PyBytes_AS_STRING(text),
                           <size_t>PyBytes_GET_SIZE(text))
        if rc < 0 and rc != QE_ERR_CLOSED:
            raise _error(rc, "closing the connection")
        self._endpoint._want_flush()

    def abandon(self):
        cdef QuicEndpoint endpoint = self._endpoint
        if self._c == NULL:
            return
        qe_conn_abandon(self._c)
        if endpoint._busy or endpoint._delivering:
            return
        endpoint._check_failure()
        endpoint._woken = 0
        endpoint._slice_end = <uint64_t>-1  # all of it, now
        endpoint._deliver()
        endpoint._raise_fatal()

    def new_group(self, owner):
        cdef QuicGroup group
        cdef int rc
        self._check_open("making a group")
        group = QuicGroup.__new__(QuicGroup)
        group._conn = self
        group._owner = owner
        rc = qe_group_new(self._c, <void *>group, &group._c)
        if rc < 0:
            group._c = NULL
            raise _error(rc, "making a group")
        if self._groups is None:
            self._groups = set()
        self._groups.add(group)
        return group

    def migrate(self, QuicSocket sock, local, now):
        cdef sockaddr_storage address
        cdef socklen_t n
        cdef qe_sock *c = NULL
        cdef int rc, family
        self._check_open("migrating")
        if sock is None and self._endpoint._routed:
            family = AF_INET6 if ":" in local[0] else AF_INET
        elif sock is None or sock._c == NULL or sock._endpoint is not self._endpoint:
            raise _bad_value("sock", sock, "an open socket of the same endpoint")
        else:
            c = sock._c
            family = sock._family
        n = _to_sockaddr(local, family, &address)
        rc = qe_conn_migrate(self._c, c, <const sockaddr *>&address, n, <uint64_t>now)
        if rc < 0:
            raise _error(rc, "migrating")
        self._endpoint._want_flush()

    def initiate_key_update(self, now):
        cdef int rc
        self._check_open("updating keys")
        rc = qe_conn_initiate_key_update(self._c, <uint64_t>now)
        if rc < 0:
            raise _error(rc, "updating keys")
        self._endpoint._want_flush()

    def export_keying_material(self, bytes label not None, bytes context not None,
                               Py_ssize_t length):
        cdef bytes result
        cdef int rc
        if not 1 <= length <= 255 * 32:
            raise _bad_value("length", length, f"1 to {255 * 32} bytes")
        self._check_open("exporting keying material")
        result = PyBytes_FromStringAndSize(NULL, length)
        rc = qe_conn_export(self._c, PyBytes_AS_STRING(label), <size_t>PyBytes_GET_SIZE(label),
                            <const uint8_t *>PyBytes_AS_STRING(context),
                            <size_t>PyBytes_GET_SIZE(context),
                            <uint8_t *>PyBytes_AS_STRING(result), <size_t>length)
        if rc < 0:
            raise _error(rc, "exporting keying material")
        return result

    # ----------------------------------------------------------------- private

    cdef int _enter(self, QuicStream stream) except -1:
        stream._place = PyList_GET_SIZE(self._streams)
        self._streams.append(stream)
        return 0

    cdef int _leave(self, QuicStream stream) except -1:
        """The last one takes its place."""
        cdef QuicStream last
        cdef Py_ssize_t place = stream._place
        if place < 0:
            return 0
        stream._place = -1
        last = self._streams.pop()
        if last is not stream:
            last._place = place
            self._streams[place] = last
        return 0

    cdef int _check_open(self, str what) except -1:
        cdef CloseInfo info = self._close_info
        if self._c != NULL:
            return 0
        if info is None:
            raise _exc.ConnectionError(f"{what}: the connection is closed; open a new one")
        raise _exc.ConnectionError(
            f"{what}: the connection is closed ({info.kind}"
            f"{', by the peer' if info.remote else ''}"
            f"{': ' + info.reason if info.reason else ''}); open a new one",
            error_code=info.code if info.kind in ("application", "transport") else None,
            remote_address=self._remote, reason=info.reason, remote=bool(info.remote),
            details={"kind": info.kind})

    cdef int _read_path(self) except -1:
        cdef sockaddr_storage local, remote
        if self._c != NULL:
            memset(&local, 0, sizeof(local))
            memset(&remote, 0, sizeof(remote))
            qe_conn_get_path(self._c, &local, &remote)
            self._local = _from_sockaddr(&local)
            self._remote = _from_sockaddr(&remote)
        return 0

    cdef int _learn(self) except -1:
        """Keep what the handshake settled; it is asked for after the end as well."""
        self._alpn = _text(qe_conn_alpn(self._c))
        self._server_name = _text(qe_conn_server_name(self._c))
        self._resumed = qe_conn_resumed(self._c) != 0
        return 0

    cdef int _on_closed(self, const qe_close_info *info) except -1:
        """The handle dies: keep what is asked for afterwards."""
        cdef QuicGroup group
        cdef qe_conn_stats last
        try:
            self._close_info = _make_close_info(info)
            self._read_path()
            qe_conn_get_stats(self._c, &last)
            self._last = _conn_stats(&last)
            if self._groups is not None:
                for group in self._groups:
                    if group._c != NULL:
                        group._detach()
        finally:
            self._c = NULL
            self._groups = None  # groups hold their connection: no circle may be left
        return 0

    cdef int _return_lost(self) except -1:
        cdef QuicGroup group
        if self._c != NULL:
            if self._lost_bytes:
                qe_conn_consume(self._c, self._lost_bytes)
            if self._lost_bidi:
                qe_conn_extend_streams(self._c, 0, self._lost_bidi)
            if self._lost_uni:
                qe_conn_extend_streams(self._c, 1, self._lost_uni)
            if self._groups is not None:
                for group in self._groups:
                    group._check_due()
        self._lost_bytes = 0
        self._lost_bidi = 0
        self._lost_uni = 0
        return 0

    cdef int _fact(self, int kind, object payload) except -1:
        self._endpoint._facts.append((self, kind, payload))
        self._facts_waiting += 1
        self._endpoint._events = True
        return 0
