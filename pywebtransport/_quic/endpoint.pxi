# One engine. A turn is: read, collect, deliver, transmit (design: two paths).

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *out)
    enum:
        CLOCK_MONOTONIC


cdef enum:
    SLICE = 2_000_000          # nanoseconds, of an endpoint with a single connection
    TURN = 1_000_000           # of the event loop, with everything that runs in it, and
    LEAST_SLICE = 125_000      # the slice of an endpoint whose turns are longer: see _learn_turn
    SLICE_CALLS = 4            # calls without a look at the clock
    LEAST_WOKEN = 24           # coroutines that run next, all in one turn of the event loop:
    MOST_WOKEN = 128           # as many as fit into a slice, judging by those before
    WOKEN_COST = 40_000        # nanoseconds of one of them, before any is known
    SHARE_FIRST = 8            # streams of one connection while others wait: the first time,
    SHARE_AGAIN = 4            # and each further time
    SLICE_DATAGRAMS = 256      # handed over in one call
    SLICE_PACKETS = 256        # of those that wait for their connection's turn
    MAX_DATAGRAMS = 16384      # of one connection that wait to be handed over,
    MAX_DATAGRAM_BYTES = 4_194_304
    QUEUE_WASTE = 64           # places of a queue that are freed at a time
    MAX_PACKETS = 4096         # that wait at an endpoint without sockets
    EARLY_FIRST = 8192         # bytes of small writes that are sent within a turn,
    EARLY_AGAIN = 65536        # and each further time: a full train costs least


cdef inline uint64_t _clock() noexcept:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <uint64_t>t.tv_sec * 1_000_000_000 + <uint64_t>t.tv_nsec


