# Layout of the classes of _core; each is defined in the .pxi file of its name.

cimport cython
from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from pywebtransport._quic.quicengine cimport (
    qe_close_info,
    qe_conn,
    qe_conn_stats,
    qe_engine,
    qe_group,
    qe_group_stats,
    qe_sock,
    qe_stream,
    qe_tls,
    sockaddr_storage,
    socklen_t,
)


# Received bytes of one stream: a ring of bytes objects. All but the last are
# full; the last may be a slab that is still being filled (see buffers.pxi).
cdef struct RecvBuffer:
    PyObject **heap       # ring storage once two slots are not enough
    PyObject *slots[2]    # ring storage before that
    uint32_t mask         # ring size - 1
    uint32_t head         # index of the oldest chunk
    uint32_t count        # chunks
    uint32_t slab         # size of the next slab; 0: exact chunks
    size_t head_pos       # consumed bytes of the oldest chunk
    size_t tail_len       # valid bytes of the newest chunk
    size_t buffered       # bytes that can be read


cdef class CloseInfo:
    cdef readonly str kind
    cdef readonly bint remote
    cdef readonly object code
    cdef readonly str reason
    cdef readonly bint handshake_done
    cdef readonly str tls_error
    cdef int _errno              # "errno" is a C macro


# Tasks of one event loop, and what they wait for: see eager.pxi.
cdef class EagerTurn:
    cdef bint _enabled
    cdef bint _is_cut          # some were left to the event loop the last time
    cdef bint _collecting      # an endpoint receives: it looks at the list when it is done
    cdef Py_ssize_t _later     # left to the event loop since it last looked
    cdef list _ready

    cpdef EagerFuture create_future(self, loop)
    cdef bint _open(self) noexcept
    cdef Py_ssize_t _close(self, uint64_t end, Py_ssize_t most) except -1


cdef class EagerFuture:
    cdef EagerTurn _turn
    cdef object _loop
    cdef object _callback
    cdef object _context
    cdef list _others          # further callbacks, with their contexts
    cdef object _result        # or the exception, or the message of the cancellation
    cdef int _state
    cdef bint _blocking        # what a task checks: it was awaited, not yielded
    cdef object __weakref__

    cdef object _error(self)
    cdef int _settle(self, int state, object result) except -1
    cdef list _callbacks(self)
    cdef int _call_later(self) except -1
    cdef int _call_now(self) except -1


cdef class QuicTls:
    cdef qe_tls *_c
    cdef readonly bint is_server


cdef class QuicSocket:
    cdef qe_sock *_c
    cdef QuicEndpoint _endpoint
    cdef int _fd
    cdef int _family


cdef class ConnectionQueue:
    cdef list _items
    cdef Py_ssize_t _at        # of the first one
    cdef Py_ssize_t _end       # behind the last one; further places are free

    cdef bint any(self) noexcept
    cdef int push(self, QuicConnection conn) except -1
    cdef Py_ssize_t postpone_new(self) except -1
    cdef QuicConnection pop(self)


