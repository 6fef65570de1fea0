# The functions that the engine calls: the collect phase.
#
# No Python-level method runs here. A callback copies bytes once and notes what
# happened on a list of the endpoint; deliver does the rest after the engine
# has returned. An exception (out of memory is the only one to expect) is kept
# on the endpoint, and the turn reports it.

cdef size_t _cb_packets_out(void *ctx, const qe_packets *trains, size_t n) noexcept:
    """For an endpoint without sockets: cut the trains; they are handed over afterwards."""
    cdef QuicEndpoint endpoint = <QuicEndpoint>ctx
    cdef size_t i, at, size
    cdef tuple local = None, remote = None
    cdef bytes packet
    if endpoint._packets_blocked:
        return 0
    try:
        for i in range(n):
            at = 0
            if endpoint._routed:
                local = _from_sockaddr(<const sockaddr_storage *>trains[i].local)
                remote = _from_sockaddr(<const sockaddr_storage *>trains[i].remote)
            while at < trains[i].len:
                size = min(trains[i].segment_size, trains[i].len - at)
                packet = PyBytes_FromStringAndSize(
                    <const char *>trains[i].data + at, <Py_ssize_t>size)
                endpoint._outgoing.append(
                    (local, remote, packet) if endpoint._routed else packet)
                at += size
    except BaseException as exc:
        endpoint._keep(exc)  # the packets are lost, as on a network
    return n


cdef void _cb_conn_handshake(void *eu, qe_conn *c, void *cu) noexcept:
    cdef QuicEndpoint endpoint = <QuicEndpoint>eu
    cdef QuicConnection conn
    try:
        if cu == NULL:
            conn = QuicConnection.__new__(QuicConnection)
            conn._endpoint = endpoint
            endpoint._conns.add(conn)
            conn._c = c
            qe_conn_set_user(c, <void *>conn)
        else:
            conn = <QuicConnection>cu
        conn._learn()
        endpoint._handshakes.append(conn)
        conn._handshake_waits = conn._is_new = True
        endpoint._new += 1
        endpoint._events = True
    except BaseException as exc:
        endpoint._keep(exc)
        # This connection is never reported to anybody.
        qe_conn_close(c, 0, 1, NULL, 0)


cdef void _cb_conn_closed(void *eu, qe_conn *c, void *cu, const qe_close_info *info) noexcept:
    cdef QuicEndpoint endpoint = <QuicEndpoint>eu
    cdef QuicConnection conn
    if cu == NULL:
        return
    conn = <QuicConnection>cu
    try:
        # During connect() the handle is not known here yet.
        conn._c = c
        endpoint._dead_conns.append(conn)
        endpoint._events = True
        conn._on_closed(info)
    except BaseException as exc:
        endpoint._keep(exc)
    conn._c = NULL
    endpoint._conns.discard(conn)


# Handshakes that fail in one turn and are told of; a flood of them is only counted.
cdef enum:
    MAX_FAILED_PER_TURN = 64


cdef void _cb_handshake_failed(void *eu, const sockaddr *remote, socklen_t remote_len,
                               const qe_close_info *info) noexcept:
    cdef QuicEndpoint endpoint = <QuicEndpoint>eu
    cdef sockaddr_storage address
    try:
        if len(endpoint._failed_handshakes) < MAX_FAILED_PER_TURN:
            memset(&address, 0, sizeof(address))
            memcpy(&address, remote, min(<size_t>remote_len, sizeof(address)))
            endpoint._failed_handshakes.append(
                (_from_sockaddr(&address), _make_close_info(info)))
            endpoint._events = True
    except BaseException as exc:
        endpoint._keep(exc)


cdef void _cb_streams_available(void *eu, qe_conn *c, void *cu, int uni) noexcept:
    _note_fact(eu, cu, FACT_STREAMS_AVAILABLE, uni != 0)


cdef void _cb_path_changed(void *eu, qe_conn *c, void *cu, int validated) noexcept:
    _note_fact(eu, cu, FACT_PATH_CHANGED, validated != 0)


cdef void _cb_dgram_writable(void *eu, qe_conn *c, void *cu) noexcept:
    _note_fact(eu, cu, FACT_DATAGRAM_WRITABLE, False)


cdef void _note_fact(void *eu, void *cu, int kind, bint flag) noexcept:
    if cu == NULL:
        return
    try:
        (<QuicConnection>cu)._fact(kind, True if flag else False)
    except BaseException as exc:
        (<QuicEndpoint>eu)._keep(exc)


cdef void _cb_session_ticket(void *eu, qe_conn *c, void *cu, const uint8_t *data,
                             size_t n) noexcept:
    _note_bytes(eu, cu, FACT_SESSION_TICKET, data, n)


cdef void _cb_new_token(void *eu, qe_conn *c, void *cu, const uint8_t *data, size_t n) noexcept:
    _note_bytes(eu, cu, FACT_NEW_TOKEN, data, n)