@cython.final
cdef class QuicEndpoint:
    def __cinit__(self):
        global _live_endpoints
        _live_endpoints += 1
        self._conns = set()
        self._socks = []
        self._lines = []
        self._foreign = []
        self._failed_handshakes = []
        self._handshakes = []
        self._facts = []
        self._early_first = <size_t>-1
        self._ready = ConnectionQueue.__new__(ConnectionQueue)
        self._ready_again = ConnectionQueue.__new__(ConnectionQueue)
        self._dgram_conns = []
        self._group_events = []
        self._writable = []
        self._dead_streams = []
        self._dead_conns = []
        self._packets = []
        self._outgoing = []
        self._closing_socks = []
        self._forks = _forks
        self._slice = SLICE
        self._most_woken = SLICE // WOKEN_COST
        self._outside = WOKEN_COST
        self._outside_woken = 1

    def __init__(self, *, bint is_server, dict settings not None, QuicTls tls, accept,
                 schedule_flush, on_error, keylog=None, qlog=None, log=None, packets_out=None,
                 bint routed=False, forward=None, handshake_failed=None, EagerTurn eager=None,
                 early_clock=None):
        cdef qe_settings s
        cdef qe_callbacks cb
        cdef qe_packets_out out = NULL
        cdef int rc
        if self._e != NULL or self._schedule_flush is not None:
            raise RuntimeError("QuicEndpoint cannot be initialised twice")
        if is_server:
            if tls is None:
                raise _exc.ConfigurationError("a server needs a TLS configuration: give tls",
                                              config_key="tls")
            if not callable(accept):
                raise _bad_value("accept", accept, "a callable that returns a handler")
        if tls is not None and tls.is_server != is_server:
            raise _bad_value("tls", tls, "a TLS configuration made with the same is_server")
        if not callable(schedule_flush):
            raise _bad_value("schedule_flush", schedule_flush, "a callable")
        if not callable(on_error):
            raise _bad_value("on_error", on_error, "a callable")
        if packets_out is not None and not callable(packets_out):
            raise _bad_value("packets_out", packets_out, "a callable")
        _fill_settings(&s, is_server, settings)
        s.is_server = is_server
        self._is_server = is_server
        self._accept = accept
        self._on_error = on_error
        self._keylog = keylog
        self._qlog = qlog
        self._log = log
        self._packets_out = packets_out
        self._routed = routed and packets_out is not None
        if self._routed:
            # More than an hour: what a turn does must not depend on the machine.
            self._slice = <uint64_t>1 << 42
        self._forward = forward
        self._write_low = s.stream_write_low
        self._stream_credit_step = s.initial_max_stream_data // 4 + 1
        self._conn_credit_step = s.initial_max_data // 4 + 1
        _fill_callbacks(&cb)
        if keylog is None:
            cb.keylog_line = NULL
        if qlog is None:
            cb.qlog_data = NULL
        if log is None:
            cb.log_line = NULL
        if packets_out is not None:
            out = _cb_packets_out
        if forward is None:
            cb.foreign_packet = NULL
        self._eager = eager
        self._early_clock = early_clock
        if early_clock is not None and packets_out is None:
            self._early_first = EARLY_FIRST
        self._early_at = self._early_first
        self._handshake_failed = handshake_failed
        if handshake_failed is None:
            cb.handshake_failed = NULL
        rc = qe_engine_new(&self._e, &s, &cb, <void *>self, tls._c if tls is not None else NULL,
                           out, <void *>self)
        if rc < 0:
            self._e = NULL
            if rc == QE_ERR_UNSUPPORTED and s.qlog:
                raise _exc.ConfigurationError(
                    f"qlog is not safe with the installed ngtcp2 {NGTCP2_VERSION}: "
                    "it needs 1.23 or newer; leave it off", config_key="qlog", config_value=True)
            raise _error(rc, "creating the endpoint")
        self._schedule_flush = schedule_flush
        _endpoints[id(self)] = self

    def __del__(self):
        # The engine is not freed here: that would call handlers out of the
        # garbage collector. Its memory is the price of a missing close().
        if self._e != NULL:
            _warnings.warn(f"unclosed {self!r}; call close()", ResourceWarning, source=self)

    def __dealloc__(self):
        global _live_endpoints
        _live_endpoints -= 1

    def __repr__(self):
        return (f"<QuicEndpoint {'server' if self._is_server else 'client'} "
                f"connections={len(self._conns)}{' closed' if self._e == NULL else ''}>")

    # ----------------------------------------------------------------- sockets

    def add_socket(self, int fd, *, buffer_size=0, features=("gso", "gro", "ecn", "pktinfo")):
        cdef QuicSocket sock
        cdef sockaddr_storage address
        cdef socklen_t n = sizeof(address)
        cdef int wanted = 0
        cdef int rc
        cdef uint32_t size = _u32("buffer_size", buffer_size)
        self._check_open("adding a socket")
        for name in features:
            wanted |= _choice("features", name, _FEATURES)
        sock = QuicSocket.__new__(QuicSocket)
        sock._endpoint = self
        sock._fd = fd
        if getsockname(fd, <sockaddr *>&address, &n) != 0:
            raise _system_error("adding a socket")
        sock._family = address.ss_family
        if sock._family != AF_INET and sock._family != AF_INET6:
            raise _bad_value("fd", fd, "a bound UDP socket for IPv4 or IPv6")
        rc = qe_sock_new(&sock._c, self._e, fd, size, wanted)
        if rc < 0:
            sock._c = NULL
            raise _error(rc, "adding a socket")
        self._socks.append(sock)
        return sock

    # -------------------------------------------------------------- the turns

    # Whatever brings packets, the turn is that of receive(). The others leave their packets where
    # it finds them and call it, so that sockets, the usual source, take no step more for them.

    def receive(self, QuicSocket sock, uint64_t now):
        cdef int n
        cdef int more = 0
        cdef bint eager
        cdef uint64_t started = _clock()
        if self._busy or self._delivering:
            self._again = True
            return True
        if self._e == NULL or (
                sock is not None and (sock._c == NULL or sock._endpoint is not self)):
            return False
        self._check_process()
        self._begin(now)
        eager = self._eager is not None and self._eager._open()
        try:
            if sock is None:
                self._read_waiting(now)
            else:
                # Read sockets even while deliveries wait: a flood on one socket must not keep
                # the packets of others waiting in the kernel.
                self._inside = True
                with nogil:
                    n = qe_sock_recv(sock._c)
                self._left()
                if n >= 0 and sock._c != NULL:
                    self._inside = True
                    more = qe_sock_dispatch(sock._c, now)
                    self._left()
                    if more > 0 and n > 0 and sock._c != NULL:
                        self._inside = True
                        if self._e != NULL:
                            qe_engine_set_until(self._e, QE_NEVER)  # each connection has its quota
                        qe_sock_set_alone(sock._c, len(self._conns) == 1)
                        n = more = qe_sock_read_ahead(sock._c, now)
                        self._left()
                        self._look_for_backlog()
                    self._check_failure()
                if n < 0:
                    self._report(_error(n, f"receiving on socket {sock._fd}"))
            self._leave_time()
            self._deliver()
            # Woken tasks run next and are likely to write or to give
            # credit: their bytes and the acknowledgements share one flush.
            if self._woken or (eager and self._eager._ready):
                self._dirty = True
            else:
                self._transmit(now)
        finally:
            self._busy = False
            if eager:
                self._resume(now, started)
        self._after_turn()
        return self._e != NULL and (more > 0 or self._again or self._late or self._has_backlog)

    def receive_packets(self, list packets not None, uint64_t now):
        if self._e == NULL or (self._address_size == 0 and not self._routed):
            return False
        self._packets += packets
        del self._packets[MAX_PACKETS:]  # like a full socket
        return self.receive(None, now)

    def receive_foreign(self, packets not None, uint64_t now):
        if not self._busy and not self._delivering and self._e != NULL:
            self._mail = packets
            self.receive(None, now)

    cdef int _read_waiting(self, uint64_t now) except -1:
        """Read what came some other way than through a socket of this endpoint."""
        cdef bytes packet
        mail, self._mail = self._mail, None
        if mail is None:
            if not self._late:
                self._read_packets(now)
            return 0
        if self._late:
            self._deliver()
        for packet in mail:
            if self._e == NULL:
                break
            self._take_foreign(packet, now)
        self._check_failure()
        return 0

    cdef int _read_packets(self, uint64_t now) except -1:
        cdef list batch
        cdef bytes packet
        cdef sockaddr_storage near, far
        cdef socklen_t size
        cdef int rc, family
        batch, self._packets = self._packets, []
        near, far, size = self._near, self._far, self._address_size
        for item in batch:
            if self._e == NULL:
                break
            if self._routed:
                local, remote, packet = item
                family = AF_INET6 if ":" in local[0] else AF_INET
                size = _to_sockaddr(local, family, &near)
                _to_sockaddr(remote, family, &far)
            else:
                packet = item
            self._inside = True
            rc = qe_engine_packet_in(
                self._e, NULL, <const sockaddr *>&near, size, <const sockaddr *>&far, size, 0,
                <const uint8_t *>PyBytes_AS_STRING(packet), <size_t>PyBytes_GET_SIZE(packet), now)
            self._left()
            if rc < 0:
                self._report(_error(rc, "reading a packet"))
        self._check_failure()
        return 0

    cdef int _hand_over(self) except -1:
        """Give what the engine wrote to the callable; no engine frame is below."""
        cdef list batch
        batch, self._outgoing = self._outgoing, []
        try:
            self._packets_out(batch)
        except BaseException as exc:
            self._report(exc)
        return 0

    cdef int _take_foreign(self, bytes packet, uint64_t now) except -1:
        """Into the engine, as if the socket of the same number had received it."""
        cdef sockaddr_storage local, remote
        cdef ForeignHead head
        cdef QuicSocket sock
        cdef const char *p = PyBytes_AS_STRING(packet)
        cdef size_t n = <size_t>PyBytes_GET_SIZE(packet)
        if n <= sizeof(head):
            return 0
        memcpy(&head, p, sizeof(head))
        p += sizeof(head)
        n -= sizeof(head)
        if (head.sock >= len(self._socks) or head.local_len > sizeof(local)
                or head.remote_len > sizeof(remote)
                or n <= <size_t>head.local_len + head.remote_len):
            return 0
        memset(&local, 0, sizeof(local))
        memset(&remote, 0, sizeof(remote))
        memcpy(&local, p, head.local_len)
        memcpy(&remote, p + head.local_len, head.remote_len)
        p += <size_t>head.local_len + head.remote_len
        n -= <size_t>head.local_len + head.remote_len
        sock = self._socks[head.sock]
        cdef int rc
        self._inside = True
        rc = qe_engine_packet_handed(
            self._e, sock._c, <const sockaddr *>&local, head.local_len, <const sockaddr *>&remote,
            head.remote_len, head.ecn, <const uint8_t *>p, n, head.hops, now)
        self._left()
        if rc < 0:
            self._report(_error(rc, "receiving from another worker"))
        return 0

    cdef int _resume(self, uint64_t now, uint64_t started) except -1:
        """Let woken tasks continue in this turn, and send what they write.

        ``started`` is when the turn began by the clock that ``now`` may not be of: packets leave
        with the time at which they leave.
        """
        cdef uint64_t begun = _clock()
        cdef bint has_flush = self._flush_scheduled
        cdef Py_ssize_t resumed
        self._ended = begun  # how long they take: see _learn_cost()
        self._flush_scheduled = True  # it follows
        try:
            resumed = self._eager._close(self._slice_end, self._most_woken)
        finally:
            self._flush_scheduled = has_flush
        if resumed == 0:
            return 0
        self._dirty = True
        # Others continue in the next turn, or deliveries are left for it: then all share its flush.
        if (resumed < self._woken or self._eager._is_cut or self._late or self._has_backlog
                or self._again):
            return 0
        self._resumed = resumed  # together, both parts of the turn wake no more than one would
        try:
            # A network in memory has a clock of its own.
            if self.process(now if self._routed else now + _clock() - started):
                self._dirty = True
        finally:
            self._resumed = 0
        return 0

    cpdef bint process(self, uint64_t now) except? True:
        cdef int left
        if self._busy or self._delivering:
            self._again = True
            return True
        if self._doomed != NULL:
            self._left()
        if self._e == NULL:
            return False
        self._check_process()
        self._learn_turn(_clock())
        self._begin(now)
        try:
            if self._packets and not self._late:
                self._read_packets(now)
            if self._has_backlog:
                self._serve_backlog(now)
                self._leave_time()
            if self._events:
                self._deliver()
            left = self._transmit(now)
        finally:
            self._busy = False
        self._after_turn()
        if not self._flush_scheduled:
            self._turn_began = 0
        return self._e != NULL and (left > 0 or self._again or self._late or self._has_backlog)

    cdef int _look_for_backlog(self) except -1:
        cdef qe_engine_stats s
        self._has_backlog = False
        if self._e != NULL:
            qe_engine_get_stats(self._e, &s)
            self._has_backlog = s.backlog_packets > 0

    cdef int _serve_backlog(self, uint64_t now) except -1:
        """Handle packets of connections over their share, for a quarter of a slice."""
        cdef QuicSocket sock
        cdef uint64_t end = self._slice_end - self._slice // 4
        cdef int served = 0
        cdef int more
        for sock in list(self._socks):
            more = 1
            while more > 0 and sock._c != NULL and self._e != NULL:
                self._inside = True
                more = qe_sock_serve(sock._c, SLICE_CALLS, now)
                self._left()
                served += SLICE_CALLS
                if served >= SLICE_PACKETS or self._look() >= end:
                    break
        self._check_failure()
        self._look_for_backlog()
        return 0

    cdef int _transmit(self, uint64_t now) except -2:
        """Timers and packets, then deliver what that brought. 1: work is left."""
        cdef QuicConnection conn
        cdef int left
        if self._e == NULL:
            return 0
        self._dirty = False
        self._early_queued = 0
        self._early_at = self._early_first
        if self._lost:
            self._lost = False
            for conn in self._conns:
                conn._return_lost()
        if self._new:
            if self._late:
                _postpone_new(self)
            else:
                self._new = 0
        self._inside = True
        qe_engine_set_until(self._e, self._seen + self._slice // 2)
        left = qe_engine_process(self._e, now)
        self._left()
        if self._outgoing:
            self._hand_over()
        self._check_failure()
        self._deliver()
        if left < 0:
            self._report(_error(left, "processing"))
            return 0
        if left > 0:
            self._dirty = True
        return left

    cdef int _begin(self, uint64_t now) except -1:
        self._busy = True
        self._again = False
        cdef uint64_t begun = self._look()
        self._learn_cost(begun)
        self._flush_scheduled = False
        self._woken = 0
        # With a backlog, each turn of the event loop has two here: reading, and the backlog.
        self._slice_end = begun + (
            self._slice // 2 if self._late or self._has_backlog else self._slice)
        if self._e != NULL:
            qe_engine_set_until(self._e, self._slice_end)
        return 0

    cdef uint64_t _look(self) noexcept:
        """Read the clock. Whoever can do with the time of a moment ago takes ``_seen``."""
        self._seen = _clock()
        return self._seen

    cdef int _learn_cost(self, uint64_t begun) except -1:
        """Estimate how long woken coroutines take: the time between turns if a flush is due."""
        cdef double most
        if self._ended == 0 or self._woken == 0:
            return 0
        # Both decay by an eighth each time.
        self._outside = self._outside * 0.875 + <double>(begun - self._ended)
        self._outside_woken = self._outside_woken * 0.875 + <double>self._woken
        most = <double>self._slice * self._outside_woken / self._outside
        self._most_woken = <Py_ssize_t>max(<double>LEAST_WOKEN, min(<double>MOST_WOKEN, most))
        return 0

    cdef void _learn_turn(self, uint64_t now) noexcept:
        """Fit the slice to the turns of the event loop: process() is called once in each.

        What this endpoint delivers takes time elsewhere, too: coroutines run, work is put off,
        timers fire. When all of that makes turns long, less is delivered in each, so that another
        connection does not wait for the work of one. An endpoint with one connection has nobody
        to share with.
        """
        cdef uint64_t began = self._turn_began
        self._turn_began = now
        if self._routed:
            return
        if len(self._conns) < 2:
            self._slice = SLICE
        elif began != 0 and now - began > TURN:
            self._slice = max(<uint64_t>LEAST_SLICE, self._slice * TURN // (now - began))
        else:
            self._slice = min(<uint64_t>TURN, self._slice + self._slice // 4)

    cdef int _leave_time(self) except -1:
        """Extend the slice after reading: at least a quarter of it is for delivery."""
        self._slice_end = max(self._slice_end, self._look() + self._slice // 4)
        return 0

    cdef bint _is_over(
            self, Py_ssize_t done, uint64_t reserve=0, Py_ssize_t places=0) noexcept:
        """Return whether the remaining deliveries have to wait for the next turn, if there is one.

        ``done`` of this kind were delivered: each has time for one in the first round of a turn.
        ``reserve`` nanoseconds and ``places`` coroutines to wake are left to others.
        """
        if self._e == NULL:
            return False
        if self._woken + self._resumed + places >= self._most_woken:
            return True
        self._told += 1
        if done == 0 and self._first_round:
            return False
        # A single event may take long: with a short slice, each of them is looked at.
        if self._told < SLICE_CALLS and self._slice >= SLICE:
            return False
        if self._look() + reserve >= self._slice_end:
            self._told = SLICE_CALLS - 1  # whoever asks next looks at the clock, too
            return True
        self._told = 0
        return False

    cdef int _after_turn(self) except -1:
        if _unread_bytes + _library_bytes > LEAST_FULL:
            _look_at_memory(self)
        if self._dirty or self._late or self._has_backlog:
            self._dirty = False
            if self._e != NULL:
                self._want_flush()
        # Without a flush to come, the loop may sleep before it calls again.
        self._ended = self._look() if self._woken and self._flush_scheduled else 0
        if self._fatal is not None:
            self._raise_fatal()
        return 0

    def woke(self):
        if self._delivering:
            self._woken += 1

    def next_tick(self):
        cdef uint64_t tick
        if self._e == NULL:
            return None
        tick = qe_engine_next_tick(self._e)
        return None if tick == QE_NEVER else tick

    def is_settled(self, uint64_t tick):
        return self._e == NULL or (
            qe_engine_is_blocked(self._e) == 0 and qe_engine_next_tick(self._e) >= tick)

    @property
    def is_blocked(self):
        return self._e != NULL and qe_engine_is_blocked(self._e) != 0

    def block(self):
        self._packets_blocked = True

    def unblock(self):
        self._packets_blocked = False
        if self._e != NULL:
            qe_engine_unblock(self._e)

    # ------------------------------------------------------------- connections

    def connect(self, QuicSocket sock, tuple remote not None, *,
                str server_name not None, handler, uint64_t now, QuicTls tls=None,
                bytes ticket=None, bytes token=None, tuple local=None):
        cdef qe_connect_options opt
        cdef sockaddr_storage to, source
        cdef socklen_t n
        cdef QuicConnection conn
        cdef qe_conn *c = NULL
        cdef bytes name
        cdef int rc, family
        self._check_open("connecting")
        if self._is_server:
            raise _exc.ConfigurationError("A server endpoint cannot connect; make a client one")
        if self._packets_out is not None:
            if sock is not None or local is None:
                raise _bad_value("sock", sock, "None, and a local address, without sockets")
            if self._conns and not self._routed:
                raise _exc.ConnectionError("An endpoint without sockets has one connection")
        elif sock is None or sock._c == NULL or sock._endpoint is not self:
            raise _bad_value("sock", sock, "an open socket of the same endpoint")
        if tls is not None and tls.is_server:
            raise _bad_value("tls", tls, "a TLS configuration for a client")
        try:
            name = (server_name.encode("ascii") if server_name.isascii()
                    else server_name.encode("idna"))
        except UnicodeError:
            raise _bad_value("server_name", server_name, "a DNS name or an IP literal") from None
        if b"\0" in name:
            raise _bad_value("server_name", server_name, "a name without NUL bytes")
        memset(&opt, 0, sizeof(opt))
        memset(&source, 0, sizeof(source))
        if sock is None:
            family = AF_INET6 if ":" in remote[0] else AF_INET
            opt.remote_len = _to_sockaddr(remote, family, &to)
            n = _to_sockaddr(local, family, &source)
            self._near = source
            self._far = to
            self._address_size = n
        else:
            opt.remote_len = _to_sockaddr(remote, sock._family, &to)
            n = sizeof(source)
            if getsockname(sock._fd, <sockaddr *>&source, &n) != 0:
                raise _system_error("connecting")
            opt.sock = sock._c
        opt.remote = <const sockaddr *>&to
        opt.local = <const sockaddr *>&source
        opt.local_len = n
        opt.server_name = name
        if tls is not None:
            opt.tls = tls._c
        if ticket is not None:
            opt.ticket = <const uint8_t *>PyBytes_AS_STRING(ticket)
            opt.ticket_len = <size_t>PyBytes_GET_SIZE(ticket)
        if token is not None:
            opt.token = <const uint8_t *>PyBytes_AS_STRING(token)
            opt.token_len = <size_t>PyBytes_GET_SIZE(token)
        conn = QuicConnection.__new__(QuicConnection)
        conn._endpoint = self
        conn.handler = handler
        conn._server_name = server_name
        opt.conn_user = <void *>conn
        self._conns.add(conn)
        self._inside = True
        rc = qe_engine_connect(self._e, &c, &opt, now)
        if rc >= 0 and conn._close_info is None:
            conn._c = c
        self._left()
        if rc < 0:
            self._conns.discard(conn)
            raise _error(rc, f"connecting to {remote[0]} port {remote[1]}")
        self._want_flush()
        return conn

    def set_tls(self, QuicTls tls not None):
        self._check_open("changing the TLS configuration")
        if tls.is_server != self._is_server:
            raise _bad_value("tls", tls, "a TLS configuration made with the same is_server")
        qe_engine_set_tls(self._e, tls._c)

    def set_secrets(self, secrets):
        cdef uint8_t raw[QE_MAX_SECRETS][32]
        cdef size_t n = _secrets(secrets, raw)
        cdef int rc
        self._check_open("changing the secrets")
        rc = qe_engine_set_secrets(self._e, raw, n)
        memset(raw, 0, sizeof(raw))
        if rc < 0:
            raise _error(rc, "changing the secrets")

    def set_greeting(self, bytes greeting not None):
        cdef int rc
        self._check_open("changing the greeting")
        rc = qe_engine_set_greeting(self._e, <const uint8_t *>PyBytes_AS_STRING(greeting),
                                    <size_t>PyBytes_GET_SIZE(greeting))
        if rc < 0:
            raise _error(rc, "changing the greeting")

    def stop_accepting(self):
        if self._e != NULL:
            qe_engine_stop_accepting(self._e)

    def set_steering(self, homes, bytes alive not None, bint ends=False):
        cdef int16_t places[256]
        cdef size_t n = 0
        if len(homes) > 256 or len(alive) > 256:
            raise _bad_value("homes", homes, "tables of 256 workers at most")
        for home in homes:
            places[n] = -1 if home is None else <int16_t>(<int>home)
            n += 1
        if self._e != NULL and qe_engine_set_steering(
                self._e, places, n, <const uint8_t *>PyBytes_AS_STRING(alive), len(alive),
                ends) < 0:
            raise _bad_value("homes", homes, "a place or more, each None or a worker 0 to 255")

    def stats(self):
        cdef qe_engine_stats s
        memset(&s, 0, sizeof(s))
        if self._e != NULL:
            qe_engine_get_stats(self._e, &s)
        return _engine_stats(&s)

    def close(self):
        cdef qe_engine *e = self._e
        if e == NULL:
            return
        self._e = NULL
        self._doomed = e
        self._packets.clear()
        self._dirty = False
        if self._inside or qe_engine_in_upcall(e):
            # An engine call is further down the stack or on another thread, for instance
            # if the garbage collector ran in a callback. That call frees the engine.
            if not self._inside:
                self._flush_scheduled = True
                self._schedule_flush()
            return
        self._free_engine()
        # Inside deliver the loop that runs already goes on with the rest.
        if not self._delivering:
            self._check_failure()
            self._deliver()
            if not self._busy:
                self._raise_fatal()

    cdef int _left(self) except -1:
        """An engine call has returned: do what close() had to leave undone."""
        self._inside = False
        if self._doomed == NULL:
            if self._closing_socks:
                self._free_closing_socks()
            return 0
        self._free_engine()
        if not self._busy and not self._delivering:
            self._check_failure()
            self._deliver()
        return 0

    cdef int _free_engine(self) except -1:
        cdef qe_engine *e = self._doomed
        cdef QuicSocket sock
        self._doomed = NULL
        self._free_closing_socks()
        for sock in self._socks:
            if sock._c != NULL:
                qe_sock_free(sock._c)
                sock._c = NULL
        self._socks.clear()
        qe_engine_free(e)
        return 0

    cdef int _free_closing_socks(self) except -1:
        cdef QuicSocket sock
        cdef list socks
        socks, self._closing_socks = self._closing_socks, []
        for sock in socks:
            if sock._c != NULL:
                qe_sock_free(sock._c)
                sock._c = NULL
            if sock in self._socks:
                self._socks.remove(sock)
        return 0

    @property
    def is_closed(self):
        return self._e == NULL

    # ----------------------------------------------------------------- private

    cdef int _check_open(self, str what) except -1:
        if self._e == NULL:
            raise _exc.ConnectionError(f"{what}: the endpoint is closed; open a new one")
        self._check_process()
        return 0

    cdef int _check_process(self) except -1:
        """A copy of a connection in a forked process would use each nonce of its keys twice."""
        if self._forks != _forks:
            raise _exc.ConnectionError(
                f"the endpoint was made in another process, of which process {_os.getpid()} is a fork; "
                "make endpoints, clients and servers after forking")
        return 0

    cdef int _want_flush(self) except -1:
        """Something was queued: transmit at the end of this turn, or ask for a turn."""
        if self._busy:
            self._dirty = True
        elif not self._flush_scheduled and self._e != NULL:
            self._flush_scheduled = True
            self._schedule_flush()
        return 0

    cdef int _early_flush(self) except -1:
        """Enough small writes are queued: send them, so that the peer can begin.

        Whoever writes is on the stack, so only packets are written here. What that brings is
        delivered by the flush at the end of the turn.
        """
        cdef int left
        cdef uint64_t now
        if (self._busy or self._delivering or self._inside or self._e == NULL
                or self._forks != _forks):
            return 0
        self._early_queued = 0
        self._early_at = EARLY_AGAIN
        now = self._early_clock()
        self._inside = True
        left = qe_engine_process(self._e, now)
        self._left()
        if left < 0:
            self._keep(_error(left, "processing"))
        return 0

    cdef int _keep(self, object exc) except -1:
        """Called by callbacks: the first exception is reported when the engine returned."""
        if self._failure is None:
            self._failure = exc
        return 0

    cdef int _check_failure(self) except -1:
        if self._failure is not None:
            exc, self._failure = self._failure, None
            self._report(exc)
        return 0

    cdef int _report(self, object exc) except -1:
        """Report an exception that no caller can receive; it never stops other work."""
        if isinstance(exc, (KeyboardInterrupt, SystemExit)):
            if self._fatal is None:
                self._fatal = exc
            return 0
        try:
            self._on_error(exc)
        except BaseException as worse:
            if self._fatal is None:
                self._fatal = worse
        return 0

    cdef int _raise_fatal(self) except -1:
        if self._fatal is not None:
            exc, self._fatal = self._fatal, None
            raise exc
        return 0

    # ----------------------------------------------------------------- deliver

    cdef int _deliver(self) except -1:
        """Tell handlers, sinks and waiters what collect found. No engine frame is below.

        Handlers may do anything, closing the endpoint included: what they
        cause is appended to the lists and delivered by the same loop. When the
        slice of this turn is over, the rest waits for the next one: streams in
        turns of their connections, everything else in its order. In each turn,
        every kind of event has its share.
        """
        cdef bint behind
        if self._delivering:
            return 0
        self._delivering = True
        self._told = 0
        self._late = False
        self._first_round = True
        try:
            while self._events and not self._late:
                self._events = False
                if self._lines:
                    _deliver_lines(self)
                if self._foreign:
                    _deliver_foreign(self)
                if self._failed_handshakes:
                    _deliver_failed_handshakes(self)
                if self._handshakes:
                    _deliver_handshakes(self)
                behind = False
                # Nothing of a connection comes before its handshake, but a flood of one kind of
                # event does not hold up the others: they have no order between them.
                if self._facts:
                    _deliver_facts(self)
                if self._ready.any() or self._ready_again.any():
                    behind = _deliver_streams(self) > 0
                if self._dgram_conns:
                    _deliver_datagrams(self)
                if self._group_events:
                    _deliver_groups(self)
                if self._writable:
                    _deliver_writable(self)
                if self._dead_streams or self._dead_conns:
                    _deliver_dead(self)
                if behind:
                    self._late = True
                self._first_round = False
        finally:
            self._delivering = False
        if self._late:
            self._events = True
            if not self._busy:
                self._want_flush()
        return 0

    cdef int _wake(self, object waiter) except -1:
        try:
            _wake_waiter(waiter)
        except BaseException as exc:
            self._report(exc)
        return 0