cdef class QuicEndpoint:
    cdef qe_engine *_e
    cdef qe_engine *_doomed    # closed while it was at work; freed when it is done
    cdef object _accept
    cdef object _schedule_flush
    cdef object _on_error
    cdef object _keylog
    cdef object _qlog
    cdef object _log
    cdef object _forward
    cdef object _handshake_failed
    cdef object _mail          # from other workers, for this turn
    cdef EagerTurn _eager
    cdef set _conns            # alive in the engine
    cdef list _socks
    # Without sockets: packets come and go as bytes (see receive_packets).
    cdef object _packets_out
    cdef bint _routed            # with the addresses of each, and for any number of connections
    cdef list _packets           # received, not yet read
    cdef list _outgoing          # written by the engine, not yet handed over
    cdef bint _packets_blocked
    cdef sockaddr_storage _near
    cdef sockaddr_storage _far
    cdef socklen_t _address_size
    cdef size_t _write_low
    cdef uint64_t _stream_credit_step
    cdef uint64_t _conn_credit_step
    cdef bint _is_server
    # The turn.
    cdef bint _busy            # inside receive() or process()
    cdef bint _inside          # inside an engine call that calls back or runs without the GIL
    cdef list _closing_socks   # closed meanwhile
    cdef unsigned long _forks  # how often this process was forked when it was made
    cdef bint _delivering
    cdef bint _events          # one of the lists below has something
    cdef bint _dirty           # queued while busy: the turn must transmit
    cdef bint _lost            # a connection has credit of dropped streams to return
    cdef bint _again           # receive() or process() was called inside a turn
    cdef bint _flush_scheduled
    # Small writes do not all wait for the end of a turn of the event loop.
    cdef object _early_clock
    cdef size_t _early_queued    # bytes of them since packets were written
    cdef size_t _early_at        # so many are enough
    cdef size_t _early_first     # at the beginning of a turn
    cdef Py_ssize_t _woken     # coroutines woken in this turn
    cdef Py_ssize_t _most_woken
    cdef Py_ssize_t _resumed   # of those woken before, in the first part of this turn
    cdef double _outside       # nanoseconds until the next turn, and those woken before, of late
    cdef double _outside_woken
    cdef uint64_t _ended       # when the last turn ended; 0: nothing followed at once
    cdef uint64_t _turn_began  # when process() was called; 0: nothing followed at once
    # A turn tells handlers of so much, and leaves the rest to the next one.
    cdef uint64_t _slice       # nanoseconds
    cdef uint64_t _slice_end
    cdef uint64_t _seen        # the clock at the last look
    cdef uint64_t _reserve  # of the slice, for other events than streams
    cdef Py_ssize_t _told      # calls since deliver began
    cdef bint _late            # something is left to be delivered
    cdef Py_ssize_t _new       # connections with _is_new, or a few more
    cdef bint _first_round     # of deliver in this turn
    cdef bint _has_backlog     # packets wait for their connection's turn
    cdef object _failure       # first exception of a trampoline
    cdef object _fatal         # KeyboardInterrupt and the like, raised by the turn
    # What collect found, in the order of deliver.
    cdef list _lines
    cdef list _foreign         # packets of other workers
    cdef list _failed_handshakes  # (address, CloseInfo)
    cdef list _handshakes
    cdef list _facts
    cdef ConnectionQueue _ready  # connections with streams that have news, which had no share yet,
    cdef ConnectionQueue _ready_again  # and those that had one
    cdef bint _ready_first     # of which kind the last one was
    cdef list _dgram_conns
    cdef list _group_events
    cdef list _writable
    cdef list _dead_streams
    cdef list _dead_conns
    cdef object __weakref__

    cpdef bint process(self, uint64_t now) except? True
    cdef int _want_flush(self) except -1
    cdef int _resume(self, uint64_t now, uint64_t started) except -1
    cdef int _early_flush(self) except -1
    cdef int _take_foreign(self, bytes packet, uint64_t now) except -1
    cdef int _keep(self, object exc) except -1
    cdef int _report(self, object exc) except -1
    cdef int _raise_fatal(self) except -1
    cdef int _check_open(self, str what) except -1
    cdef int _after_turn(self) except -1
    cdef int _left(self) except -1
    cdef int _free_engine(self) except -1
    cdef int _free_closing_socks(self) except -1
    cdef int _check_process(self) except -1
    cdef int _check_failure(self) except -1
    cdef int _transmit(self, uint64_t now) except -2
    cdef int _look_for_backlog(self) except -1
    cdef int _serve_backlog(self, uint64_t now) except -1
    cdef int _read_waiting(self, uint64_t now) except -1
    cdef int _read_packets(self, uint64_t now) except -1
    cdef int _hand_over(self) except -1
    cdef int _begin(self, uint64_t now) except -1
    cdef uint64_t _look(self) noexcept
    cdef int _learn_cost(self, uint64_t begun) except -1
    cdef void _learn_turn(self, uint64_t now) noexcept
    cdef int _leave_time(self) except -1
    cdef bint _is_over(
        self, Py_ssize_t done, uint64_t reserve=*, Py_ssize_t places=*) noexcept
    cdef int _deliver(self) except -1
    cdef int _wake(self, object waiter) except -1


cdef class QuicGroup:
    cdef qe_group *_c
    cdef QuicConnection _conn
    cdef object _owner
    cdef uint64_t _send_limit
    cdef uint64_t _recv_limit
    cdef uint64_t _datagram_limit
    cdef uint64_t _threshold
    cdef uint64_t _base          # bytes consumed when recv_limit was set
    cdef bint _due
    # Streams whose handle was dead when they joined, or when they were read.
    cdef uint64_t _late_received
    cdef uint64_t _late_consumed
    # Bytes that closed streams still hold; the engine counts them as consumed.
    cdef uint64_t _unread
    cdef bint _violated
    cdef qe_group_stats _last

    cdef uint64_t _consumed(self) noexcept
    cdef int _check_due(self) except -1
    cdef int _note_late(self, uint64_t n) except -1
    cdef int _event(self, int kind, uint64_t a, uint64_t b) except -1
    cdef int _detach(self) except -1