cdef void _note_bytes(void *eu, void *cu, int kind, const uint8_t *data, size_t n) noexcept:
    if cu == NULL:
        return
    try:
        (<QuicConnection>cu)._fact(
            kind, PyBytes_FromStringAndSize(<const char *>data, <Py_ssize_t>n))
    except BaseException as exc:
        (<QuicEndpoint>eu)._keep(exc)


cdef void _cb_stream_opened(void *eu, qe_conn *c, void *cu, qe_stream *s) noexcept:
    cdef QuicEndpoint endpoint = <QuicEndpoint>eu
    cdef QuicConnection conn
    cdef QuicStream stream
    if cu == NULL:
        return
    conn = <QuicConnection>cu
    try:
        stream = QuicStream.__new__(QuicStream)
        stream._conn = conn
        stream._id = qe_stream_id(s)
        # RFC 9000 section 2.1: the second bit says unidirectional.
        stream._flags = F_DEFAULT_SINK | (F_UNI if stream._id & 2 else 0)
        conn._enter(stream)
        stream._c = s
        qe_stream_set_user(s, <void *>stream)
    except BaseException as exc:
        endpoint._keep(exc)
        # Otherwise its bytes would be lost silently.
        qe_conn_close(c, 0, 1, NULL, 0)


cdef int _cb_stream_data(void *eu, qe_stream *s, void *su, const uint8_t *data, size_t n,
                         int fin) noexcept:
    if su == NULL:
        return 0
    try:
        (<QuicStream>su)._on_data(data, n, fin)
    except BaseException as exc:
        (<QuicEndpoint>eu)._keep(exc)
        return -1
    return 0


cdef void _cb_stream_reset(void *eu, qe_stream *s, void *su, uint64_t code,
                           uint64_t final_size) noexcept:
    cdef QuicStream stream
    if su == NULL:
        return
    stream = <QuicStream>su
    stream._flags |= F_RESET_RECEIVED
    stream._reset_code = code
    try:
        stream._mark_ready()
        if stream._group is not None:
            # Bytes that were lost on the way count as consumed.
            stream._group._check_due()
    except BaseException as exc:
        (<QuicEndpoint>eu)._keep(exc)


cdef void _cb_stream_stopped(void *eu, qe_stream *s, void *su, uint64_t code,
                             int has_code) noexcept:
    cdef QuicStream stream
    if su == NULL:
        return
    stream = <QuicStream>su
    stream._flags |= F_STOPPED
    if has_code:
        stream._flags |= F_STOP_CODE
        stream._stop_code = code
    try:
        stream._mark_ready()
        stream._mark_writable()
    except BaseException as exc:
        (<QuicEndpoint>eu)._keep(exc)


cdef void _cb_stream_writable(void *eu, qe_stream *s, void *su) noexcept:
    if su == NULL:
        return
    try:
        (<QuicStream>su)._mark_writable()
    except BaseException as exc:
        (<QuicEndpoint>eu)._keep(exc)


cdef void _cb_stream_acked(void *eu, qe_stream *s, void *su) noexcept:
    if su == NULL:
        return
    (<QuicStream>su)._flags |= F_ACKED
    try:
        (<QuicStream>su)._mark_writable()
    except BaseException as exc:
        (<QuicEndpoint>eu)._keep(exc)


cdef void _cb_stream_closed(void *eu, qe_stream *s, void *su) noexcept:
    cdef QuicEndpoint endpoint = <QuicEndpoint>eu
    cdef QuicStream stream
    if su == NULL:
        return
    stream = <QuicStream>su
    try:
        stream._leave_engine()
        # On the list first: the last reference must not go here, what it
        # holds may run Python code.
        endpoint._dead_streams.append(stream)
        endpoint._events = True
    except BaseException as exc:
        endpoint._keep(exc)
        return
    try:
        stream._conn._leave(stream)
    except BaseException as exc:
        endpoint._keep(exc)


cdef void _cb_buffer_released(void *eu, void *owner) noexcept:
    # Only bytes objects are pinned, so that nothing but memory is freed here.
    Py_DECREF(<bytes>owner)


cdef void _cb_dgram_received(void *eu, qe_conn *c, void *cu, const uint8_t *data,
                             size_t n) noexcept:
    cdef QuicEndpoint endpoint = <QuicEndpoint>eu
    cdef QuicConnection conn
    if cu == NULL:
        return
    conn = <QuicConnection>cu
    try:
        if conn._dgrams is None:
            conn._dgrams = []
            conn._dgram_bytes = 0
            endpoint._dgram_conns.append(conn)
            endpoint._events = True
        elif (len(conn._dgrams) >= MAX_DATAGRAMS
              or conn._dgram_bytes + n > MAX_DATAGRAM_BYTES):
            conn._dgrams_missed += 1
            return
        conn._dgram_bytes += n
        conn._dgrams.append(PyBytes_FromStringAndSize(<const char *>data, <Py_ssize_t>n))
    except BaseException as exc:
        endpoint._keep(exc)


