# The hot paths of a session's streams in HTTP/3: they come, are opened, and go.
#
# They do what H3Session does in stream_arrived(), open_stream() and stream_finished(), as long as
# that is ordinary. H3Session says so with its stream_way, a tuple; there is none before the session
# takes arrivals, and after its end. Before anything unusual, such as an announcement of credit,
# these functions return without having changed anything, and the caller turns to H3Session.

cdef enum:  # the places in a stream_way
    WAY_QUIC
    WAY_GROUP
    WAY_HEADERS
    WAY_LOCAL
    WAY_PEER
    WAY_STREAMS
    WAY_NEWEST
    WAY_IDS
    WAY_EVENTS

    MOST_STREAMS = 64          # of a session, before H3Session is asked to forget ended ones


@cython.final
cdef class StreamRoutes:
    """The handler's stream_ready(): reads the header of a new stream, and finds its session."""

    def __init__(self, dict sessions not None, others not None):
        self._sessions = sessions
        self._others = others

    def __call__(self, QuicStream stream not None):
        self._route(stream)

    cdef int _route(self, QuicStream stream) except -1:
        cdef uint8_t head[4]
        cdef bint unidirectional = stream._flags & F_UNI != 0
        cdef long number
        cdef Py_ssize_t size = 3
        # RFC 9000 section 16: 0x40 0x41 is the two-byte form of 0x41, the type of a bidirectional
        # stream; 0x54 is that of a unidirectional one.
        if (rbuf_copy(&stream._in, head, 4) == 4 and head[0] == 0x40
                and head[1] == (0x54 if unidirectional else 0x41) and head[2] < 0x80):
            number = head[2]
            if number >= 0x40:
                number = (number & 0x3F) << 8 | head[3]
                size = 4
            session = self._sessions.get(number)
            if session is not None:
                way = _slot_get(&_s_stream_way, session)
                if way is not None and _take_on(session, <tuple>way, stream, unidirectional, size):
                    return 0
        self._others(stream)
        return 0


cdef bint _count(object counts, bint came) except -1:
    """Count a stream of the peer that came, or ended, unless PeerStreams has to act on it."""
    cdef int64_t received, finished, limit, gain
    most = _slot_get(&_s_limit, counts)
    if most is None:
        if came:
            _slot_set(&_s_received, counts, _slot_get(&_s_received, counts) + 1)
        else:
            _slot_set(&_s_finished, counts, _slot_get(&_s_finished, counts) + 1)
        return True
    limit = most
    received = _slot_get(&_s_received, counts)
    finished = _slot_get(&_s_finished, counts)
    if came:
        received += 1
    else:
        finished += 1
    gain = finished + <int64_t>_slot_get(&_s_window, counts) - limit
    if received > limit:
        return False
    if gain >= 1 and (gain >= (limit - received) // 2
                      or gain >= <int64_t>_slot_get(&_s_increment, counts)):
        return False
    if came:
        _slot_set(&_s_received, counts, received)
    else:
        _slot_set(&_s_finished, counts, finished)
    return True


cdef bint _take_on(object session, tuple way, QuicStream stream, bint unidirectional,
                   Py_ssize_t header_size) except -1:
    """As H3Session.stream_arrived(); return whether it was done."""
    cdef dict streams = way[WAY_STREAMS]
    if (len(streams) >= MOST_STREAMS and len(streams) >= <Py_ssize_t>_slot_get(&_s_sweep_at, session)
            or not _count((<tuple>way[WAY_PEER])[unidirectional], True)):
        return False
    stream_id = stream._id
    ids = way[WAY_IDS]
    if ids is not None and not unidirectional:
        if _slot_get(&_s_next_id, ids) == stream_id:
            _slot_set(&_s_next_id, ids, stream._id + 4)
        else:
            ids.settle(stream_id)
    stream._flags &= ~<uint32_t>F_DEFAULT_SINK
    stream._sink = None
    stream.skip(header_size)
    stream._join(<QuicGroup?>way[WAY_GROUP], 0, <uint64_t>header_size)
    streams[stream_id] = stream
    events = way[WAY_EVENTS]
    if isinstance(events, SessionPort):
        (<SessionPort>events)._stream_received(stream, unidirectional)
    else:
        events.stream_received(stream, unidirectional)
    return True


cdef QuicStream _open_on(object session, bint unidirectional):
    """As H3Session.open_stream(); None: it was not done."""
    cdef dict streams
    cdef QuicStream stream
    way = _slot_get(&_s_stream_way, session)
    if way is None:
        return None
    streams = (<tuple>way)[WAY_STREAMS]
    counts = (<tuple>(<tuple>way)[WAY_LOCAL])[unidirectional]
    opened, limit = _slot_get(&_s_opened, counts), _slot_get(&_s_limit, counts)
    if (limit is not None and opened >= limit
            or len(streams) >= MOST_STREAMS and len(streams) >= <Py_ssize_t>_slot_get(&_s_sweep_at, session)):
        return None
    stream = (<QuicConnection?>(<tuple>way)[WAY_QUIC])._open(unidirectional)
    if stream is None:
        return None
    stream_id = stream._id
    (<list>(<tuple>way)[WAY_NEWEST])[unidirectional] = stream_id
    _slot_set(&_s_opened, counts, opened + 1)
    stream._open_in(<QuicGroup?>(<tuple>way)[WAY_GROUP],
                   <bytes?>(<tuple>(<tuple>way)[WAY_HEADERS])[unidirectional])
    streams[stream_id] = stream
    return stream


cdef bint _finish_on(object session, TransportStream stream, object stream_id,
                     bint unidirectional) except -1:
    """As H3Session.stream_finished(); return whether it was done."""
    cdef dict streams
    way = _slot_get(&_s_stream_way, session)
    if way is None:
        return False
    streams = (<tuple>way)[WAY_STREAMS]
    if (streams.pop(stream_id, None) is not None and not stream._flags & F_LOCAL
            and not _count((<tuple>(<tuple>way)[WAY_PEER])[unidirectional], False)):
        streams[stream_id] = stream
        return False
    return True


# Of H3Session,
cdef Slot _s_stream_way = _slot("stream_way")
cdef Slot _s_sweep_at = _slot("sweep_at")
# LocalStreams and PeerStreams,
cdef Slot _s_limit = _slot("limit")
cdef Slot _s_opened = _slot("opened")
cdef Slot _s_received = _slot("received")
cdef Slot _s_finished = _slot("finished")
cdef Slot _s_window = _slot("window")
cdef Slot _s_increment = _slot("increment")
# and SettledIds.
cdef Slot _s_next_id = _slot("next_id")