cdef class QuicConnection:
    cdef qe_conn *_c
    cdef QuicEndpoint _endpoint
    cdef public object handler
    cdef list _streams           # alive in the engine, in no order
    cdef set _groups
    cdef list _ready             # streams that have news, in order; None: none has
    cdef list _dgrams            # received, to be delivered
    cdef size_t _dgram_bytes     # of these
    cdef bint _handshake_waits   # the handler was not told yet that it is complete
    cdef bint _is_new            # not all was delivered that came with the handshake
    cdef int _facts_waiting      # to be delivered
    cdef bint _dgrams_slow       # a large batch of them takes longer than a slice
    cdef uint64_t _dgrams_missed  # received when too many waited
    cdef CloseInfo _close_info
    cdef str _alpn
    cdef str _server_name
    cdef bint _resumed
    cdef bytes _peer_certificate
    cdef tuple _local
    cdef tuple _remote
    cdef uint64_t _pending_credit
    # Credit of streams that were dropped without release(): __dealloc__ must
    # not call the engine, the next turn does.
    cdef uint64_t _lost_bytes
    cdef uint64_t _lost_bidi
    cdef uint64_t _lost_uni
    cdef dict _last              # statistics at the end
    cdef object __weakref__

    cdef int _check_open(self, str what) except -1
    cdef int _enter(self, QuicStream stream) except -1
    cdef int _leave(self, QuicStream stream) except -1
    cdef QuicStream _open(self, bint unidirectional)
    cdef int _send_datagram(self, QuicGroup group, bytes prefix, const uint8_t *data, size_t n,
                            int priority, uint64_t deadline) except -32768
    cdef int _return_lost(self) except -1
    cdef int _learn(self) except -1
    cdef int _read_path(self) except -1
    cdef int _on_closed(self, const qe_close_info *info) except -1
    cdef int _fact(self, int kind, object payload) except -1


# A stream of any transport, see transport_stream.pxi.
cdef class TransportStream:
    cdef RecvBuffer _in
    cdef uint32_t _flags
    cdef int64_t _id
    cdef uint64_t _bytes_received
    cdef uint64_t _bytes_written
    cdef uint64_t _reset_code
    cdef uint64_t _stop_code
    cdef uint64_t _uncredited    # bytes at the front whose credit was returned before
    cdef object _sink
    cdef object _tag
    # The object for the application, which forgets itself here when it goes: see _free_port().
    cdef PyObject *_port
    cdef public object on_closed  # called once, when it is closed
    cdef object _read_waiter
    cdef object _write_waiter
    cdef object _acked_waiter
    cdef object __weakref__

    cpdef object skip(self, Py_ssize_t n)
    @cython.final
    cdef int _wait_read(self, object waiter) except -1
    @cython.final
    cdef int _on_data(self, const uint8_t *data, size_t n, bint fin) except -1
    @cython.final
    cdef int _consume(self, uint64_t n) except -1
    @cython.final
    cdef int _drop_input(self) except -1
    @cython.final
    cdef int _app_done(self) except -1
    @cython.final
    cdef bint _is_readable(self) noexcept
    @cython.final
    cdef int _check_readable(self) except -1
    @cython.final
    cdef int _check_writable(self) except -1
    @cython.final
    cdef StreamPort _get_port(self)
    @cython.final
    cdef bytes _take(self, size_t n)
    @cython.final
    cdef object _read_now(self, Py_ssize_t n)
    # What subclasses have.
    cdef Py_ssize_t _write_bytes(self, bytes data, bint fin) except -1
    cdef int _mark_ready(self) except -1
    cdef int _give_credit(self, uint64_t n) except -1
    cdef int _input_done(self) except -1
    cdef object _conn_ended(self, str what)