cdef void _cb_group_blocked(void *eu, qe_group *g, void *gu, uint64_t limit) noexcept:
    if gu == NULL:
        return
    try:
        (<QuicGroup>gu)._event(GROUP_BLOCKED, limit, 0)
    except BaseException as exc:
        (<QuicEndpoint>eu)._keep(exc)


cdef void _cb_group_violated(void *eu, qe_group *g, void *gu, uint64_t received,
                             uint64_t limit) noexcept:
    cdef QuicGroup group
    if gu == NULL:
        return
    group = <QuicGroup>gu
    if group._violated:
        return
    group._violated = True
    try:
        group._event(GROUP_VIOLATED, received + group._late_received, group._recv_limit)
    except BaseException as exc:
        (<QuicEndpoint>eu)._keep(exc)


cdef enum:
    LINE_KEYLOG
    LINE_LOG
    LINE_QLOG


cdef void _cb_keylog_line(void *eu, const char *line) noexcept:
    _note_line(eu, LINE_KEYLOG, line)


cdef void _cb_log_line(void *eu, const char *line) noexcept:
    _note_line(eu, LINE_LOG, line)


cdef void _note_line(void *eu, int kind, const char *line) noexcept:
    cdef QuicEndpoint endpoint = <QuicEndpoint>eu
    try:
        endpoint._lines.append((kind, _text(line), None, False))
        endpoint._events = True
    except BaseException as exc:
        endpoint._keep(exc)


cdef void _cb_qlog_data(void *eu, qe_conn *c, void *cu, const uint8_t *data, size_t n,
                        int fin) noexcept:
    cdef QuicEndpoint endpoint = <QuicEndpoint>eu
    try:
        # By its address: the QuicConnection of a server is created after the handshake.
        endpoint._lines.append(
            (LINE_QLOG, PyBytes_FromStringAndSize(<const char *>data, <Py_ssize_t>n), <size_t>c,
             fin != 0))
        endpoint._events = True
    except BaseException as exc:
        endpoint._keep(exc)


# A packet on its way to another worker: this head, both addresses, the bytes.
cdef struct ForeignHead:
    uint8_t sock        # which socket of the endpoint; workers add theirs in the same order
    uint8_t ecn
    uint8_t local_len
    uint8_t remote_len
    uint8_t hops        # how often it was handed on


cdef void _cb_foreign_packet(void *eu, unsigned worker, unsigned hops, qe_sock *sock,
                             const sockaddr *local, socklen_t local_len, const sockaddr *remote,
                             socklen_t remote_len, unsigned ecn, const uint8_t *data,
                             size_t n) noexcept:
    cdef QuicEndpoint endpoint = <QuicEndpoint>eu
    cdef QuicSocket known
    cdef ForeignHead head
    cdef bytes packet
    cdef char *p
    cdef int number = 0
    try:
        for known in endpoint._socks:
            if known._c == sock:
                break
            number += 1
        head.sock = <uint8_t>number
        head.ecn = <uint8_t>ecn
        head.local_len = <uint8_t>local_len
        head.remote_len = <uint8_t>remote_len
        head.hops = <uint8_t>hops
        packet = PyBytes_FromStringAndSize(
            NULL, <Py_ssize_t>(sizeof(head) + local_len + remote_len + n))
        p = PyBytes_AS_STRING(packet)
        memcpy(p, &head, sizeof(head))
        p += sizeof(head)
        memcpy(p, local, local_len)
        p += local_len
        memcpy(p, remote, remote_len)
        memcpy(p + remote_len, data, n)
        endpoint._foreign.append((worker, packet))
        endpoint._events = True
    except BaseException as exc:
        endpoint._keep(exc)


cdef void _fill_callbacks(qe_callbacks *cb) noexcept:
    memset(cb, 0, sizeof(qe_callbacks))
    cb.conn_handshake = _cb_conn_handshake
    cb.conn_closed = _cb_conn_closed
    cb.handshake_failed = _cb_handshake_failed
    cb.streams_available = _cb_streams_available
    cb.path_changed = _cb_path_changed
    cb.session_ticket = _cb_session_ticket
    cb.new_token = _cb_new_token
    cb.stream_opened = _cb_stream_opened
    cb.stream_data = _cb_stream_data
    cb.stream_reset = _cb_stream_reset
    cb.stream_stopped = _cb_stream_stopped
    cb.stream_writable = _cb_stream_writable
    cb.stream_acked = _cb_stream_acked
    cb.stream_closed = _cb_stream_closed
    cb.buffer_released = _cb_buffer_released
    cb.dgram_received = _cb_dgram_received
    cb.dgram_writable = _cb_dgram_writable
    cb.group_blocked = _cb_group_blocked
    cb.group_violated = _cb_group_violated
    cb.foreign_packet = _cb_foreign_packet
    cb.memory_left = _cb_memory_left
    cb.library_memory = _cb_library_memory
    cb.keylog_line = _cb_keylog_line
    cb.qlog_data = _cb_qlog_data
    cb.log_line = _cb_log_line