cdef class QuicStream(TransportStream):
    cdef qe_stream *_c
    cdef QuicConnection _conn
    cdef uint64_t _pending_credit
    cdef uint64_t _header_left   # bytes of the group's header that were not consumed
    cdef QuicGroup _group
    cdef Py_ssize_t _place       # in the list of its connection; -1: not in it

    cdef int _open_in(self, QuicGroup group, bytes header) except -1
    cdef int _join(self, QuicGroup group, uint64_t send_size, uint64_t recv_size) except -1
    cdef int _mark_writable(self) except -1
    cdef int _count_consumed(self, uint64_t n) except -1
    cdef uint64_t _body_held(self) noexcept
    cdef int _leave_engine(self) except -1
    cdef int _give_stream_credit(self) except -1
    cdef int _wake_all(self) except -1
    cdef int _written(self, Py_ssize_t n) except -1


cdef class PlainStream(TransportStream):
    cdef int _note(self, uint32_t news) except -1
    cdef int _note_writers(self) except -1
    cdef bint _may_write_on(self) except -1
    cdef int _tell_readers(self) except -1
    cdef int _tell_writers(self) except -1
    cdef int _tell_end(self) except -1


# Awaitables without coroutine frames: see verbs.pxi.
cdef class Verb:
    cdef int _stage
    cdef int _kind             # where spare ones of its class are kept
    cdef object _slow          # iterator of the coroutine that goes on with it
    cdef object __weakref__

    cdef object _advance(self)
    cdef int _give_up(self, object error) except -1
    cdef object _wait(self, EagerFuture future)
    cdef object _continue(self, object coroutine)


# The streams of a session that are not done, without keeping them: see session_port.pxi.
cdef struct PortNode:
    PortNode *before
    PortNode *after
    PyObject *port           # a StreamPort; NULL: the node of the list itself


cdef class OpenPorts:
    cdef PortNode _ends
    cdef Py_ssize_t _count

    cdef list _all(self)


# The bases of the public classes in _core: see stream_port.pxi. What is public here, the classes
# of _core use, too.
cdef class ConnectionPort:
    cdef public object _emitter
    cdef public object _datagram_gates
    cdef public object _stream_gates
    cdef public Py_ssize_t _local_streams
    cdef public Py_ssize_t _local_uni
    cdef public Py_ssize_t _max_local_streams
    cdef object __weakref__


cdef class SessionPort:
    cdef public object _emitter
    cdef public object _close_info
    cdef public object _config
    cdef public object _loop
    cdef public EagerTurn _eager
    cdef public object write_high_water
    cdef public object write_low_water
    cdef public ConnectionPort _connection
    cdef public object _h3
    cdef public object _state
    cdef public object _stats
    cdef public object _orphans
    cdef public object _acceptors
    cdef public object _incoming_bidi
    cdef public object _incoming_uni
    cdef OpenPorts _open       # created with the first stream
    cdef public Py_ssize_t _arrivals
    cdef public Py_ssize_t _counted_local
    cdef public Py_ssize_t _counted_uni
    cdef public Py_ssize_t _max_streams
    cdef object __weakref__

    cdef int _stream_received(self, TransportStream stream, bint unidirectional) except -1
    cdef Py_ssize_t _get_low_water(self) except? -1
    cdef int _list_stream(self, StreamPort stream) except -1
    cpdef StreamPort _take_stream(self, bint bidirectional, bint unidirectional)
    cpdef StreamPort _add_stream(self, TransportStream quic)
    cpdef TransportStream _try_open(self, bint unidirectional)
    cpdef object _remove_stream(self, StreamPort stream)


cdef class StreamPort:
    cdef public object _emitter
    cdef SessionPort _port
    cdef object _weak_port     # in its place, once the session has ended
    cdef OpenPorts _list       # that it is in, if it is in one
    cdef PortNode _node        # its place there
    cdef public TransportStream _quic
    cdef public object _error
    cdef public object _stats
    cdef public object _closed_at
    cdef public object _read_waiter
    cdef public object _read_timer
    cdef public object _writers
    cdef public object _send_end
    cdef public object _rest
    cdef public object _send_order
    cdef public bint _done
    cdef public bint _reset_sent
    cdef public bint _receive_done
    cdef public Py_ssize_t _arrival
    cdef public Py_ssize_t _reads
    cdef public Py_ssize_t _writes
    cdef public uint64_t bytes_read
    cdef public uint64_t bytes_sent
    cdef public double _read_time
    cdef public double _max_read_time
    cdef public double _wait_started
    cdef public double _created_at
    cdef object __weakref__

    cdef SessionPort _get_session(self)
    cdef int _finish_now(self) except -1
    cdef WriteVerb _new_write(self, object data, bint end_stream, bint wait_flush)
    cpdef EagerFuture _begin_wait(self)
    cpdef object _end_wait(self, EagerFuture waiter)
    cpdef object _finish_receive(self)
    cpdef object _check_done(self)


cdef class PiecesVerb(Verb):
    cdef StreamPort _stream
    cdef object _size          # what the caller wants
    cdef EagerFuture _future
    cdef object _first         # what was read
    cdef list _pieces          # as soon as there are several
    cdef Py_ssize_t _total

    cdef object _piece(self, Py_ssize_t size)
    cdef int _waited(self, EagerFuture future) except -1
    cdef object _piece_later(self, Py_ssize_t size)
    cdef int _keep(self, object data) except -1
    cdef bytes _joined(self)


cdef class ReadVerb(PiecesVerb):
    pass


cdef class ReadAllVerb(PiecesVerb):
    cdef Py_ssize_t _most      # bytes; -1: any number of them


cdef class ReadExactlyVerb(PiecesVerb):
    pass


cdef class OpenVerb(Verb):
    cdef SessionPort _session
    cdef bint _unidirectional
    cdef object _timeout
    cdef object _send_order


cdef class WriteVerb(Verb):
    cdef StreamPort _stream
    cdef object _data
    cdef bint _end_stream
    cdef bint _wait_flush


cdef class CloseVerb(Verb):
    cdef StreamPort _stream
    cdef object _code


# Streams of the peer, for the application: see session_port.pxi.
cdef class IncomingPort:
    cdef public object session
    cdef public bint _bidirectional
    cdef public bint _unidirectional
    cdef public object _first
    cdef public object _second
    cdef public Py_ssize_t _taken      # without waiting

    cdef StreamPort _take_now(self)


cdef class NextVerb(Verb):
    cdef IncomingPort _incoming


# The part of HTTP/3: see h3_port.pxi.
cdef class StreamRoutes:
    cdef dict _sessions        # session ID -> H3Session
    cdef object _others        # gets what is no ordinary stream of one of them

    cdef int _route(self, QuicStream stream) except -1


# The same for datagrams: see datagram_port.pxi.
cdef class DatagramRoutes:
    cdef dict _routes          # quarter stream ID -> callable
    cdef object _others        # gets what belongs to no route

    cdef int _route(self, list datagrams) except -1


cdef class DatagramQueuePort:
    cdef public object waiting
    cdef public object _arrivals
    cdef public object _memory
    cdef public Py_ssize_t limit
    cdef public Py_ssize_t held
    cdef public Py_ssize_t low
    cdef public Py_ssize_t _high
    cdef public Py_ssize_t _reserved
    cdef public Py_ssize_t _came
    cdef public double _last_arrival

    cdef Py_ssize_t _add(self, list datagrams, Py_ssize_t total) except -1
    cdef object _pop(self)


cdef class DatagramPort:
    cdef public object _emitter
    cdef public SessionPort _session
    cdef public object _h3
    cdef public DatagramQueuePort _queue
    cdef public object _receivers
    cdef public object _stats
    cdef public object _incoming_max_age
    cdef public object _outgoing_max_age
    cdef public object _min_size
    cdef public bint _closed
    cdef public Py_ssize_t _max_size
    cdef public double _receive_time
    cdef public double _max_receive_time
    cdef public Py_ssize_t _receive_sequence
    cdef public Py_ssize_t _send_sequence
    cdef public Py_ssize_t _received_count
    cdef public Py_ssize_t _receive_drops
    cdef public uint64_t _bytes_received
    cdef public uint64_t _bytes_sent
    cdef object __weakref__

    cdef int _note_sizes(self, Py_ssize_t least, Py_ssize_t most) except -1
    cpdef object _serve_receivers(self, Py_ssize_t taken=*)
    cdef bint _has_receivers(self) except -1
    cdef bint _is_over(self) noexcept
    cdef bint _send_now(self, bytes data) except -1
    cdef bint _may_send_now(self) except -1


cdef class ReceiveVerb(Verb):
    cdef DatagramPort _port
    cdef object _timeout
    cdef EagerFuture _turn
    cdef bint _is_first
    cdef double _started

    cdef object _take(self, DatagramPort port, DatagramQueuePort queue)


cdef class SendVerb(Verb):
    cdef DatagramPort _port
    cdef object _data
    cdef object _priority
    cdef object _ttl
